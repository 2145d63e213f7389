"""The optimizer of stage 2: which one, whether a device takes it, and its state as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from trsp_core.errors import InvalidSpec, Problem
from trsp_core.method_options import ADAMW, ADAMW_8BIT, MethodOptions, stage2_of
from trsp_core.quiet import quiet_logger

BETAS = (0.9, 0.95)
SMALLEST = 4096
"""Weights with fewer elements keep 32-bit moments, as bitsandbytes has it."""
_STEP = "step"

States = Mapping[str, Mapping[str, Tensor]]
"""For each kind of state (a moment, its scales, …) the tensor of each weight by the weight's name."""


def optimizer_of(kind: str, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return AdamW without weight decay for these weights, its moments in 32 bits (`adamw`) or 8 (`adamw8bit`).

    Args:
        kind: The name in `TrspOptions.optimizer`.
        parameters: The weights that it will change.
        rate: Its learning rate.
    """
    if kind == ADAMW_8BIT:
        return _adamw_8bit(list(parameters), rate)
    return torch.optim.AdamW(list(parameters), lr=rate, betas=BETAS, weight_decay=0.0, foreach=False)


def _adamw_8bit(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    with quiet_logger("bitsandbytes"):
        library = import_module("bitsandbytes.optim")
    made: torch.optim.Optimizer = library.AdamW8bit(
        parameters, lr=rate, betas=BETAS, weight_decay=0.0, min_8bit_size=SMALLEST
    )
    return made


def states_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> States:
    """Return the state of weights that have been stepped, all but the number of steps; tensors are the live ones.

    The tables that 8-bit codes stand for are one tensor for all weights, which no file of tensors takes: they
    are copied.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, parameter in parameters.items():
        for kind, value in optimizer.state[parameter].items():
            if kind != _STEP:
                found.setdefault(kind, {})[name] = value.clone() if kind.startswith("qmap") else value
    return found


def restore_states(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], states: States, *, steps: int
) -> None:
    """Put an optimizer that has not stepped where `states_of` found one after `steps`; copies the tensors."""
    for name, parameter in parameters.items():
        own: dict[str, Any] = {
            kind: values[name].to(parameter.device, copy=True)
            for kind, values in states.items()
            if name in values
        }
        optimizer.state[parameter] = {_STEP: _counted(optimizer, steps), **own}


def _counted(optimizer: torch.optim.Optimizer, steps: int) -> Tensor | int:
    """Return the number of steps as the optimizer counts it: torch in a tensor, bitsandbytes in a whole number."""
    return torch.tensor(float(steps)) if isinstance(optimizer, torch.optim.AdamW) else steps


def check_device(options: MethodOptions, device: torch.device) -> None:
    """Refuse an optimizer that has no code for the device, by letting it take a step on a small weight.

    Raises:
        InvalidSpec: With what it said.
    """
    stage2 = stage2_of(options)
    if stage2 is None or stage2.optimizer != ADAMW_8BIT:
        return
    weight = nn.Parameter(torch.zeros(SMALLEST, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        optimizer_of(stage2.optimizer, [weight], 1e-3).step()
    except (ImportError, NotImplementedError, RuntimeError) as error:
        message = (
            f"is {ADAMW_8BIT!r}, which bitsandbytes does not serve on {device} ({_first_line(error)}). Leave"
            " optimizer at adamw."
        )
        raise InvalidSpec(Problem("/method/optimizer", message, ADAMW_8BIT, (ADAMW,))) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
