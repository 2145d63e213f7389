"""What many families have in common: Llama's layout and its usual variations."""

from __future__ import annotations

from dataclasses import replace

from trsp_core.architectures import positions as at
from trsp_core.architectures.patterns import LAYER_TYPES, Entries, Leading, Listed
from trsp_core.architectures.record import Architecture


def types(derive: Entries | None = None) -> Listed:
    """What `layer_types` tells, or what is derived where it is absent."""
    return Listed(LAYER_TYPES, derive)


def mlps(derive: Entries | None = None) -> Listed:
    """What `mlp_layer_types` tells, or what is derived where it is absent."""
    return Listed("mlp_layer_types", derive)


LLAMA = Architecture("llama", attention_update="self_attn")
TIED = replace(LLAMA, ties_by_default=True)
NORMED = replace(LLAMA, mlp_output_joins=False)
NORMED_TIED = replace(NORMED, ties_by_default=True)
MIXED = replace(LLAMA, attention_update=None)
"""Layers of several kinds: mixtures and dense MLPs, or attention and something else."""
MIXED_TIED = replace(MIXED, ties_by_default=True)
EXPERTS = replace(MIXED, mlp_output=None)
QWEN2 = replace(LLAMA, patterns=(types(at.windows_from(28, needs=True)), Leading("max_window_layers", 28)))
