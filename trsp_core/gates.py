"""Learnable scalars on decoder layers or on their parts: attached for the time of a block, always detached."""

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


@contextmanager
def gated_parts(decoder: Decoder, gates: Tensor, layers: Sequence[int]) -> Iterator[None]:
    """Scale what attention and the MLP of layers add to the residual stream, each by a gate of its own.

    Both gates of a layer at 0 are its removal.

    Args:
        decoder: The model, of a type whose `updates` can be told; put back as it was afterwards.
        gates: Two scalars a layer of `layers`, attention's first, shape `[2 * len(layers)]`; may require
            gradients.
        layers: Source indices of the gated layers.
    """
    modules = [module for layer in layers for module in decoder.updates(layer)]
    with hooked({module: _hook(_output, gates, place) for place, module in enumerate(modules)}):
        yield


def _hook(scale: Callable[[Tensor, Any, Tensor], Tensor], gates: Tensor, place: int) -> Callable[..., Any]:
    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        hidden = layer_output(output)
        gate = gates[place].to(device=hidden.device, dtype=hidden.dtype)
        return with_hidden(output, scale(gate, (args, kwargs), hidden))

    return hook


def _residual(gate: Tensor, called_with: Any, after: Tensor) -> Tensor:
    before = layer_input(*called_with)
    return before + gate * (after - before)


def _output(gate: Tensor, _called_with: Any, after: Tensor) -> Tensor:
    return gate * after
