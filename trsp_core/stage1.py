"""Stage 1: which layers go, one a round: the few that may cost least are switched off in turn, and the best goes.

By default trials on a part of the text name those few, at a fraction of the cost of trying all on the whole; the
paper's gates can do it instead. These minimise `LM(x; s) + lambda1 * sum |s_i|` over one scalar gate a layer, all
initially 1, weights frozen (Feng et al., ACL 2026); each round learns until the gates stand still. The l1 term is
treated exactly, by a proximal step: a gradient step on LM alone, then a soft threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, checkpointed, frozen, switched_off
from trsp_core.errors import InvalidSpec, NumericalFailure, Problem
from trsp_core.evaluation.losses import mean_loss
from trsp_core.gate_layout import GateLayout
from trsp_core.method_options import SCREENED, TRIED, TrspOptions
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.verification import loss_of, losses_without, tokens_of_trials

STANDSTILL = 0.04
"""A round ends once no gate moves by more than this in a step."""
FORGET = 0.5
"""Share of the gates' gradient history that a new round takes over: the objective has changed with the removal."""


@dataclass(frozen=True, slots=True)
class GateState:
    """Everything that stage 1 goes on from; a checkpoint is this value.

    Attributes:
        gates: The gates of each layer of the source model, in the order of their `GateLayout`.
        squares: Sum of each gate's squared gradients, decayed at each new round (AdaGrad's history).
        excess: What each candidate's removal was last found to cost, nats a token; empty before the first trial.
        part_loss: Mean cross-entropy without the layers chosen so far on the part that trials read; None before the
            first trial.
        order: Layers chosen so far.
        rounds: The record of each choice.
        dense_loss: Mean cross-entropy of the untouched model, nats a token.
        forward_tokens: Tokens passed forward so far; a backward pass counts as two.
    """

    gates: tuple[float, ...]
    squares: tuple[float, ...]
    excess: Mapping[int, float] = field(default_factory=dict)
    part_loss: float | None = None
    order: tuple[int, ...] = ()
    rounds: tuple[ChoiceRound, ...] = ()
    dense_loss: float | None = None
    forward_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON types; floats survive JSON exactly."""
        return {
            "gates": list(self.gates),
            "squares": list(self.squares),
            "excess": {str(layer): value for layer, value in self.excess.items()},
            "part_loss": self.part_loss,
            "order": list(self.order),
            "rounds": [item.to_dict() for item in self.rounds],
            "dense_loss": self.dense_loss,
            "forward_tokens": self.forward_tokens,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateState:
        """Read what `to_dict` wrote."""
        return cls(
            gates=tuple(data["gates"]),
            squares=tuple(data["squares"]),
            excess={int(layer): value for layer, value in data["excess"].items()},
            part_loss=data["part_loss"],
            order=tuple(data["order"]),
            rounds=tuple(ChoiceRound.from_dict(item) for item in data["rounds"]),
            dense_loss=data["dense_loss"],
            forward_tokens=data["forward_tokens"],
        )


@dataclass(frozen=True, slots=True)
class GateStep:
    """One gate step, for whoever watches: the loss before it and each layer's score after it."""

    round: int
    step: int
    loss: float
    movement: float
    gates: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Which layers may go: alive and not protected."""

    layers: tuple[int, ...]

    @classmethod
    def of(cls, total: int, options: Any, gone: Sequence[int]) -> Candidates:
        """Return the layers between the protected ends that are still there."""
        inner = range(options.protect_first, total - options.protect_last)
        return cls(tuple(layer for layer in inner if layer not in set(gone)))

    def spared_by(self, decoder: Decoder, gone: Sequence[int]) -> tuple[int, ...]:
        """Return those that the architecture can do without, once `gone` have left.

        Raises:
            InvalidSpec: If there are none.
        """
        found = tuple(layer for layer in self.layers if decoder.spares((*gone, layer)))
        if not found:
            name = decoder.architecture.model_type
            message = f"asks for more layers than a {name} can lose; after {list(gone)} no other may leave."
            raise InvalidSpec(Problem("/target", message))
        return found


def initial_state(gates: int) -> GateState:
    """Return the state before the first round: all gates 1."""
    return GateState((1.0,) * gates, (0.0,) * gates)


def soft_threshold(values: Tensor, threshold: Tensor | float) -> Tensor:
    """Return the proximal map of the l1 norm: each value moved towards 0 by `threshold`, stopping there."""
    return values.sign() * (values.abs() - threshold).clamp(min=0)


def proximal_step(
    gates: Tensor, gradient: Tensor, squares: Tensor, *, learning_rate: float, lambda1: float
) -> Tensor:
    """Return the gates after one step of composite AdaGrad (Duchi et al., 2011, section 5).

    Each gate has its own step size, `learning_rate / sqrt(squares)`, and the soft threshold uses the same,
    so that the l1 term keeps its weight against LM. Neither part moves a gate by more than `learning_rate`:
    else a gate whose first gradient is small by chance would be thrown the farthest.

    Args:
        gates, gradient, squares: Shape `[gates]`; `squares` includes this step's gradient.
        learning_rate: Longest way of a gate in one step, for each of the two parts.
        lambda1: Weight of the l1 term.
    """
    rate = learning_rate / squares.sqrt().clamp(min=1e-12)
    threshold = (rate * lambda1).clamp(max=learning_rate)
    return soft_threshold(gates - rate * gradient, threshold)


def choose_layers(
    decoder: Decoder,
    windows: Tensor,
    count: int,
    options: TrspOptions,
    *,
    passes: Passes,
    state: GateState | None = None,
    on_step: Callable[[GateStep], None] = lambda _: None,
    on_round: Callable[[GateState], None] = lambda _: None,
    enough: Callable[[GateState], bool] = lambda _: False,
    should_stop: StopFn = never,
) -> GateState:
    """Choose `count` layers, one a round; the model is left as it was.

    Args:
        decoder: The dense model.
        windows: Calibration ids, `[sequences, tokens]`.
        count: Layers to choose in all, those of `state` included.
        state: Where to go on; None to begin.
        on_round: Gets the state after each choice, to be kept as a checkpoint.
        enough: Asked before each round; ends the choice before `count` is reached.

    Returns:
        The state with `count` layers in its order, or fewer where it was `enough`.

    Raises:
        Cancelled: If `should_stop` says so, between any two passes.
        NumericalFailure: If a loss stops being finite.
    """
    learner = _Learner(decoder, windows, options, passes, on_step, should_stop)
    state = state or initial_state(len(decoder) * learner.layout.per_layer)
    if state.dense_loss is None:
        state = learner.measure_dense(state)
    while len(state.order) < count and not enough(state):
        state = learner.round(state)
        on_round(state)
    return state


def shortlist(excess: Mapping[int, float], order: Sequence[int], count: int) -> list[int]:
    """Return which layers to try again, out of those of `excess`: cheap so far, or next to the last that went.

    A removal changes most what its neighbours cost: up to half of the places are theirs, if they are candidates. The
    others go to the layers whose last trial cost least; a figure from long ago is too low rather than too high,
    since everything costs more as layers leave, so that what was cheap once is tried again.

    Args:
        excess: What each candidate's removal was last found to cost.
        order: Layers that left so far.
        count: Places.
    """
    around = _neighbours(excess, order)[: count // 2]
    cheap = [layer for layer in _smallest(excess) if layer not in around]
    return (around + cheap)[:count]


def _neighbours(candidates: Iterable[int], order: Sequence[int]) -> list[int]:
    """Return the nearest candidates on both sides of the layer that left last."""
    if not order:
        return []
    below = [layer for layer in candidates if layer < order[-1]]
    above = [layer for layer in candidates if layer > order[-1]]
    return [*([max(below)] if below else []), *([min(above)] if above else [])]


def _smallest(scores: Mapping[int, float]) -> list[int]:
    return sorted(scores, key=lambda layer: (scores[layer], layer))


def plan_of(state: GateState, *, method: str, layers: int) -> PruningPlan:
    """Return the plan that a finished state stands for."""
    return PruningPlan(method, layers, state.order, state.rounds, state.dense_loss)


@dataclass(frozen=True)
class _Learner:
    """The fixed surroundings of the rounds."""

    decoder: Decoder
    windows: Tensor
    options: TrspOptions
    passes: Passes
    on_step: Callable[[GateStep], None]
    should_stop: StopFn

    @property
    def layout(self) -> GateLayout:
        return GateLayout.of(self.options)

    def measure_dense(self, state: GateState) -> GateState:
        return replace(
            state,
            dense_loss=loss_of(self.decoder, self.windows, passes=self.passes, should_stop=self.should_stop),
            forward_tokens=state.forward_tokens + self.windows.numel(),
        )

    def round(self, state: GateState) -> GateState:
        """Name candidates, verify them, choose one layer."""
        alive = Candidates.of(len(self.decoder), self.options, state.order)
        candidates = alive.spared_by(self.decoder, state.order)
        if self.options.candidates == "gates":
            learned, steps = self._learn(state)
            scores = self.layout.scores(learned.gates, candidates)
            parts = self.layout.part_scores(learned.gates, candidates)
            named = _smallest(scores)[: self.options.verify_top]
        else:
            tried = self._to_try(state, candidates)
            learned, steps, parts = self._screened(state, tried), 0, {}
            scores = {layer: learned.excess[layer] for layer in candidates}
            named = _smallest({layer: scores[layer] for layer in tried})[: self.options.verify_top]
        return self._chosen(learned, named, ChoiceRound(-1, scores, {}, None, steps, parts))

    def _to_try(self, state: GateState, candidates: Sequence[int]) -> list[int]:
        """Return the candidates that were never tried, and those that are worth trying again."""
        known = {layer: state.excess[layer] for layer in candidates if layer in state.excess}
        new = [layer for layer in candidates if layer not in known]
        return new + shortlist(known, state.order, TRIED * self.options.verify_top)

    def _chosen(self, state: GateState, named: Sequence[int], record: ChoiceRound) -> GateState:
        """Switch off each of the named layers in turn; the one that costs least goes."""
        verified, tokens = self._verified(state, named)
        now = state.rounds[-1].loss if state.rounds else state.dense_loss
        excess = {layer: loss - (now or 0.0) for layer, loss in verified.items()}
        chosen = min(named, key=lambda layer: (verified[layer], layer))
        done = replace(record, layer=chosen, verified=verified, loss=verified[chosen])
        part_loss = None if state.part_loss is None else state.part_loss + state.excess[chosen]
        return replace(
            state,
            order=(*state.order, chosen),
            rounds=(*state.rounds, done),
            excess={**state.excess, **excess},
            part_loss=part_loss,
            squares=tuple(FORGET * value for value in state.squares),
            forward_tokens=state.forward_tokens + tokens,
        )

    def _verified(self, state: GateState, named: Sequence[int]) -> tuple[dict[int, float], int]:
        """Return the loss without each of these on all of the text, and what that cost; trials have read a part."""
        if state.part_loss is None:
            return self._tried(state, named, self.windows)
        known = {layer: state.part_loss + state.excess[layer] for layer in named}
        rest = self.windows[self._part :]
        if len(rest) == 0:
            return known, 0
        losses, tokens = self._tried(state, named, rest)
        share = self._part / len(self.windows)
        return {layer: share * known[layer] + (1 - share) * losses[layer] for layer in named}, tokens

    @property
    def _part(self) -> int:
        """Sequences that trials read."""
        return max(1, round(SCREENED * len(self.windows)))

    def _tried(
        self, state: GateState, layers: Sequence[int], windows: Tensor
    ) -> tuple[dict[int, float], int]:
        """Return the loss without each of these, and what that cost in tokens."""
        losses = losses_without(
            self.decoder,
            windows,
            layers,
            gone=state.order,
            passes=self.passes,
            should_stop=self.should_stop,
        )
        return losses, tokens_of_trials(layers, len(self.decoder), windows.numel())

    def _screened(self, state: GateState, tried: Sequence[int]) -> GateState:
        """Try these candidates on a part of the text."""
        part, now, extra = self.windows[: self._part], state.part_loss, 0
        if now is None:
            now, extra = self._loss_without(state.order, part), part.numel()
        losses, tokens = self._tried(state, tried, part)
        return replace(
            state,
            excess={**state.excess, **{layer: loss - now for layer, loss in losses.items()}},
            part_loss=now,
            forward_tokens=state.forward_tokens + tokens + extra,
        )

    def _loss_without(self, gone: Sequence[int], windows: Tensor) -> float:
        with switched_off(self.decoder, gone):
            return loss_of(self.decoder, windows, passes=self.passes, should_stop=self.should_stop)

    def _learn(self, state: GateState) -> tuple[GateState, int]:
        """Move the gates of the alive layers until they stand still."""
        alive = [layer for layer in range(len(self.decoder)) if layer not in state.order]
        places = self.layout.places(alive)
        gates = torch.tensor([state.gates[place] for place in places], dtype=torch.float64)
        squares = torch.tensor([state.squares[place] for place in places], dtype=torch.float64)
        steps = 0
        for step in range(1, self.options.stage1_steps + 1):
            loss, gradient = self._gradient(gates, alive, state.order)
            squares = squares + gradient.square()
            moved = proximal_step(
                gates,
                gradient,
                squares,
                learning_rate=self.options.gate_learning_rate,
                lambda1=self.options.lambda1,
            )
            movement = (moved - gates).abs().max().item()
            gates, steps = moved, step
            values = self.layout.scores(_merged(state.gates, places, gates), alive)
            self.on_step(GateStep(len(state.order), step, loss, movement, values))
            if movement <= STANDSTILL:
                break
        tokens = state.forward_tokens + 3 * steps * self.windows.numel()
        return replace(
            state,
            gates=_merged(state.gates, places, gates),
            squares=_merged(state.squares, places, squares),
            forward_tokens=tokens,
        ), steps

    def _gradient(self, gates: Tensor, alive: Sequence[int], gone: Sequence[int]) -> tuple[float, Tensor]:
        """Return LM and its gradient on the gates of the alive layers over all windows."""
        leaf = gates.clone().to(self.decoder.device).requires_grad_()
        total = 0.0
        with frozen(self.decoder.model), switched_off(self.decoder, gone):
            for part in batches(self.windows, self.passes.gradient_rows):
                raise_if_stopped(self.should_stop)
                share = len(part) / len(self.windows)
                loss = self._gated_loss(leaf, alive, part) * share
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
        if leaf.grad is None or not math.isfinite(total) or not leaf.grad.isfinite().all():
            raise NumericalFailure(f"stage 1: the gated loss is {total}; the gates are {gates.tolist()}")
        return total, leaf.grad.cpu()

    def _gated_loss(self, gates: Tensor, alive: Sequence[int], part: Tensor) -> Tensor:
        ids = part.to(self.decoder.device)
        with self.layout.attached(self.decoder, gates, alive):
            if not self.passes.checkpointed:
                return mean_loss(self.decoder.model, ids)
            with checkpointed(self.decoder):
                return mean_loss(self.decoder.model, ids)


def _merged(values: Sequence[float], places: Sequence[int], new: Tensor) -> tuple[float, ...]:
    merged = list(values)
    for place, value in zip(places, new.tolist(), strict=True):
        merged[place] = value
    return tuple(merged)
