"""What a method is: it chooses layers, and it may change the weights that stay.

A method gets everything through `Work` and keeps its checkpoints there; it changes nothing but the model's
weights in `transfer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from trsp_core.absorb import Refit, absorb, gaps
from trsp_core.budget import Passes
from trsp_core.decoder import Decoder
from trsp_core.method_options import MethodOptions
from trsp_core.progress import StopFn
from trsp_core.reporting import Reporter
from trsp_core.results import ChoiceRound, PruningPlan, StepRecord
from trsp_core.workspace import Workspace


@dataclass
class TokenCount:
    """Calibration tokens that passed through the model; a pass with gradients counts in both."""

    forward: int = 0
    gradient: int = 0

    def add(self, other: TokenCount) -> None:
        """Count what an earlier attempt used."""
        self.forward += other.forward
        self.gradient += other.gradient


EnoughFn = Callable[[PruningPlan], bool]
"""Told the choices so far; True ends the choice before `count` is reached."""


def count_decides(_plan: PruningPlan) -> bool:
    """Leave it to `Work.count` when the choice ends."""
    return False


@dataclass(frozen=True)
class Work:
    """What a method works with.

    Attributes:
        decoder: The dense model.
        windows: Calibration ids, `[sequences, tokens]`.
        count: Layers to choose.
        passes: How the text is cut into passes.
        seed: Seed of everything random.
        workspace: Where checkpoints are kept.
        reporter: Gets the progress; the stage is already begun.
        should_stop: Asked between any two passes.
        enough: Asked after every round by the methods that measure the loss after each; where it says so, the
            plan is shorter than `count`.
        tokens: Counts what was used.
    """

    decoder: Decoder
    windows: Tensor
    count: int
    passes: Passes
    seed: int
    workspace: Workspace
    reporter: Reporter
    should_stop: StopFn
    enough: EnoughFn = count_decides
    tokens: TokenCount = field(default_factory=TokenCount)


@dataclass(frozen=True)
class Transfer:
    """What a method did to the weights that stay.

    Attributes:
        changed: Names of the changed parameters.
        refits: The closed-form refits, in order.
        records: One record a gradient step.
        identity_gap: For each chosen layer its gap at the start and at the end; empty where it was not made
            small.
        notes: What a reader of the report should know.
    """

    changed: frozenset[str] = frozenset()
    refits: tuple[Refit, ...] = ()
    records: tuple[StepRecord, ...] = ()
    identity_gap: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Method(Protocol):
    """The contract; `tests/contract/test_methods.py` holds every registered method to it."""

    def __init__(self, options: MethodOptions) -> None: ...

    def plan(self, work: Work) -> PruningPlan:
        """Choose `work.count` layers, or fewer once `work.enough`; the model is left as it was.

        Goes on from a checkpoint if there is one.
        """
        ...

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:
        """Return how many steps `transfer` will report."""
        ...

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Change the weights that stay, in place. Goes on from a checkpoint if there is one."""
        ...


def tell_choice(work: Work, order: tuple[int, ...], last: ChoiceRound) -> None:
    """Report the layer that was chosen last, of those in `order`, with the loss that was measured after it."""
    work.reporter.step(
        len(order),
        work.count,
        f"layer {last.layer} goes: the loss is then {last.loss:.3f} nats a token",
        metrics={"loss": last.loss or 0.0},
        layers=last.scores,
        chosen=order,
    )


def joined(first: Transfer, second: Transfer) -> Transfer:
    """Return what two parts of the transfer did together."""
    return Transfer(
        changed=first.changed | second.changed,
        refits=first.refits + second.refits,
        records=first.records + second.records,
        identity_gap={**first.identity_gap, **second.identity_gap},
        notes=first.notes + second.notes,
    )


def refits_of(work: Work, plan: PruningPlan) -> int:
    """Return how many projections a refit would change."""
    return sum(work.decoder.refits(gap.kept) for gap in gaps(plan.removed, len(work.decoder)))


def refit_gaps(
    work: Work,
    windows: Tensor,
    plan: PruningPlan,
    *,
    ridge: float | None,
    steps_before: int = 0,
    steps_after: int = 0,
) -> Transfer:
    """Refit the projection before each gap on `[sequences, tokens]` of text, if the MLP output allows it.

    `steps_before` and `steps_after` say which other steps of the stage stand around it, for the progress.
    """
    if not work.decoder.refittable:
        return Transfer(notes=(_no_refit(work.decoder),))
    total = steps_before + refits_of(work, plan) + steps_after
    done: list[Refit] = []

    def tell(refit: Refit) -> None:
        done.append(refit)
        metrics = {"error_before": refit.error_before, "error_after": refit.error_after}
        work.reporter.step(
            steps_before + len(done),
            total,
            f"refitted layer {refit.layer}",
            metrics=metrics,
            chosen=plan.order,
        )

    refits = absorb(
        work.decoder,
        windows,
        plan.removed,
        ridge=ridge,
        passes=work.passes,
        on_refit=tell,
        should_stop=work.should_stop,
    )
    work.tokens.forward += 3 * windows.numel()
    changed = frozenset(work.decoder.mlp_output_name(refit.layer) for refit in refits)
    return Transfer(changed=changed, refits=refits, notes=tuple(_left_out(work.decoder, plan)))


def _left_out(decoder: Decoder, plan: PruningPlan) -> Iterator[str]:
    """Say which gaps no refit could take over."""
    if plan.layers and plan.removed and plan.removed[0] == 0:
        yield "no refit for a gap before the first kept layer: nothing stands before it"
    left = [gap.kept for gap in gaps(plan.removed, len(decoder)) if not decoder.refits(gap.kept)]
    if left:
        yield f"no refit of the layers {', '.join(map(str, left))}: they have no single MLP output"


def _no_refit(decoder: Decoder) -> str:
    name = decoder.model.config.model_type
    if not any(decoder.has_mlp_output(layer) for layer in range(len(decoder))):
        return f"no refit: the layers of this {name} have no single MLP output that could be refitted"
    return (
        f"no refit: this {name} puts a norm or a factor behind its MLP, so that the refit would not be linear"
    )
