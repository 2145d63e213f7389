"""Tiny random causal LMs of several families, for tests of what must hold for each."""

from __future__ import annotations

import torch
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

_COMMON = {
    "vocab_size": 97,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 1}
_OPT = {**_COMMON, "ffn_dim": 24, "word_embed_proj_dim": 8}
_GPT2 = {"vocab_size": 97, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}

CONFIGS = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "llama-tied": lambda: LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "opt": lambda: OPTConfig(**{key: _OPT[key] for key in _OPT if key != "intermediate_size"}),
    "gpt2": lambda: GPT2Config(**_GPT2, bos_token_id=1, eos_token_id=2, pad_token_id=0),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=8),
    "phi": lambda: PhiConfig(**_COMMON),
    "gemma2": lambda: Gemma2Config(**_GROUPED, head_dim=8, final_logit_softcapping=0.05),
    "granite": lambda: GraniteConfig(**_GROUPED, logits_scaling=8.0),
    "cohere2": lambda: Cohere2Config(**_GROUPED, logit_scale=4.0),
}


def tiny_lm(name: str, seed: int = 0) -> PreTrainedModel:
    """Return a random model of three layers in fp32, in evaluation mode."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32).eval()
