"""Perplexity over fixed windows of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trsp_core.errors import NumericalFailure
from trsp_core.evaluation.losses import final_hidden_states, output_head, token_losses
from trsp_core.progress import StopFn, never, raise_if_stopped

BATCH_TOKENS = 2048
"""Tokens of one forward pass: a standard window, or several shorter ones together."""

StepFn = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LossSum:
    """Cross-entropy added up over a text.

    Attributes:
        nats: Sum over predicted tokens.
        predicted_tokens: Number of predicted tokens: each window's but its first.
    """

    nats: float
    predicted_tokens: int

    @property
    def mean(self) -> float:
        """Mean cross-entropy, nats a token."""
        return self.nats / self.predicted_tokens

    @property
    def perplexity(self) -> float:
        """exp of the mean over tokens.

        Weighted by token, not by window: the mean of windows' perplexities is larger (exp is convex) and
        depends on how the text was cut, so that figures of two protocols could not be compared.

        Raises:
            NumericalFailure: The mean is too large for a float's exponent.
        """
        try:
            return math.exp(self.mean)
        except OverflowError:
            message = f"mean cross-entropy is {self.mean:g} nats a token; its perplexity is beyond any float"
            raise NumericalFailure(message) from None


def loss_of_windows(
    model: nn.Module,
    windows: Tensor,
    *,
    on_step: StepFn | None = None,
    should_stop: StopFn = never,
) -> LossSum:
    """Return the cross-entropy of `windows`, each read on its own from its first token.

    Args:
        model: A causal LM; it is left in the mode that it was in.
        windows: Token ids `[windows, length]`, length at least 2; moved to the model's device as needed.
        on_step: Told the windows done and their number, after each batch.

    Raises:
        NumericalFailure: A window's loss is not finite; names the window.
        Cancelled: `should_stop` said so.
    """
    device = next(model.parameters()).device
    per_batch = max(1, BATCH_TOKENS // windows.shape[1])
    nats, done = 0.0, 0
    with evaluating(model):
        for batch in torch.split(windows, per_batch):
            raise_if_stopped(should_stop)
            ids = batch.to(device)
            nats += finite_nats(token_losses(final_hidden_states(model, ids), output_head(model), ids), done)
            done += len(batch)
            if on_step is not None:
                on_step(done, len(windows))
    return LossSum(nats, windows.shape[0] * (windows.shape[1] - 1))


def finite_nats(losses: Tensor, first: int) -> float:
    """Return the sum of losses `[windows, predicted]`; `first` is the number of the first window.

    Raises:
        NumericalFailure: A window's loss is not finite; names the window.
    """
    sums = losses.double().sum(dim=1)
    broken = torch.nonzero(~torch.isfinite(sums)).flatten().tolist()
    if broken:
        raise NumericalFailure(
            f"the loss of window {first + broken[0]} is {sums[broken[0]].item()}, not finite"
        )
    return float(sums.sum())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation and torch into inference mode; restore the model's mode at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
