"""Learnable scalars on decoder layers: attached for the time of a block, always detached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from trsp_core.decoder import Decoder, hooked, layer_input, layer_output, with_hidden


@contextmanager
def gated(decoder: Decoder, gates: Tensor, layers: Sequence[int], *, kind: str) -> Iterator[None]:
    """Scale layers by gates.

    Args:
        decoder: The model; put back as it was afterwards.
        gates: One scalar a layer of `layers`, shape `[len(layers)]`; may require gradients.
        layers: Source indices of the gated layers.
        kind: `residual`: `x + s * (f(x) - x)`, where `s = 0` is removal. `output`: the paper's `s * f(x)`.
    """
    scale = _residual if kind == "residual" else _output
    hooks = {decoder.layers[layer]: _hook(scale, gates, place) for place, layer in enumerate(layers)}
    with hooked(hooks):
        yield


def _hook(scale: Callable[[Tensor, Tensor, Tensor], Tensor], gates: Tensor, place: int) -> Callable[..., Any]:
    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        hidden = layer_output(output)
        gate = gates[place].to(device=hidden.device, dtype=hidden.dtype)
        return with_hidden(output, scale(gate, layer_input(args, kwargs), hidden))

    return hook


def _residual(gate: Tensor, before: Tensor, after: Tensor) -> Tensor:
    return before + gate * (after - before)


def _output(gate: Tensor, _before: Tensor, after: Tensor) -> Tensor:
    return gate * after
