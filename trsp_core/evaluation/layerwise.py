"""Perplexity that runs windows through a model one layer after the other, so that each layer is needed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trsp_core.budget import held_together
from trsp_core.decoder import Decoder, starting_from, through_layers
from trsp_core.evaluation.losses import final_hidden_states, output_head, token_losses
from trsp_core.evaluation.perplexity import BATCH_TOKENS, LossSum, StepFn, evaluating, finite_nats
from trsp_core.progress import StopFn, never, raise_if_stopped


def loss_of_windows_by_layer(
    decoder: Decoder,
    windows: Tensor,
    *,
    on_step: StepFn | None = None,
    should_stop: StopFn = never,
) -> LossSum:
    """Return what `perplexity.loss_of_windows` returns, to the bit, with the same arguments and errors.

    The batches are the same; only the order is another: a group of them goes through a layer before the next
    layer is called, through the head last.
    """
    size = max(1, BATCH_TOKENS // windows.shape[1])
    nats, done = 0.0, 0
    with evaluating(decoder.model):
        for group in held_together(torch.split(windows.to(decoder.device), size)):
            for ids, losses in zip(group, _losses(decoder, group, should_stop), strict=True):
                nats += finite_nats(losses, done)
                done += len(ids)
                if on_step is not None:
                    on_step(done, len(windows))
    return LossSum(nats, windows.shape[0] * (windows.shape[1] - 1))


def _losses(decoder: Decoder, batches: Sequence[Tensor], should_stop: StopFn) -> Iterator[Tensor]:
    """Yield the losses of each batch, `[windows, predicted]`."""
    streams: list[Tensor] = [torch.empty(0)] * len(batches)
    for _, place, _, after in through_layers(decoder, batches, should_stop):
        streams[place] = after
    for place, ids in enumerate(batches):
        raise_if_stopped(should_stop)
        streams[place] = _normed(decoder, ids, streams[place])
    head = output_head(decoder.model)
    for ids, hidden in zip(batches, streams, strict=True):
        raise_if_stopped(should_stop)
        yield token_losses(hidden, head, ids)


def _normed(decoder: Decoder, ids: Tensor, hidden: Tensor) -> Tensor:
    """Return what the head reads, given what the last layer gave, both `[windows, tokens, hidden]`."""
    with starting_from(decoder, len(decoder), hidden):
        return final_hidden_states(decoder.model, ids)
