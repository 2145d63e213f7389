"""How a pass over the calibration text is cut so that its activations fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ACTIVATION_FLOATS = 24
"""Floats that one decoder layer keeps for the backward pass, as multiples of tokens x hidden size.

Measured by `benchmarks/activations.py` on a Llama block with an MLP of 2.7 times the width.
"""
SHARE_OF_MODEL = 0.4
"""Activations may take this share of the model's own size before gradient checkpointing is used."""
LEAST_BYTES = 256 * 2**20
"""Activations that are small enough on any machine."""
HELD_TOKENS = 2**15
"""Tokens whose residual streams go through the stack together; each such group needs every layer once."""
FORWARD_TOKENS = 1024
"""Tokens of one forward pass without gradients: enough to keep matrix products efficient."""


@dataclass(frozen=True, slots=True)
class Passes:
    """The decided cut.

    Attributes:
        forward_rows: Sequences of one forward pass without gradients.
        gradient_rows: Sequences of one forward and backward pass.
        checkpointed: Whether layers keep only their input for the backward pass.
    """

    forward_rows: int
    gradient_rows: int
    checkpointed: bool


def plan_passes(model: nn.Module, *, layers: int, hidden_size: int, sequence_length: int) -> Passes:
    """Decide how many sequences of `sequence_length` tokens go through the model at once."""
    model_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    budget = max(LEAST_BYTES, SHARE_OF_MODEL * model_bytes)
    sequence = sequence_length * hidden_size * ACTIVATION_FLOATS * layers * torch.float32.itemsize
    inputs_only = sequence / ACTIVATION_FLOATS + sequence / layers
    checkpointed = sequence > budget
    rows = max(1, int(budget // (inputs_only if checkpointed else sequence)))
    forward_rows = max(1, FORWARD_TOKENS // sequence_length)
    return Passes(forward_rows, min(rows, forward_rows), checkpointed)


def batches(windows: Tensor, rows: int) -> Iterator[Tensor]:
    """Return `[at most rows, tokens]` parts of `[sequences, tokens]` in order."""
    return (windows[at : at + rows] for at in range(0, len(windows), rows))


def held_together(parts: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Return groups of neighbouring parts `[rows, tokens]`, of at most `HELD_TOKENS` tokens or of one part."""
    group: list[Tensor] = []
    for part in parts:
        if group and sum(item.numel() for item in group) + part.numel() > HELD_TOKENS:
            yield group
            group = []
        group.append(part)
    if group:
        yield group
