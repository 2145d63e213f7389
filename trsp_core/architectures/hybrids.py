"""Records of decoders whose layers attend, recur or convolve, some this way and some that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trsp_core.architectures import positions as at
from trsp_core.architectures.common import EXPERTS, MIXED, MIXED_TIED, NORMED, mlps, types
from trsp_core.architectures.patterns import (
    AlsoCount,
    Cycled,
    Indexed,
    Leading,
    Lettered,
    Listed,
    Pattern,
    Periodic,
    Remaining,
    Sparse,
)
from trsp_core.architectures.record import Architecture, Forbidden

_MAMBA = Architecture(
    "mamba",
    attention="eager",
    not_adapted=("mixer.out_proj",),
    layers="backbone.layers",
    embedding="backbone.embeddings",
    final_norm="backbone.norm_f",
    mlp_output=None,
    patterns=(),
    ties_by_default=True,
)
_LFM = replace(
    MIXED_TIED, final_norm="model.embedding_norm", mlp_output="feed_forward.w2", patterns=(types(),)
)


def _attention(pattern: Pattern, *kinds: Any) -> tuple[Pattern, Pattern]:
    """A hybrid's pattern of layers, of which at least one has to attend."""
    return pattern, Remaining(pattern, "attention", kinds or (at.FULL, "attention"))


HYBRIDS: Mapping[str, Architecture] = {
    # Attention in some layers, a recurrence or a convolution in others.
    "bailing_hybrid": replace(
        MIXED,
        positions="model_max_length",
        stored_as=(("model.embed_tokens", "model.word_embeddings"),),
        patterns=(
            *_attention(types(at.hybrid_groups)),
            mlps(at.first(2, "first_k_dense_replace")),
            Leading("first_k_dense_replace", 2),
        ),
    ),
    "bamba": replace(
        MIXED,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        outputs=2,
        patterns=_attention(Indexed("attn_layer_indices"), True),
    ),
    "falcon_h1": replace(
        MIXED,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        mlp_output_joins=False,
        not_adapted=("mamba.out_proj",),
        outputs=1,
        patterns=(),
    ),
    "falcon_mamba": _MAMBA,
    "granitemoehybrid": replace(
        EXPERTS, patterns=(*_attention(types(at.same(at.LINEAR))), Listed("layers_block_type"))
    ),
    "jamba": replace(
        MIXED,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        patterns=(
            *_attention(Periodic("attn_layer_period", "attn_layer_offset", (8, 4), "attention"), True),
            Periodic("expert_layer_period", "expert_layer_offset", (2, 1), "mixtures of experts"),
        ),
    ),
    "kimi_linear": replace(
        MIXED,
        positions="model_max_length",
        patterns=(
            *_attention(types(at.each(lambda index: at.FULL if index and index % 4 == 0 else at.LINEAR))),
            mlps(at.first(1, "first_k_dense_replace")),
        ),
        forbidden=(
            Forbidden("linear_attn_config", "write layer_types and the linear_* keys out in its place"),
        ),
    ),
    "lfm2": replace(_LFM, patterns=(Indexed("full_attn_idxs"), *_attention(types(at.lfm2_types)))),
    "lfm2_moe": replace(_LFM, patterns=(*_attention(types()), Leading("num_dense_layers", 2))),
    "lfm3": replace(
        _LFM,
        mlp_output_joins=False,
        patterns=_attention(types(at.lfm3_types), at.FULL, at.SLIDING),
    ),
    "mamba": _MAMBA,
    "mamba2": replace(_MAMBA, ties_by_default=False),
    "nemotron_h": replace(
        MIXED,
        embedding="model.embeddings",
        final_norm="model.norm_f",
        mlp_output="mixer.down_proj",
        not_adapted=("mixer.out_proj",),
        counted_by="layers_block_type",
        stored_as=(("model", "backbone"),),
        patterns=(
            *_attention(Listed("layers_block_type")),
            *_attention(Lettered("hybrid_override_pattern"), "*"),
        ),
    ),
    "olmo_hybrid": replace(
        NORMED,
        patterns=(
            *_attention(types(at.olmo_hybrid_types)),
            Remaining(types(at.olmo_hybrid_types), "linear attention", (at.LINEAR,)),
        ),
    ),
    "qwen3_5_text": replace(
        MIXED, patterns=_attention(types(at.every(4, "full_attention_interval", others=at.LINEAR)))
    ),
    "qwen3_5_moe_text": replace(
        EXPERTS, patterns=_attention(types(at.every(4, "full_attention_interval", others=at.LINEAR)))
    ),
    "qwen3_next": replace(
        MIXED,
        patterns=(*_attention(types(at.every(4, "full_attention_interval", others=at.LINEAR))), Sparse()),
    ),
    "recurrent_gemma": replace(
        MIXED_TIED,
        final_norm="model.final_norm",
        mlp_output="mlp_block.down_proj",
        patterns=_attention(Cycled("block_types", ("recurrent", "recurrent", "attention"))),
    ),
    "xlstm": replace(
        _MAMBA,
        layers="backbone.blocks",
        final_norm="backbone.out_norm",
        mlp_output="ffn.proj_down",
        not_adapted=(),
        patterns=(AlsoCount("num_blocks"),),
        outputs=2,
        ties_by_default=False,
    ),
}
