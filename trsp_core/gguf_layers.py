"""Which GGUF architectures lose layers without harm: those whose layers do not know their position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trsp_core.sources.gguf_file import GgufHeader
from trsp_core.sources.policy import refused

POSITION_FREE = frozenset(
    {
        "llama", "mistral", "qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi2", "phi3", "gemma", "gpt2",
        "gptneox", "falcon", "bloom", "mpt", "stablelm", "starcoder", "starcoder2", "orion", "internlm2",
        "xverse", "command-r", "olmo", "olmoe", "codeshell", "nemotron", "granite", "granitemoe", "arcee",
    }
)  # fmt: skip
"""Architectures of which llama.cpp's runtime computes every layer alike, told by the file's keys alone."""

_WINDOWS = "its runtime chooses sliding-window layers by their position"
_KINDS = "its layers are of different kinds, told by their position"
POSITION_BOUND: Mapping[str, str] = {
    "baichuan": "its runtime chooses the position encoding by the number of layers",
    "cohere2": _WINDOWS,
    "deepseek2": "its runtime knows the smaller model by its number of layers",
    "exaone4": _WINDOWS,
    "gemma2": _WINDOWS,
    "gemma3": _WINDOWS,
    "gemma3n": "its layers share keys and values",
    "gemma4": "its layers share keys and values",
    "gpt-oss": _WINDOWS,
    "jamba": _KINDS,
    "lfm2": _KINDS,
    "llama4": "its runtime leaves the rotary embedding out of every fourth layer",
    "minicpm": "its residual scale depends on the number of layers",
    "olmo2": _WINDOWS,
    "qwen3next": _KINDS,
    "qwen35": _KINDS,
    "smollm3": "its runtime leaves the rotary embedding out of every fourth layer",
}
"""The reason for the others that are met most often."""

_BINDING_KEYS: Mapping[str, str] = {
    "attention.shared_kv_layers": "its layers share keys and values",
    "full_attention_interval": _KINDS,
    "interleave_moe_layer_step": _KINDS,
    "leading_dense_block_count": _KINDS,
    "moe_every_n_layers": _KINDS,
    "n_deepstack_layers": "its first layers take image features",
    "nextn_predict_layers": "its last layers predict further tokens",
    "rescale_every_n_layers": "its runtime rescales every few layers",
}


def check_position_free(header: GgufHeader, path: Path) -> str:
    """Return the file's architecture.

    Raises:
        ModelRefused: If its layers depend on their position, or nothing is known of that, with the reason.
    """
    name = header.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in POSITION_FREE:
        reason = POSITION_BOUND.get(str(name), "whether its layers depend on their position is not known")
        known = ", ".join(sorted(POSITION_FREE))
        message = f"{path.name} holds the architecture {name!r}: {reason}. Layers are removed from {known}."
        raise refused(message, name)
    for key, reason in _BINDING_KEYS.items():
        if header.metadata.get(f"{name}.{key}"):
            raise refused(f"{path.name} states {name}.{key}: {reason}.", f"{name}.{key}")
    return name
