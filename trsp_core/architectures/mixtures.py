"""Records of decoders whose layers hold mixtures of experts, all of them or some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trsp_core.architectures import positions as at
from trsp_core.architectures.common import EXPERTS, MIXED, MIXED_TIED, NORMED, mlps, types
from trsp_core.architectures.patterns import Between, Indexed, Leading, Listed, Sparse
from trsp_core.architectures.record import Architecture, Forbidden

_SHARED_INDEX = Forbidden(
    "indexer_types",
    "layers of type 'shared' take the positions that an earlier layer chose, so they depend on that layer",
    lambda entries: isinstance(entries, list) and "shared" in entries,
)

MIXTURES: Mapping[str, Architecture] = {
    # Mixtures of experts in every layer.
    "aria_text": EXPERTS,
    "dbrx": replace(
        EXPERTS,
        layers="transformer.blocks",
        embedding="transformer.wte",
        final_norm="transformer.norm_f",
        layer_count="n_layers",
        width="d_model",
        positions="max_seq_len",
    ),
    "flex_olmo": EXPERTS,
    "gpt_oss": replace(EXPERTS, attention="eager", patterns=(types(at.every(2)),)),
    "granitemoe": EXPERTS,
    "granitemoe_swa": replace(
        EXPERTS,
        attention="eager",
        rebuilt="model.rotary_embs",
        patterns=(types(at.every(4, shift=0)), Listed("layer_rope_theta")),
    ),
    "granitemoeshared": EXPERTS,
    "hunyuan_v1_moe": EXPERTS,
    "inkling_text": replace(
        NORMED,
        patterns=(Indexed("local_layer_ids"), types(at.inkling_types), mlps(at.first(0, "dense_mlp_idx"))),
    ),
    "jetmoe": replace(EXPERTS, ties_by_default=True),
    "kolibri1": replace(EXPERTS, patterns=(types(at.every(5)),)),
    "longcat_flash": replace(EXPERTS, layer_count="num_layers"),
    "minimax_m2": EXPERTS,
    "mixtral": EXPERTS,
    "olmoe": EXPERTS,
    "phimoe": EXPERTS,
    "solar_open": EXPERTS,
    # Mixtures in some layers, dense MLPs in others.
    "afmoe": replace(
        NORMED,
        patterns=(types(at.every(4, "global_attn_every_n_layers")), Leading("num_dense_layers", 1)),
    ),
    "axk1": replace(MIXED, patterns=(mlps(at.dense_first(1)),)),
    "axk2": replace(MIXED, patterns=(mlps(at.dense_first(1)), types(at.same(at.INDEXED)))),
    "cohere2_moe": replace(
        MIXED_TIED, patterns=(types(at.cohere_moe_windows), mlps(at.first(0, "first_k_dense_replace")))
    ),
    "deepseek_v2": replace(MIXED, patterns=(Leading("first_k_dense_replace", 0),)),
    "deepseek_v3": replace(MIXED, patterns=(Leading("first_k_dense_replace", 3),)),
    "deepseek_v32": replace(
        MIXED, patterns=(mlps(at.first(3, "first_k_dense_replace")), types(at.same(at.INDEXED)))
    ),
    "dots1": replace(
        MIXED,
        patterns=(
            types(at.windows_from(62, needs=False)),
            Leading("max_window_layers", 62),
            Leading("first_k_dense_replace", 0),
        ),
    ),
    "ernie4_5_moe": replace(MIXED_TIED, patterns=(Between(),)),
    "exaone_moe": replace(
        MIXED, patterns=(types(at.exaone_windows), mlps(at.first(1, "first_k_dense_replace")))
    ),
    "flint": replace(MIXED, attention="eager", patterns=(types(at.flint_windows), Sparse((0, 1)))),
    "glm4_moe": replace(MIXED, patterns=(Leading("first_k_dense_replace", 1),)),
    "glm4_moe_lite": replace(MIXED, patterns=(mlps(at.first(1)),)),
    "glm_moe_dsa": replace(
        MIXED,
        outputs=2,
        patterns=(
            mlps(at.first(3, "first_k_dense_replace")),
            types(at.same(at.INDEXED)),
            Listed("indexer_types"),
        ),
        forbidden=(
            _SHARED_INDEX,
            Forbidden(
                "index_topk_pattern", "it makes layers share the positions that an earlier layer chose"
            ),
            Forbidden(
                "index_topk_freq",
                "it makes layers share the positions that an earlier layer chose",
                lambda value: value not in (None, 1),
            ),
        ),
    ),
    "hy_v3": replace(MIXED, patterns=(mlps(at.first(1)),)),
    "laguna": replace(
        MIXED,
        patterns=(
            types(at.same(at.FULL)),
            mlps(at.first(1)),
            Listed("num_attention_heads_per_layer"),
        ),
    ),
    "llama4_text": replace(
        MIXED,
        mlp_output="feed_forward.down_proj",
        patterns=(
            Listed("no_rope_layers", at.rope_choices),
            types(at.llama4_types),
            Indexed("moe_layers", at.llama4_mixtures),
        ),
    ),
    "mellum": replace(MIXED, patterns=(types(at.same(at.FULL)), mlps(at.same(at.SPARSE)))),
    "mimo_v2_flash": replace(
        MIXED,
        attention="eager",
        patterns=(
            types(at.each(lambda index: at.SLIDING if index and (index + 1) % 6 else at.FULL)),
            mlps(at.first(1)),
        ),
    ),
    "minimax_m3_vl_text": replace(
        MIXED,
        patterns=(types(at.same(at.FULL)), mlps(at.same(at.SPARSE))),
        forbidden=(
            Forbidden("sparse_attention_config", "write layer_types out in its place"),
            Forbidden("moe_layer_freq", "write mlp_layer_types out in its place"),
        ),
    ),
    "qwen2_moe": replace(
        MIXED, patterns=(types(at.alternating_windows), Leading("max_window_layers", 28), Sparse())
    ),
    "qwen3_moe": replace(MIXED, patterns=(Sparse(),)),
}
