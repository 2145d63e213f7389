"""Why a causal-LM type of transformers is not supported: one reason a type."""

from __future__ import annotations

from collections.abc import Mapping

_ENCODER = (
    "it is an encoder that reads text in both directions; its decoder mode serves encoder-decoder models"
)
_HALF = "it is the decoder half of an encoder-decoder model, whose layers also attend to an encoder"
_SEVERAL = (
    "it holds a vision or audio model beside its text model; prune the text model's own checkpoint instead"
)
_SHARED_KV = "its upper layers reuse the keys and values of lower layers, so layers cannot leave one by one"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "bert", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
            "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(
        (
            "bart", "bert-generation", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp",
            "pegasus", "plbart", "prophetnet", "whisper", "trocr", "musicgen", "musicgen_melody",
        ),
        _HALF,
    ),
}  # fmt: skip
