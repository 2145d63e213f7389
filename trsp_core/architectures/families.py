"""The records of the decoder families that are supported; each says only where it differs from Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trsp_core.architectures import positions as at
from trsp_core.architectures.patterns import (
    LAYER_TYPES,
    AlsoCount,
    Between,
    Counted,
    Cycled,
    EdgeLayer,
    Indexed,
    Leading,
    Lettered,
    Listed,
    Pattern,
    Periodic,
    Remaining,
    RootScaled,
    Sparse,
)
from trsp_core.architectures.record import Architecture, Forbidden

_MLP_TYPES = "mlp_layer_types"


def _types(derive: Any = None) -> Listed:
    return Listed(LAYER_TYPES, derive)


def _attention(pattern: Pattern, *kinds: Any) -> tuple[Pattern, Pattern]:
    """A hybrid's pattern of layers, of which at least one has to attend."""
    return pattern, Remaining(pattern, "attention", kinds or (at.FULL, "attention"))


def _mlps(derive: Any = None) -> Listed:
    return Listed(_MLP_TYPES, derive)


_LLAMA = Architecture("llama")
_TIED = replace(_LLAMA, ties_by_default=True)
_NORMED = replace(_LLAMA, mlp_output_joins=False)
_NORMED_TIED = replace(_NORMED, ties_by_default=True)
_EXPERTS = replace(_LLAMA, mlp_output=None)
_QWEN2 = replace(_LLAMA, patterns=(_types(at.windows_from(28, needs=True)), Leading("max_window_layers", 28)))
_GPT = Architecture(
    "gpt2",
    layers="transformer.h",
    embedding="transformer.wte",
    final_norm="transformer.ln_f",
    mlp_output="mlp.c_proj",
    layer_count="n_layer",
    width="n_embd",
    positions="n_positions",
    ties_by_default=True,
    not_weights=(r"\.attn\.(masked_)?bias$", r"\.attn\.embed_positions$"),
)
_GPT2 = replace(
    _GPT,
    mlp_output_transposed=True,
    forbidden=(
        Forbidden(
            "scale_attn_by_inverse_layer_idx",
            "each layer's attention is scaled by its position, so a layer that moves up would compute something "
            "else. Such a model cannot be pruned by layers",
        ),
    ),
)
_FALCON = Architecture(
    "falcon",
    layers="transformer.h",
    embedding="transformer.word_embeddings",
    final_norm="transformer.ln_f",
    mlp_output="mlp.dense_4h_to_h",
    outputs=2,
    ties_by_default=True,
)
_NEOX = Architecture(
    "gpt_neox",
    layers="gpt_neox.layers",
    embedding="gpt_neox.embed_in",
    final_norm="gpt_neox.final_layer_norm",
    stored_as=(("lm_head", "embed_out"),),
    mlp_output="mlp.dense_4h_to_h",
    not_weights=(r"rotary_emb\.inv_freq$", r"\.attention\.(masked_)?bias$"),
)
_MAMBA = Architecture(
    "mamba",
    layers="backbone.layers",
    embedding="backbone.embeddings",
    final_norm="backbone.norm_f",
    mlp_output=None,
    patterns=(),
    ties_by_default=True,
)
_LFM = replace(_TIED, final_norm="model.embedding_norm", mlp_output="feed_forward.w2", patterns=(_types(),))
_SHARED_INDEX = Forbidden(
    "indexer_types",
    "layers of type 'shared' take the positions that an earlier layer chose, so they depend on that layer",
    lambda entries: isinstance(entries, list) and "shared" in entries,
)

_RECORDS: Mapping[str, Architecture] = {
    # Llama's layout, all layers alike.
    "llama": _LLAMA,
    "apertus": _LLAMA,
    "arcee": _LLAMA,
    "bitnet": _LLAMA,
    "cohere": _TIED,
    "doge": _LLAMA,
    "ernie4_5": _TIED,
    "exaone4": replace(_NORMED, patterns=(_types(at.exaone_windows),)),
    "gemma": _TIED,
    "glm": _LLAMA,
    "glm4": _NORMED,
    "granite": replace(_LLAMA, residual_factor="residual_multiplier"),
    "helium": _LLAMA,
    "hunyuan_v1_dense": _LLAMA,
    "hyperclovax": _NORMED,
    "internlm3": _LLAMA,
    "iquestcoder": _LLAMA,
    "jais2": _LLAMA,
    "minicpm3": replace(_NORMED_TIED, patterns=(RootScaled("scale_depth", 1.0),)),
    "ministral3": _LLAMA,
    "mistral": _LLAMA,
    "nanochat": replace(_LLAMA, mlp_output="mlp.fc2"),
    "nemotron": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _NORMED,
    "persimmon": replace(_LLAMA, final_norm="model.final_layernorm", mlp_output="mlp.dense_4h_to_h"),
    "phi": replace(_LLAMA, final_norm="model.final_layernorm", mlp_output="mlp.fc2"),
    "phi3": _LLAMA,
    "seed_oss": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": replace(_TIED, mlp_output="mlp.c_proj"),
    "youtu": _TIED,
    # Sliding windows or rotary choices by layer.
    "cohere2": replace(_TIED, patterns=(_types(at.every(4, "sliding_window_pattern")),)),
    "cohere_compass_text": replace(_TIED, patterns=(_types(at.same(at.FULL)),)),
    "cwm": replace(_LLAMA, patterns=(_types(at.every(4, shift=0)),)),
    "gemma2": replace(_NORMED_TIED, patterns=(_types(at.every(2)),)),
    "gemma3_text": replace(_NORMED_TIED, patterns=(_types(at.every(6, "sliding_window_pattern")),)),
    "granite_swa": replace(
        _TIED,
        residual_factor="residual_multiplier",
        rebuilt="model.rotary_embs",
        patterns=(_types(at.every(4, shift=0)), Listed("layer_rope_theta")),
    ),
    "ministral": replace(_LLAMA, patterns=(_types(at.windows_if_set),)),
    "modernbert-decoder": replace(
        _TIED,
        embedding="model.embeddings.tok_embeddings",
        final_norm="model.final_norm",
        head="decoder",
        before_head="lm_head",
        mlp_output="mlp.Wo",
        patterns=(
            _types(at.every(3, "global_attn_every_n_layers", shift=0)),
            EdgeLayer(last=False, why="it alone has no norm before its attention"),
        ),
    ),
    "olmo3": replace(_NORMED, patterns=(_types(at.every(4)),)),
    "qwen2": _QWEN2,
    "qwen3": _QWEN2,
    "smollm3": replace(_TIED, patterns=(Listed("no_rope_layers", at.rope_choices), _types(at.smollm3_types))),
    "vaultgemma": replace(_TIED, patterns=(_types(at.every(2)),)),
    # Mixtures of experts in every layer.
    "aria_text": _EXPERTS,
    "dbrx": replace(
        _EXPERTS,
        layers="transformer.blocks",
        embedding="transformer.wte",
        final_norm="transformer.norm_f",
        layer_count="n_layers",
        width="d_model",
        positions="max_seq_len",
    ),
    "flex_olmo": _EXPERTS,
    "gpt_oss": replace(_EXPERTS, patterns=(_types(at.every(2)),)),
    "granitemoe": _EXPERTS,
    "granitemoe_swa": replace(
        _EXPERTS,
        rebuilt="model.rotary_embs",
        patterns=(_types(at.every(4, shift=0)), Listed("layer_rope_theta")),
    ),
    "granitemoeshared": _EXPERTS,
    "hunyuan_v1_moe": _EXPERTS,
    "inkling_text": replace(
        _NORMED,
        patterns=(_types(at.inkling_types), _mlps(at.first(0, "dense_mlp_idx"))),
    ),
    "jetmoe": replace(_EXPERTS, ties_by_default=True),
    "kolibri1": replace(_EXPERTS, patterns=(_types(at.every(5)),)),
    "longcat_flash": replace(_EXPERTS, layer_count="num_layers"),
    "minimax_m2": _EXPERTS,
    "mixtral": _EXPERTS,
    "olmoe": _EXPERTS,
    "phimoe": _EXPERTS,
    "solar_open": _EXPERTS,
    # Mixtures in some layers, dense MLPs in others.
    "afmoe": replace(
        _NORMED,
        patterns=(_types(at.every(4, "global_attn_every_n_layers")), Leading("num_dense_layers", 1)),
    ),
    "axk1": replace(_LLAMA, patterns=(_mlps(at.dense_first(1)),)),
    "axk2": replace(_LLAMA, patterns=(_mlps(at.dense_first(1)), _types(at.same(at.INDEXED)))),
    "cohere2_moe": replace(
        _TIED, patterns=(_types(at.cohere_moe_windows), _mlps(at.first(0, "first_k_dense_replace")))
    ),
    "deepseek_v2": replace(_LLAMA, patterns=(Leading("first_k_dense_replace", 0),)),
    "deepseek_v3": replace(_LLAMA, patterns=(Leading("first_k_dense_replace", 3),)),
    "deepseek_v32": replace(
        _LLAMA, patterns=(_mlps(at.first(3, "first_k_dense_replace")), _types(at.same(at.INDEXED)))
    ),
    "dots1": replace(
        _LLAMA,
        patterns=(
            _types(at.windows_from(62, needs=False)),
            Leading("max_window_layers", 62),
            Leading("first_k_dense_replace", 0),
        ),
    ),
    "ernie4_5_moe": replace(_TIED, patterns=(Between(),)),
    "exaone_moe": replace(
        _LLAMA, patterns=(_types(at.exaone_windows), _mlps(at.first(1, "first_k_dense_replace")))
    ),
    "flint": replace(_LLAMA, patterns=(_types(at.flint_windows), Sparse((0, 1)))),
    "glm4_moe": replace(_LLAMA, patterns=(Leading("first_k_dense_replace", 1),)),
    "glm4_moe_lite": replace(_LLAMA, patterns=(_mlps(at.first(1)),)),
    "glm_moe_dsa": replace(
        _LLAMA,
        outputs=2,
        patterns=(
            _mlps(at.first(3, "first_k_dense_replace")),
            _types(at.same(at.INDEXED)),
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
    "hy_v3": replace(_LLAMA, patterns=(_mlps(at.first(1)),)),
    "laguna": replace(
        _LLAMA,
        patterns=(
            _types(at.same(at.FULL)),
            _mlps(at.first(1)),
            Listed("num_attention_heads_per_layer"),
        ),
    ),
    "llama4_text": replace(
        _LLAMA,
        mlp_output="feed_forward.down_proj",
        patterns=(
            Listed("no_rope_layers", at.rope_choices),
            _types(at.llama4_types),
            Indexed("moe_layers", at.llama4_mixtures),
        ),
    ),
    "mellum": replace(_LLAMA, patterns=(_types(at.same(at.FULL)), _mlps(at.same(at.SPARSE)))),
    "mimo_v2_flash": replace(
        _LLAMA,
        patterns=(
            _types(at.each(lambda index: at.SLIDING if index and (index + 1) % 6 else at.FULL)),
            _mlps(at.first(1)),
        ),
    ),
    "minimax_m3_vl_text": replace(
        _LLAMA,
        patterns=(_types(at.same(at.FULL)), _mlps(at.same(at.SPARSE))),
        forbidden=(
            Forbidden("sparse_attention_config", "write layer_types out in its place"),
            Forbidden("moe_layer_freq", "write mlp_layer_types out in its place"),
        ),
    ),
    "qwen2_moe": replace(
        _LLAMA, patterns=(_types(at.alternating_windows), Leading("max_window_layers", 28), Sparse())
    ),
    "qwen3_moe": replace(_LLAMA, patterns=(Sparse(),)),
    # Attention in some layers, a recurrence or a convolution in others.
    "bailing_hybrid": replace(
        _LLAMA,
        positions="model_max_length",
        stored_as=(("model.embed_tokens", "model.word_embeddings"),),
        patterns=(
            *_attention(_types(at.hybrid_groups)),
            _mlps(at.first(2, "first_k_dense_replace")),
            Leading("first_k_dense_replace", 2),
        ),
    ),
    "bamba": replace(
        _LLAMA,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        outputs=2,
        patterns=_attention(Indexed("attn_layer_indices"), True),
    ),
    "falcon_h1": replace(
        _LLAMA,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        mlp_output_joins=False,
        outputs=1,
        patterns=(),
    ),
    "falcon_mamba": _MAMBA,
    "granitemoehybrid": replace(
        _EXPERTS, patterns=(*_attention(_types(at.same(at.LINEAR))), Listed("layers_block_type"))
    ),
    "jamba": replace(
        _LLAMA,
        final_norm="model.final_layernorm",
        mlp_output="feed_forward.down_proj",
        patterns=(
            *_attention(Periodic("attn_layer_period", "attn_layer_offset", (8, 4), "attention"), True),
            Periodic("expert_layer_period", "expert_layer_offset", (2, 1), "mixtures of experts"),
        ),
    ),
    "kimi_linear": replace(
        _LLAMA,
        positions="model_max_length",
        patterns=(
            *_attention(_types(at.each(lambda index: at.FULL if index and index % 4 == 0 else at.LINEAR))),
            _mlps(at.first(1, "first_k_dense_replace")),
        ),
        forbidden=(
            Forbidden("linear_attn_config", "write layer_types and the linear_* keys out in its place"),
        ),
    ),
    "lfm2": replace(_LFM, patterns=(*_attention(_types(at.lfm2_types)), Indexed("full_attn_idxs"))),
    "lfm2_moe": replace(_LFM, patterns=(*_attention(_types()), Leading("num_dense_layers", 2))),
    "lfm3": replace(
        _LFM,
        mlp_output_joins=False,
        patterns=_attention(_types(at.lfm3_types), at.FULL, at.SLIDING),
    ),
    "mamba": _MAMBA,
    "mamba2": replace(_MAMBA, ties_by_default=False),
    "nemotron_h": replace(
        _LLAMA,
        embedding="model.embeddings",
        final_norm="model.norm_f",
        mlp_output="mixer.down_proj",
        counted_by="layers_block_type",
        stored_as=(("model", "backbone"),),
        patterns=(
            *_attention(Listed("layers_block_type")),
            *_attention(Lettered("hybrid_override_pattern"), "*"),
        ),
    ),
    "olmo_hybrid": replace(
        _NORMED,
        patterns=(
            *_attention(_types(at.olmo_hybrid_types)),
            Remaining(_types(at.olmo_hybrid_types), "linear attention", (at.LINEAR,)),
        ),
    ),
    "qwen3_5_text": replace(
        _LLAMA, patterns=_attention(_types(at.every(4, "full_attention_interval", others=at.LINEAR)))
    ),
    "qwen3_5_moe_text": replace(
        _EXPERTS, patterns=_attention(_types(at.every(4, "full_attention_interval", others=at.LINEAR)))
    ),
    "qwen3_next": replace(
        _LLAMA,
        patterns=(*_attention(_types(at.every(4, "full_attention_interval", others=at.LINEAR))), Sparse()),
    ),
    "recurrent_gemma": replace(
        _TIED,
        final_norm="model.final_norm",
        mlp_output="mlp_block.down_proj",
        patterns=_attention(Cycled("block_types", ("recurrent", "recurrent", "attention"))),
    ),
    # GPT's layout.
    "gpt2": _GPT2,
    "gpt-sw3": _GPT2,
    "gpt_bigcode": _GPT,
    "codegen": replace(
        _GPT,
        mlp_output="mlp.fc_out",
        outputs=2,
        ties_by_default=False,
        not_weights=(r"\.attn\.(causal_mask|embed_positions|bias|masked_bias)$",),
    ),
    "ctrl": replace(_GPT, embedding="transformer.w", final_norm="transformer.layernorm", mlp_output="ffn.2"),
    "gptj": replace(_GPT, mlp_output="mlp.fc_out", outputs=2, ties_by_default=False),
    "gpt_neo": replace(
        _GPT,
        layer_count="num_layers",
        width="hidden_size",
        positions="max_position_embeddings",
        outputs=2,
        patterns=(Counted(),),
        not_weights=(r"\.attn\.attention\.(masked_)?bias$",),
    ),
    "openai-gpt": replace(
        _GPT2,
        embedding="transformer.tokens_embed",
        final_norm=None,
        mlp_output_joins=False,
        outputs=1,
        forbidden=(),
        not_weights=(r"\.attn\.bias$",),
    ),
    # Layouts of their own.
    "biogpt": replace(
        _TIED,
        layers="biogpt.layers",
        embedding="biogpt.embed_tokens",
        final_norm="biogpt.layer_norm",
        head="output_projection",
        mlp_output="fc2",
    ),
    "bloom": replace(_FALCON, layer_count="n_layer", positions="seq_length"),
    "falcon": _FALCON,
    "gpt_neox": _NEOX,
    "gpt_neox_japanese": replace(
        _NEOX,
        layers="gpt_neox_japanese.layers",
        embedding="gpt_neox_japanese.embed_in",
        final_norm="gpt_neox_japanese.final_layer_norm",
        head="embed_out",
        stored_as=(),
        outputs=2,
        ties_by_default=True,
        patterns=(EdgeLayer(last=True, why="it alone has a bias on its attention's output"),),
    ),
    "mpt": replace(
        _TIED,
        layers="transformer.blocks",
        embedding="transformer.wte",
        final_norm="transformer.norm_f",
        mlp_output="ffn.down_proj",
        outputs=2,
        layer_count="n_layers",
        width="d_model",
        positions="max_seq_len",
    ),
    "opt": replace(
        _TIED,
        layers="model.decoder.layers",
        embedding="model.decoder.embed_tokens",
        final_norm="model.decoder.final_layer_norm",
        mlp_output="fc2",
        norm_after="do_layer_norm_before",
        embedding_width="word_embed_proj_dim",
    ),
    "xlstm": replace(
        _MAMBA,
        layers="backbone.blocks",
        final_norm="backbone.out_norm",
        mlp_output="ffn.proj_down",
        patterns=(AlsoCount("num_blocks"),),
        outputs=2,
        ties_by_default=False,
    ),
    "xglm": replace(
        _TIED,
        final_norm="model.layer_norm",
        mlp_output="fc2",
        layer_count="num_layers",
        width="d_model",
    ),
}

_NESTED = replace(
    _LLAMA,
    layers="model.language_model.layers",
    embedding="model.language_model.embed_tokens",
    final_norm="model.language_model.norm",
    stored_as=(("model.language_model", "language_model.model"), ("lm_head", "language_model.lm_head")),
    nested="text_config",
)


def _text_of(record: Architecture, *model_types: str, **changes: Any) -> Architecture:
    """Return the record of a model whose text model is of one of these types, held in `text_config`."""
    reason = f"the text model must be of type {' or '.join(model_types)}"
    other = Forbidden("model_type", reason, lambda value: value not in (None, *model_types))
    return replace(record, forbidden=(other,), **changes)


_COMPOSITES: Mapping[str, Architecture] = {
    # A text model beside a vision or an audio model, which stays as it is.
    "fuyu": _text_of(
        _NESTED,
        "persimmon",
        final_norm="model.language_model.final_layernorm",
        mlp_output="mlp.dense_4h_to_h",
    ),
    "gemma3": _text_of(
        _NESTED,
        "gemma3_text",
        mlp_output_joins=False,
        patterns=_RECORDS["gemma3_text"].patterns,
        ties_by_default=True,
    ),
    "got_ocr2": _text_of(_NESTED, "qwen2", patterns=_QWEN2.patterns, ties_by_default=True),
    "moss_transcribe_diarize": _text_of(_NESTED, "qwen3", patterns=_QWEN2.patterns, ties_by_default=True),
    # Loaded as a causal LM, these leave their vision model out.
    "qwen3_5": _text_of(
        _RECORDS["qwen3_5_text"],
        "qwen3_5_text",
        stored_as=(("model", "model.language_model"),),
        nested="text_config",
    ),
    "qwen3_5_moe": _text_of(
        _RECORDS["qwen3_5_moe_text"],
        "qwen3_5_moe_text",
        stored_as=(("model", "model.language_model"),),
        nested="text_config",
    ),
}

ARCHITECTURES: Mapping[str, Architecture] = {
    name: replace(record, model_type=name) for name, record in {**_RECORDS, **_COMPOSITES}.items()
}
