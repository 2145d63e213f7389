"""How far a layer is from handing on what it gets: the quantity that stage 2 makes small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, hooked, layer_input, layer_output
from trsp_core.evaluation.losses import final_hidden_states
from trsp_core.progress import StopFn, never, raise_if_stopped


def identity_gap(before: Tensor, after: Tensor, *, norm: str, normalize: bool) -> Tensor:
    """Return `R(after - before)`: the mean over tokens of the per-token norm, a scalar in fp32.

    Args:
        before, after: A layer's input and output, `[batch, tokens, hidden]`.
        norm: `l2` or `l1`.
        normalize: Divide each token's norm by that of its input, so that the figure means the same at every
            width. The input's norm is a constant there: else inflating it would be rewarded.
    """
    order = 2 if norm == "l2" else 1
    change: Tensor = torch.linalg.vector_norm((after - before).float(), ord=order, dim=-1)
    if normalize:
        size = torch.linalg.vector_norm(before.detach().float(), ord=order, dim=-1)
        change = change / size.clamp(min=1e-12)
    return change.mean()


@contextmanager
def measuring_gaps(
    decoder: Decoder, layers: Sequence[int], into: dict[int, Tensor], *, norm: str, normalize: bool
) -> Iterator[None]:
    """Store each layer's identity gap under its index at every forward pass, with its graph."""

    def hook_of(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            into[layer] = identity_gap(
                layer_input(args, kwargs), layer_output(output), norm=norm, normalize=normalize
            )

        return hook

    with hooked({decoder.layers[layer]: hook_of(layer) for layer in layers}):
        yield


@torch.inference_mode()
def gaps_of(
    decoder: Decoder,
    windows: Tensor,
    layers: Sequence[int],
    *,
    norm: str,
    normalize: bool,
    passes: Passes,
    should_stop: StopFn = never,
) -> dict[int, float]:
    """Return the mean identity gap of each layer over `[sequences, tokens]` of text."""
    sums = dict.fromkeys(layers, 0.0)
    found: dict[int, Tensor] = {}
    with measuring_gaps(decoder, layers, found, norm=norm, normalize=normalize):
        for part in batches(windows, passes.forward_rows):
            raise_if_stopped(should_stop)
            final_hidden_states(decoder.model, part.to(decoder.device))
            for layer, gap in found.items():
                sums[layer] += gap.item() * len(part)
    return {layer: total / len(windows) for layer, total in sums.items()}
