"""Closed-form refit of the MLP output before each gap, so that the kept layers do what the removed ones did.

When layers between the kept layer `p` and the next kept layer go, the output projection `W` of `p`'s MLP is
refitted by ridge regression so that the residual stream after `p` matches the reference model's stream after
the last removed layer. With `h` the projection's input and `e = wanted - got` the residual stream's error:

    D = argmin sum_t w_t |e_t - D h_t|^2 + rho |D|^2,   W' = W + D,
    w_t = 1 / mean(wanted_t^2),   rho = ridge * mean(diag(sum_t w_t h_t h_t^T))

A ridge that is too weak learns the calibration text by heart: with few tokens for the width of the projection
the refit then does harm. Unless it is given, the ridge is the one of `RIDGES` whose solution on three quarters
of the windows errs least on the fourth, `NOTHING` among them: where no change helps on held-out windows,
nothing changes.

The first token of each window weighs as much as a `FIRST_TOKEN`th of the window. Models park attention on it, on
an activation that a single MLP writes and that is a hundred times that of any other token: a refit of that MLP
which does not hold the first token leaves the model in ruins, one that does costs the other tokens little. No
parameter is added. Kept layers are refitted in order, so that each sees what the changed layers before it really
produce; both streams advance one layer at a time, so that only they and one layer's activations are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, Start, hooked, run_layer, start
from trsp_core.errors import NumericalFailure
from trsp_core.progress import StopFn, never, raise_if_stopped

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
NOTHING = math.inf
"""The ridge under which a projection stays as it is."""
HELD_OUT = 4
"""Every fourth window judges the ridge."""
FIRST_TOKEN = 64
"""A window's first token weighs as much as a 64th of it, at least as much as any other token."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of removed layers: `kept` stands before it, `stop` is the first index after it."""

    kept: int
    stop: int


@dataclass(frozen=True, slots=True)
class Refit:
    """How well one projection could take over.

    Attributes:
        layer: The refitted layer.
        ridge: The ridge that was used; 0 stands for none helping, the projection is as it was.
        error_before, error_after: Weighted mean squared error of the residual stream, as a share of its own
            mean square, on the calibration text.
    """

    layer: int
    ridge: float
    error_before: float
    error_after: float


def gaps(removed: Sequence[int], layers: int) -> tuple[Gap, ...]:
    """Return each run of removed layers that has a kept layer before it, in order."""
    gone = set(removed)
    found = []
    for layer in range(layers - 1):
        if layer not in gone and layer + 1 in gone:
            stop = next((index for index in range(layer + 1, layers) if index not in gone), layers)
            found.append(Gap(layer, stop))
    return tuple(found)


@torch.no_grad()
def absorb(
    decoder: Decoder,
    windows: Tensor,
    removed: Sequence[int],
    *,
    ridge: float | None,
    passes: Passes,
    on_refit: Callable[[Refit], None] = lambda _: None,
    should_stop: StopFn = never,
) -> tuple[Refit, ...]:
    """Refit the projection before each gap; changes the model's weights in place.

    Args:
        decoder: The model with all its layers, active: the reference is the model as it is now.
        windows: Calibration ids, `[sequences, tokens]`.
        removed: Layers that are to go.
        ridge: Strength of the ridge, relative, see the module's formula; None to choose it on held-out windows.

    Raises:
        NumericalFailure: If a refit is not finite; the model is then partly changed and must be dropped.
    """
    rows = passes.forward_rows
    streams = [
        _Streams.begin(decoder, place * rows, part) for place, part in enumerate(batches(windows, rows))
    ]
    results = []
    position = 0
    for gap in gaps(removed, len(decoder)):
        if not decoder.refits(gap.kept):
            continue
        for layer in range(position, gap.kept):
            raise_if_stopped(should_stop)
            _advance(decoder, streams, layer, removed)
        raise_if_stopped(should_stop)
        refit = _refit(decoder, streams, gap, ridge, should_stop)
        results.append(refit)
        on_refit(refit)
        position = gap.stop
    return tuple(results)


@dataclass
class _Streams:
    """The residual streams of one batch at the same depth: the reference's and the pruned model's."""

    first: int
    calls: Start
    reference: Tensor
    pruned: Tensor

    @classmethod
    def begin(cls, decoder: Decoder, first: int, ids: Tensor) -> _Streams:
        begun = start(decoder, ids)
        return cls(first, begun.let_go(), begun.hidden, begun.hidden)


def _advance(decoder: Decoder, streams: Sequence[_Streams], layer: int, removed: Sequence[int]) -> None:
    for stream in streams:
        same = stream.reference is stream.pruned
        stream.reference = run_layer(decoder, layer, stream.reference, stream.calls)
        if same and layer not in removed:
            stream.pruned = stream.reference
        elif layer not in removed:
            stream.pruned = run_layer(decoder, layer, stream.pruned, stream.calls)


def _refit(
    decoder: Decoder, streams: Sequence[_Streams], gap: Gap, ridge: float | None, should_stop: StopFn
) -> Refit:
    """Refit `gap.kept` and leave both streams at `gap.stop`."""
    projection = decoder.mlp_output(gap.kept)
    learned, judged = _Moments.zeros(projection, decoder), _Moments.zeros(projection, decoder)
    for layer in range(gap.kept, gap.stop):
        for stream in streams:
            raise_if_stopped(should_stop)
            stream.reference = run_layer(decoder, layer, stream.reference, stream.calls)
    for stream in streams:
        raise_if_stopped(should_stop)
        with _captured(projection) as captured:
            got = run_layer(decoder, gap.kept, stream.pruned, stream.calls)
        for row, moments in enumerate(_roles(stream.first, len(got), learned, judged)):
            part = slice(row, row + 1)
            moments.add(
                captured[0].view(*got.shape[:2], -1)[part],
                (stream.reference - got)[part],
                stream.reference[part],
            )
    everything = learned + judged
    used = _best_ridge(learned, judged) if ridge is None else ridge
    change = everything.solve(used)
    if not change.isfinite().all():
        raise NumericalFailure(f"the refit of layer {gap.kept} is not finite; raise ridge above {used:g}")
    decoder.add_to_mlp_output(gap.kept, change)
    for stream in streams:
        stream.pruned = run_layer(decoder, gap.kept, stream.pruned, stream.calls)
    stated = 0.0 if used == NOTHING else used
    return Refit(gap.kept, stated, everything.error_of(None), everything.error_of(change))


def _roles(first: int, rows: int, learned: _Moments, judged: _Moments) -> Iterator[_Moments]:
    """Yield where each window of a batch goes; `first` is the place of its first window in the text."""
    return (judged if (first + row) % HELD_OUT == HELD_OUT - 1 else learned for row in range(rows))


def _best_ridge(learned: _Moments, judged: _Moments) -> float:
    """Return the ridge whose solution on `learned` errs least on `judged`; a text of few windows judges itself."""
    judge = judged if judged.weight else learned
    errors = {ridge: judge.error_of(learned.solve(ridge)) for ridge in (*RIDGES, NOTHING)}
    return min(errors, key=lambda ridge: (errors[ridge], -ridge))


def _counts(inputs: Tensor) -> Tensor:
    """Return how much each token of `[batch, tokens, inner]` counts, `[batch, tokens, 1]`, fp32."""
    counts = torch.ones(*inputs.shape[:2], 1, device=inputs.device)
    counts[:, 0] = max(1.0, inputs.shape[1] / FIRST_TOKEN)
    return counts


@contextmanager
def _captured(projection: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the projection reads, `[batch, tokens, inner]`."""
    inputs: list[Tensor] = []

    def hook(_module: nn.Module, args: Any, _kwargs: Any, _output: Any) -> None:
        inputs.append(args[0])

    with hooked({projection: hook}):
        yield inputs


@dataclass
class _Moments:
    """Weighted second moments of the projection's input and of the error, in double precision on the CPU."""

    gram: Tensor
    cross: Tensor
    error: float = 0.0
    weight: float = 0.0

    @classmethod
    def zeros(cls, projection: nn.Module, decoder: Decoder) -> _Moments:
        width, inner = decoder.mlp_output_shape(projection)
        return cls(
            torch.zeros(inner, inner, dtype=torch.float64), torch.zeros(width, inner, dtype=torch.float64)
        )

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.error + other.error,
            self.weight + other.weight,
        )

    def add(self, inputs: Tensor, error: Tensor, wanted: Tensor) -> None:
        """Add a batch: `inputs` `[batch, tokens, inner]`, `error` and `wanted` `[batch, tokens, width]`."""
        read = inputs.flatten(0, 1).float()
        missed, target = error.flatten(0, 1).float(), wanted.flatten(0, 1).float()
        counts = _counts(inputs).flatten(0, 1)
        weights = counts / target.square().mean(dim=1, keepdim=True).clamp(min=1e-12)
        weighted = read * weights
        self.gram += (weighted.T @ read).double().cpu()
        self.cross += (missed.T @ weighted).double().cpu()
        self.error += (missed.square().mean(dim=1, keepdim=True) * weights).sum().item()
        self.weight += counts.sum().item()

    def solve(self, ridge: float) -> Tensor:
        """Return the best change of the weight, `[width, inner]`."""
        if ridge == NOTHING:
            return torch.zeros_like(self.cross)
        rho = ridge * self.gram.diagonal().mean().clamp(min=1e-30)
        damped = self.gram + rho * torch.eye(len(self.gram), dtype=self.gram.dtype)
        solution: Tensor = torch.linalg.solve(damped, self.cross.T).T
        return solution

    def error_of(self, change: Tensor | None) -> float:
        """Return the relative error of these windows under a change of the weight; None for no change."""
        before = self.error / self.weight
        if change is None:
            return before
        quadratic = ((change @ self.gram) * change).sum() - 2 * (change * self.cross).sum()
        return before + quadratic.item() / (self.weight * len(self.cross))
