"""Why a causal-LM type of transformers is not supported: one reason a type."""

from __future__ import annotations

from collections.abc import Mapping

_ENCODER = "it is an encoder; as a causal LM it only serves as the decoder half of an encoder-decoder model"
_BOTH_WAYS = "it is trained to read text in both directions and generates no text token by token with a cache"
_HALF = "it is the decoder half of an encoder-decoder model, whose layers also attend to an encoder"
_TOWERS = (
    "it holds a vision or audio model that its text model is entangled with; prune a text-only checkpoint"
)
_SHARED_KV = (
    "its upper layers reuse the keys and values of lower ones, and layers take embeddings and sizes of their own "
    "by position, so none can leave alone"
)
_STREAMS = (
    "its layers read and write several parallel residual streams (hyper-connections), while gates and scores "
    "need the one stream that a layer adds to"
)
_SHARED_BLOCK = "one attention block is shared by several layers, so a layer's weights are not its own"
_NGRAMS = "its n-gram embeddings belong to layers by number (ple_layer_ids) and hash with that number"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "bert", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
            "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(("reformer", "xlm", "xlnet"), _BOTH_WAYS),
    **dict.fromkeys(
        (
            "bart", "bert-generation", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp",
            "pegasus", "plbart", "prophetnet", "whisper", "trocr", "musicgen", "musicgen_melody",
        ),
        _HALF,
    ),
    **dict.fromkeys(("emu3", "git", "moshi", "phi4_multimodal"), _TOWERS),
    **dict.fromkeys(
        (
            "gemma3n", "gemma3n_text", "gemma4", "gemma4_assistant", "gemma4_text", "gemma4_unified",
            "gemma4_unified_assistant", "gemma4_unified_text",
        ),
        _SHARED_KV,
    ),
    **dict.fromkeys(("deepseek_v4", "hy_v4"), _STREAMS),
    **dict.fromkeys(("zamba", "zamba2"), _SHARED_BLOCK),
    **dict.fromkeys(("qwen4_exp", "qwen4_exp_text"), _NGRAMS),
    **dict.fromkeys(
        ("dots3_note", "dots3_note_text"), "its layers take sizes of their own from per_layer_config, by position"
    ),
    "beam": "each layer scales what it adds to the residual stream by its position",
    "blt": "it stacks a byte encoder, a patch model and a byte decoder, which are cut from each other by attention",
    "cpmant": "it puts prompt tokens of its own before the text, so its layers see more positions than tokens",
    "diffllama": "each layer's attention subtracts a share that is computed from its position (lambda_init)",
    "hrm_text": "it runs two stacks of layers over and over in cycles, so one layer stands at many depths",
    "inkling2_text": "its layers attend to the outputs of earlier blocks of layers, which start at fixed positions",
    "llama4": (
        "loaded as a causal LM it leaves its vision model out, with warnings; prune its text model's own checkpoint "
        "(llama4_text)"
    ),
    "minimax": "the decay of each layer's linear attention is computed from its position",
    "mllama": "its cross-attention layers stand at fixed positions and read a vision model",
    "rwkv": "its residual stream and its weights are rescaled by position (rescale_every)",
    "zaya": "each layer's router goes on from the state of the router one layer below",
}  # fmt: skip
