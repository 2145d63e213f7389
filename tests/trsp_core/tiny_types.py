"""A tiny random model of any causal-LM type of transformers: its config class, shrunk by one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
)

TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
LAYERS = 6
VOCABULARY = 97
POSITIONS = 128

_SIZES: Mapping[int, tuple[str, ...]] = {
    LAYERS: (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
    ),
    VOCABULARY: ("vocab_size",),
    POSITIONS: (
        "max_position_embeddings", "n_positions", "max_seq_len", "model_max_length", "context_length", "seq_length",
        "index_topk",
    ),
    48: (
        "intermediate_size", "ffn_dim", "n_inner", "dim_ff", "dff", "ffn_hidden_size", "intermediate_size_mlp",
        "prefix_dense_intermediate_size",
    ),
    32: ("hidden_size", "d_model", "n_embd", "word_embed_proj_dim", "lru_width"),
    16: (
        "moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "shared_intermediate_size", "expert_ffn_hidden_size", "q_lora_rank", "kv_lora_rank", "mamba_d_head",
        "mamba_head_dim",
    ),
    8: (
        "head_dim", "kv_channels", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim",
        "sliding_window", "attention_window_size", "window_size", "attention_chunk_size", "mamba_d_state",
        "mamba_chunk_size", "chunk_size", "ssm_state_size", "state_size", "linear_key_head_dim",
        "linear_value_head_dim", "index_head_dim", "linear_head_dim",
    ),
    4: (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "n_routed_experts", "num_experts",
        "num_local_experts", "moe_num_experts", "mamba_n_heads", "mamba_num_heads", "mamba_dt_rank", "time_step_rank",
        "linear_num_value_heads",
    ),
    2: (
        "num_key_value_heads", "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "mamba_expand",
        "linear_num_key_heads", "index_n_heads", "linear_num_heads",
    ),
    1: ("n_group", "topk_group", "num_expert_group", "mamba_n_groups", "n_groups", "bos_token_id"),
    0: ("pad_token_id",),
}  # fmt: skip
_SIZE = {name: size for size, names in _SIZES.items() for name in names}

_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_MLA = {"num_key_value_heads": 4}
_WINDOWED = {"use_sliding_window": True, "max_window_layers": 3}
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "apertus": {"rope_parameters": _ROPE},
    "axk1": _MLA,
    "axk2": _MLA,
    "bailing_hybrid": {**_MLA, "layer_group_size": 3},
    "bamba": {"attn_layer_indices": [1, 4]},
    "cohere2_moe": {"first_k_dense_replace": 2},
    "cohere_compass_text": {
        "rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), _ROPE),
    },
    "cwm": {"rope_parameters": _ROPE},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {**_MLA, "first_k_dense_replace": 2},
    "deepseek_v3": _MLA,
    "deepseek_v32": _MLA,
    "dots1": {"n_shared_experts": 1, "max_window_layers": 4, "first_k_dense_replace": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "flint": {"decoder_sparse_step": 2},
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": _MLA,
    "gpt_neo": {"attention_types": [[["global", "local"], 3]]},
    "gpt_oss": {"rope_parameters": _ROPE},
    "granite": {"residual_multiplier": 0.5, "logits_scaling": 4.0},
    "granite_swa": {"layer_rope_theta": [1e4, 1e3, 1e4, 1e5, 1e4, 1e3]},
    "granitemoe_swa": {"layer_rope_theta": [1e4, 1e3, 1e4, 1e5, 1e4, 1e3]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 3},
    "inkling_text": {
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
        "sliding_window_size": 8,
        "d_rel": 4,
        "rel_extent": 16,
        "dense_mlp_idx": 2,
        "dense_intermediate_size": 48,
    },
    "jamba": {"attn_layer_period": 3, "attn_layer_offset": 1, "mamba_d_conv": 4},
    "kimi_linear": _MLA,
    "laguna": {
        "layer_types": ["full_attention", "sliding_attention"] * 3,
        "num_attention_heads_per_layer": [4, 2, 4, 2, 4, 2],
    },
    "lfm2": {"full_attn_idxs": [1, 4], "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "longcat_flash": {**_MLA, "zero_expert_num": 2},
    "mamba2": {"head_dim": 16},
    "mellum": {
        "layer_types": ["full_attention", "sliding_attention"] * 3,
        "mlp_layer_types": ["dense", "sparse", "sparse"] * 2,
    },
    "minicpm3": _MLA,
    "minimax_m3_vl_text": {
        "mlp_layer_types": ["dense", "sparse", "sparse"] * 2,
        "dense_intermediate_size": 48,
    },
    "ministral3": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 2.0,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 64,
        },
    },
    "modernbert-decoder": {"cls_token_id": 3, "sep_token_id": 4},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "mlp"],
        "num_hidden_layers": None,
    },
    "qwen2": _WINDOWED,
    "qwen2_moe": {"use_sliding_window": True, "max_window_layers": 4, "decoder_sparse_step": 2},
    "qwen3": _WINDOWED,
    "qwen3_moe": {"mlp_only_layers": [1, 4]},
    "qwen3_next": {"mlp_only_layers": [0]},
    "smollm3": {"use_sliding_window": True, "no_rope_layer_interval": 3},
    "xlstm": {"hidden_size": 128, "chunk_size": 16},
    "youtu": {**_MLA, "pad_token_id": None},
}
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "depth": 2,
    "num_heads": 4,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "mlp_dim": 48,
    "output_channels": 16,
    "global_attn_indexes": [1],
    "window_size": 7,
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
}
_COMPOSITES: Mapping[str, Mapping[str, Any]] = {
    "fuyu": {},
    "gemma3": {"mm_tokens_per_image": 4},
    "got_ocr2": {},
    "moss_transcribe_diarize": {},
    "qwen3_5": {},
    "qwen3_5_moe": {},
}
_ENDLESS = {"eos_token_id": None, "forced_eos_token_id": None}


def _shrunk(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a default config that a table makes small."""
    return {
        key: sizes[key]
        for key, value in config.items()
        if key in sizes and (key in _TOWER or not isinstance(value, (list, dict)))
    }


def tiny_config(model_type: str, **changes: Any) -> Any:
    """Return the config of six narrow layers, of several kinds where the type knows several."""
    cls = CONFIG_MAPPING[model_type]
    default = cls().to_dict()
    if model_type in _COMPOSITES:
        parts = {key: _shrunk(default[key], _TOWER) for key in cls.sub_configs if key != "text_config"}
        text = {**_shrunk(default["text_config"], {**_SIZE, **_ENDLESS}), **changes}
        kind = {"model_type": default["text_config"]["model_type"]}
        return cls(**parts, text_config={**text, **kind}, **_COMPOSITES[model_type])
    sizes = _shrunk(default, {**_SIZE, **_ENDLESS})
    return cls(**{**sizes, **_PARTS.get(model_type, {}), **changes})


def tiny_type(model_type: str, *, alone: bool = False, seed: int = 0, **changes: Any) -> Any:
    """Build a random model whose layers matter: weights large enough for logits that differ clearly.

    Args:
        alone: Build the causal LM alone where checkpoints of the type hold another model beside it.
    """
    torch.manual_seed(seed)
    config = tiny_config(model_type, **changes)
    if not alone and model_type in _COMPOSITES and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        model = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config)
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()
