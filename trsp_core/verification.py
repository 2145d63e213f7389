"""What the loss becomes with layers switched off: measured, with every shared prefix of the model run once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, run_layer, start, starting_from, switched_off
from trsp_core.errors import NumericalFailure
from trsp_core.evaluation.losses import mean_loss
from trsp_core.progress import StopFn, raise_if_stopped


def loss_of(decoder: Decoder, windows: Tensor, *, passes: Passes, should_stop: StopFn) -> float:
    """Return the mean cross-entropy of the model as it is, nats a token.

    Args:
        decoder: The model; left as it was.
        windows: Ids, `[sequences, tokens]`.

    Raises:
        Cancelled: If `should_stop` says so, between any two passes.
        NumericalFailure: If the loss is not finite.
    """
    total = 0.0
    with torch.inference_mode():
        for part in batches(windows, passes.forward_rows):
            raise_if_stopped(should_stop)
            total += mean_loss(decoder.model, part.to(decoder.device)).item() * len(part)
    return _finite(total / len(windows), None)


def losses_without(
    decoder: Decoder,
    windows: Tensor,
    layers: Sequence[int],
    *,
    gone: Sequence[int],
    passes: Passes,
    should_stop: StopFn,
) -> dict[int, float]:
    """Return the mean cross-entropy, nats a token, with each of `layers` switched off in turn beside `gone`.

    Hidden states before a tried layer are computed once for all of them; `tokens_of_trials` says what it costs.
    Arguments and errors as for `loss_of`.
    """
    sums = dict.fromkeys(layers, 0.0)
    with torch.inference_mode(), switched_off(decoder, gone):
        for part in batches(windows, passes.forward_rows):
            ids = part.to(decoder.device)
            calls = start(decoder, ids)
            hidden, at = calls.hidden, 0
            for layer in sorted(layers):
                raise_if_stopped(should_stop)
                for index in range(at, layer):
                    hidden = run_layer(decoder, index, hidden, calls)
                at = layer
                with starting_from(decoder, layer + 1, hidden):
                    sums[layer] += mean_loss(decoder.model, ids).item() * len(part)
    return {layer: _finite(value / len(windows), layer) for layer, value in sums.items()}


def tokens_of_trials(layers: Sequence[int], total: int, tokens: int) -> int:
    """Return what `losses_without` costs, in tokens passed forward through all of `total` layers.

    Args:
        layers: The layers that are tried.
        tokens: Tokens of the text.
    """
    run = max(layers) + sum(total - layer - 1 for layer in layers)
    return tokens * run // total


def _finite(loss: float, layer: int | None) -> float:
    if math.isfinite(loss):
        return loss
    where = "of the dense model" if layer is None else f"without layer {layer}"
    raise NumericalFailure(f"the loss {where} on the calibration text is {loss}; are the weights finite?")
