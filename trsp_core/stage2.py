"""Stage 2: what the chosen layers know moves to the layers that stay.

Minimises `LM + lambda2 * sum over the chosen layers of R(x_{i+1} - x_i)` over the weights, the gates gone and
the chosen layers active (Feng et al., ACL 2026), or one of the variants that `schedule` and `objective` name.
The steps are a pure function of seed and step number, so that a run that goes on from a checkpoint ends with
the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, checkpointed, switched_off
from trsp_core.errors import NumericalFailure
from trsp_core.evaluation.losses import (
    final_hidden_states,
    mean_kl,
    mean_loss_of_hidden,
    mean_mixture,
    output_head,
)
from trsp_core.gates import gated
from trsp_core.identity_gap import measuring_gaps
from trsp_core.method_options import TrspOptions
from trsp_core.optimizer import States, optimizer_of, restore_states, states_of
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.results import StepRecord
from trsp_core.text import Text
from trsp_core.trainable import LEARNING_RATES, trainable_parameters

WARMUP_SHARE = 0.1
FINAL_RATE = 0.1
"""The learning rate rises linearly over the first tenth of the steps and falls to a tenth by a cosine."""
FADED_BY = 0.7
"""Under `anneal` the chosen layers are gone after this share of the steps; the rest mends what that broke."""
CLIP = 1.0
"""Largest norm of the whole gradient."""
_WEIGHTS = "weights"


@dataclass(frozen=True)
class Snapshot:
    """Everything that stage 2 goes on from.

    Attributes:
        step: Steps done.
        records: One record a done step.
        weights: The trained weights by name.
        states: The optimizer's state by the same names.
    """

    step: int
    records: tuple[StepRecord, ...]
    weights: Mapping[str, Tensor]
    states: States

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under names that tell them apart."""
        groups = {_WEIGHTS: self.weights, **self.states}
        return {f"{group}/{name}": item for group, items in groups.items() for name, item in items.items()}

    @classmethod
    def of(cls, step: int, records: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> Snapshot:
        """Rebuild what `tensors` and the records' dicts were taken from."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, item in tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = item
        weights = groups.pop(_WEIGHTS)
        return cls(step, tuple(StepRecord(**item) for item in records), weights, groups)

    def records_as_dicts(self) -> list[dict[str, Any]]:
        """Return the records as JSON types."""
        return [asdict(record) for record in self.records]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of the 0-based `step`: linear warm-up, then a cosine down to a tenth."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2)


def residual_factors(step: int, steps: int, layers: int, *, one_by_one: bool) -> list[float]:
    """Return what `anneal` leaves of each chosen layer at the 0-based `step`: from 1, in a straight line, to 0.

    Args:
        layers: Number of chosen layers, in the order in which they go.
        one_by_one: Each fades when the one before it is gone; else all at once.
    """
    last = max(1, math.ceil(FADED_BY * steps))
    turns = layers if one_by_one else 1
    gone_through = turns * (step + 1) / last
    left = [min(1.0, max(0.0, turn + 1 - gone_through)) for turn in range(turns)]
    return left if one_by_one else left * layers


@dataclass(frozen=True, slots=True)
class Reading:
    """What one step reads.

    Attributes:
        rows: Places in the text, the calibration sequences first and then those that the model wrote itself.
        own: Whether it is the model's own text.
    """

    rows: tuple[int, ...]
    own: bool


def own_steps_before(step: int, share: float) -> int:
    """Return how many of the first `step` steps read the model's own text, spread evenly."""
    return math.floor(step * share + 1e-9)


def reading_of_step(step: int, batch: int, given: int, own: int, *, share: float, seed: int) -> Reading:
    """Return what the 0-based `step` reads: each kind of text in its own order, epoch after epoch.

    Args:
        batch: Sequences a step.
        given, own: Calibration sequences and sequences that the model wrote itself.
        share: Share of the steps that read the latter.
    """
    before = own_steps_before(step, share) if own else 0
    if own and own_steps_before(step + 1, share) > before:
        return Reading(tuple(given + row for row in rows_of_step(before, batch, own, seed)), own=True)
    return Reading(tuple(rows_of_step(step - before, batch, given, seed)), own=False)


def rows_of_step(step: int, batch: int, sequences: int, seed: int) -> list[int]:
    """Return which sequences the 0-based `step` sees: each epoch is a fresh permutation drawn from the seed."""
    rows = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, sequences)
        order = torch.randperm(sequences, generator=torch.Generator().manual_seed(seed + epoch))
        rows.append(int(order[place]))
    return rows


def transfer(
    decoder: Decoder,
    text: Text,
    removed: Sequence[int],
    options: TrspOptions,
    *,
    passes: Passes,
    teacher: Tensor | None,
    seed: int,
    resume: Snapshot | None = None,
    on_step: Callable[[StepRecord], None] = lambda _: None,
    on_checkpoint: Callable[[Snapshot], None] = lambda _: None,
    should_stop: StopFn = never,
) -> tuple[StepRecord, ...]:
    """Run stage 2's gradient steps; changes the model's weights in place.

    Args:
        decoder: The model with all its layers.
        text: What the steps read.
        removed: The chosen layers, in the order in which they go.
        teacher: The dense model's final hidden states on all of the text, `[sequences, tokens, hidden]`; needed
            to distil.
        seed: Seed of the order of the sequences and of the adapters.
        resume: Where to go on; the model must be as it was before the first step.
        on_checkpoint: Gets a snapshot every `options.checkpoint_every` steps and at the end; its tensors are the live
            ones.

    Raises:
        Cancelled: If `should_stop` says so, between any two passes.
        NumericalFailure: If the loss or a gradient stops being finite.
    """
    gone = removed if options.schedule == "removed" else ()
    with trainable_parameters(decoder, options, gone, seed=seed) as parameters:
        trainer = _Trainer(decoder, text, removed, options, passes, teacher, seed, parameters, should_stop)
        optimizer = trainer.optimizer(resume)
        records = list(resume.records) if resume else []
        for step in range(len(records), trainer.steps):
            records.append(trainer.step(optimizer, step))
            on_step(records[-1])
            if (step + 1) % options.checkpoint_every == 0 or step + 1 == trainer.steps:
                on_checkpoint(_snapshot(records, parameters, optimizer))
    return tuple(records)


def _snapshot(
    records: Sequence[StepRecord], parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> Snapshot:
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    return Snapshot(len(records), tuple(records), weights, states_of(optimizer, parameters))


@dataclass(frozen=True)
class _Parts:
    """The loss of one pass and what it was made of; `total` has the graph."""

    total: Tensor
    gap: float
    lm: float | None
    distill: float | None


@dataclass(frozen=True)
class _Trainer:
    """The fixed surroundings of the steps."""

    decoder: Decoder
    text: Text
    removed: Sequence[int]
    options: TrspOptions
    passes: Passes
    teacher: Tensor | None
    seed: int
    parameters: Mapping[str, nn.Parameter]
    should_stop: StopFn

    @property
    def steps(self) -> int:
        return self.options.steps_for(len(self.text.given))

    @property
    def peak_rate(self) -> float:
        return self.options.learning_rate or LEARNING_RATES[self.options.trainable]

    @torch.no_grad()
    def optimizer(self, resume: Snapshot | None) -> torch.optim.Optimizer:
        """Return the optimizer; weights and its state are where `resume` left them."""
        optimizer = optimizer_of(self.options.optimizer, self.parameters.values(), self.peak_rate)
        if resume:
            for name, parameter in self.parameters.items():
                parameter.copy_(resume.weights[name])
            restore_states(optimizer, self.parameters, resume.states, steps=resume.step)
        return optimizer

    def step(self, optimizer: torch.optim.Optimizer, step: int) -> StepRecord:
        """Take one step and say what it cost."""
        rate = learning_rate(step, self.steps, self.peak_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        record = self._accumulate(self._reading(step), step, rate)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
        if not math.isfinite(record.loss) or not norm.isfinite():
            raise NumericalFailure(
                f"stage 2, step {step + 1}: loss {record.loss}, gradient norm {norm.item()};"
                f" a learning_rate below {self.peak_rate:g} may hold"
            )
        optimizer.step()
        return record

    def _reading(self, step: int) -> Reading:
        given, own = len(self.text.given), len(self.text.own)
        share, batch = self.options.own_steps, self.options.batch_sequences
        return reading_of_step(step, batch, given, own, share=share, seed=self.seed)

    def _accumulate(self, reading: Reading, step: int, rate: float) -> StepRecord:
        """Add up the gradients of all rows, a few at a time."""
        sums: dict[str, float] = dict.fromkeys(("loss", "gap", "lm", "distill"), 0.0)
        parts = _Parts(torch.zeros(()), 0.0, None, None)
        for some in batches(torch.tensor(reading.rows), self.passes.gradient_rows):
            raise_if_stopped(self.should_stop)
            share = len(some) / len(reading.rows)
            with self._surroundings(step) as found:
                parts = self._loss(some, found, own=reading.own)
                (parts.total * share).backward()  # type: ignore[no-untyped-call]
            sums["loss"] += parts.total.item() * share
            sums["gap"] += parts.gap * share
            sums["lm"] += (parts.lm or 0.0) * share
            sums["distill"] += (parts.distill or 0.0) * share
        return StepRecord(
            step + 1,
            sums["loss"],
            sums["gap"],
            rate,
            None if parts.lm is None else sums["lm"],
            None if parts.distill is None else sums["distill"],
        )

    @contextmanager
    def _surroundings(self, step: int) -> Iterator[dict[int, Tensor]]:
        """The chosen layers as the schedule wants them at this step, their identity gaps measured."""
        found: dict[int, Tensor] = {}
        with ExitStack() as stack:
            left = self._left(step)
            gone = [layer for layer, factor in left.items() if factor == 0]
            stack.enter_context(switched_off(self.decoder, gone))
            if self.passes.checkpointed:
                stack.enter_context(checkpointed(self.decoder))
            fading = {layer: factor for layer, factor in left.items() if 0 < factor < 1}
            if fading:
                factors = torch.tensor([*fading.values()])
                stack.enter_context(gated(self.decoder, factors, [*fading], kind="residual"))
            if self.options.schedule != "removed":
                stack.enter_context(
                    measuring_gaps(
                        self.decoder,
                        self.removed,
                        found,
                        norm=self.options.norm,
                        normalize=self.options.normalize,
                    )
                )
            yield found

    def _left(self, step: int) -> dict[int, float]:
        """Return what is left of the update of each chosen layer at a step."""
        if self.options.schedule != "anneal":
            return dict.fromkeys(self.removed, 0.0 if self.options.schedule == "removed" else 1.0)
        one_by_one = self.options.anneal_order == "one_by_one"
        factors = residual_factors(step, self.steps, len(self.removed), one_by_one=one_by_one)
        return dict(zip(self.removed, factors, strict=True))

    def _loss(self, rows: Tensor, found: dict[int, Tensor], *, own: bool) -> _Parts:
        ids = self.text.everything[rows].to(self.decoder.device)
        hidden = final_hidden_states(self.decoder.model, ids)
        objective = "distill" if own else self.options.objective
        parts = self._objective(objective, hidden, ids, rows)
        penalty = torch.stack(list(found.values())).sum() if found else hidden.new_zeros(())
        total = parts.total
        if self.options.schedule == "penalty":
            total = total + self.options.lambda2 * penalty
        return replace(parts, total=total, gap=penalty.item() / max(1, len(found)))

    def _objective(self, name: str, hidden: Tensor, ids: Tensor, rows: Tensor) -> _Parts:
        head = output_head(self.decoder.model)
        if name == "lm":
            lm = mean_loss_of_hidden(hidden, head, ids)
            return _Parts(lm, 0.0, lm.item(), None)
        if self.teacher is None:
            raise ValueError("an objective that distils needs the teacher's states")
        wanted = self.teacher[rows].to(hidden.device)
        if name == "distill":
            distill = mean_kl(hidden, head, wanted, head)
            return _Parts(distill, 0.0, None, distill.item())
        weight = self.options.distill_weight
        mixed = mean_mixture(hidden, head, ids, wanted, distill_weight=weight)
        return _Parts(mixed.total, 0.0, mixed.lm, mixed.distill)
