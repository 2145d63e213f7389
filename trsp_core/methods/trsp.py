"""TRSP: gates choose the layers (stage 1), two kinds of transfer make them removable (stage 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from trsp_core.absorb import Refit
from trsp_core.decoder import assign
from trsp_core.identity_gap import gaps_of
from trsp_core.method_options import MethodOptions, TrspOptions
from trsp_core.methods.base import Transfer, Work, joined, refit_gaps, refits_of, tell_choice
from trsp_core.own_text import own_sequences, written_by
from trsp_core.results import PruningPlan, StepRecord
from trsp_core.stage1 import GateState, GateStep, choose_layers, plan_of
from trsp_core.stage2 import Snapshot, transfer
from trsp_core.teacher import teacher_states
from trsp_core.text import Text
from trsp_core.trainable import changed_names

_GATES, _REFIT, _STEPS, _TEACHER, _GAPS = "stage1", "refit", "stage2", "teacher.bin", "identity_gap"
_OWN = "own_text"
GATE_TOKENS = 2_048
"""Tokens that stage 1 reads unless told otherwise."""
GAP_SEQUENCES = 8
"""Sequences of calibration text that the identity gap is measured on, before and after."""


class Trsp:
    """The method of this project; see `stage1`, `stage2` and `absorb` for what each part computes."""

    def __init__(self, options: MethodOptions) -> None:
        if not isinstance(options, TrspOptions):
            raise TypeError("Trsp needs TrspOptions")
        self.options = options

    def plan(self, work: Work) -> PruningPlan:
        """Run stage 1, with a checkpoint after every round."""
        saved = work.workspace.load(_GATES)
        state = GateState.from_dict(saved) if saved else None
        state = choose_layers(
            work.decoder,
            work.windows[: self._gate_sequences(work)],
            work.count,
            self.options,
            passes=work.passes,
            state=state,
            on_step=lambda step: self._tell_gates(work, step),
            on_round=lambda done: self._keep_round(work, done),
            enough=lambda done: work.enough(self._plan(work, done)),
            should_stop=work.should_stop,
        )
        work.tokens.forward += state.forward_tokens
        return self._plan(work, state)

    def _plan(self, work: Work, state: GateState) -> PruningPlan:
        return plan_of(state, method="trsp", layers=len(work.decoder))

    def _gate_sequences(self, work: Work) -> int:
        enough = max(1, GATE_TOKENS // work.windows.shape[1])
        return self.options.stage1_sequences or enough

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:
        """Return the number of gradient steps and refits."""
        refits = refits_of(work, plan) if self._refits_early or self._refits_late else 0
        return self._count_of_steps(work) + refits

    def _count_of_steps(self, work: Work) -> int:
        return self.options.steps_for(len(work.windows))

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Run stage 2: the gradient steps, and the refit at the moment when the layers go.

        Under `removed` that moment is before the first step, under `penalty` after the last one; `anneal`
        leaves nothing to refit.
        """
        text = self._text(work)
        teacher = self._teacher(work, text)
        if self.options.schedule == "removed":
            return joined(self._early_refit(work, text, plan), self._steps(work, text, plan, teacher))
        before = self._gaps_before(work, plan)
        steps = self._steps(work, text, plan, teacher)
        after = self._gaps_after(work, plan)
        refit = self._late_refit(work, text, plan)
        return replace(
            joined(steps, refit),
            identity_gap={layer: (before[layer], after[layer]) for layer in plan.removed},
        )

    def _tell_gates(self, work: Work, step: GateStep) -> None:
        work.reporter.step(
            step.round,
            work.count,
            f"round {step.round + 1}, gate step {step.step}",
            metrics={"loss": step.loss, "movement": step.movement},
            layers=step.gates,
        )

    def _keep_round(self, work: Work, state: GateState) -> None:
        work.workspace.save(_GATES, state.to_dict())
        tell_choice(work, state.order, state.rounds[-1])

    def _text(self, work: Work) -> Text:
        """Return what refit and steps read; the model's own part is written before anything changes."""
        sequences, length = work.windows.shape
        count = own_sequences(sequences, length, self.options.own_text)
        if count == 0 or not (self.options.absorb or self._count_of_steps(work)):
            return Text.of(work.windows)
        saved = work.workspace.load_tensors(_OWN)
        if saved:
            return Text(work.windows, saved[0]["ids"])
        work.reporter.step(0, self._most_steps(work), f"the dense model writes {count} sequences")
        own = written_by(
            work.decoder, sequences=count, length=length, seed=work.seed, should_stop=work.should_stop
        )
        work.workspace.save_tensors(_OWN, {"ids": own}, {})
        work.tokens.forward += own.numel()
        return Text(work.windows, own)

    def _most_steps(self, work: Work) -> int:
        return max(1, self._count_of_steps(work))

    def _teacher(self, work: Work, text: Text) -> Tensor | None:
        """Return the dense model's states, taken before anything changes; None where nothing distils."""
        if self._count_of_steps(work) == 0 or (self.options.objective == "lm" and len(text.own) == 0):
            return None
        path, read = work.workspace.checkpoint / _TEACHER, text.everything
        if not path.exists():
            work.tokens.forward += read.numel()
        return teacher_states(work.decoder, read, path=path, passes=work.passes, should_stop=work.should_stop)

    def _early_refit(self, work: Work, text: Text, plan: PruningPlan) -> Transfer:
        """Refit before the steps, or take the refitted weights from the checkpoint."""
        if not self._refits_early:
            return Transfer()
        saved = work.workspace.load_tensors(_REFIT)
        if saved:
            tensors, about = saved
            assign(work.decoder, tensors)
            return _refit_from(about, tensors)
        after = self._count_of_steps(work)
        refit = refit_gaps(work, text.mixed, plan, ridge=self.options.ridge, steps_after=after)
        tensors = {name: work.decoder.weight(name).detach() for name in refit.changed}
        about = {"refits": [asdict(item) for item in refit.refits], "notes": list(refit.notes)}
        work.workspace.save_tensors(_REFIT, tensors, about)
        return refit

    def _late_refit(self, work: Work, text: Text, plan: PruningPlan) -> Transfer:
        if not self._refits_late:
            return Transfer()
        before = self._count_of_steps(work)
        return refit_gaps(work, text.mixed, plan, ridge=self.options.ridge, steps_before=before)

    @property
    def _refits_early(self) -> bool:
        return self.options.absorb and self.options.schedule == "removed"

    @property
    def _refits_late(self) -> bool:
        return self.options.absorb and self.options.schedule == "penalty"

    def _steps(self, work: Work, text: Text, plan: PruningPlan, teacher: Tensor | None) -> Transfer:
        """Run the gradient steps from where the last checkpoint left them."""
        if self._count_of_steps(work) == 0:
            return Transfer()
        saved = work.workspace.load_tensors(_STEPS)
        resume = Snapshot.of(saved[1]["step"], saved[1]["records"], saved[0]) if saved else None
        records = transfer(
            work.decoder,
            text,
            plan.removed,
            self.options,
            passes=work.passes,
            teacher=teacher,
            seed=work.seed,
            resume=resume,
            on_step=lambda record: self._tell_step(work, plan, record),
            on_checkpoint=lambda snapshot: _keep_snapshot(work, snapshot),
            should_stop=work.should_stop,
        )
        used = len(records) * self.options.batch_sequences * work.windows.shape[1]
        work.tokens.gradient += used
        work.tokens.forward += used
        gone = plan.removed if self.options.schedule == "removed" else ()
        return Transfer(changed=changed_names(work.decoder, self.options, gone), records=records)

    def _tell_step(self, work: Work, plan: PruningPlan, record: StepRecord) -> None:
        parts = {"lm": record.lm, "distill": record.distill}
        metrics = {
            "loss": record.loss,
            "identity_gap": record.identity_gap,
            "learning_rate": record.learning_rate,
            **{name: value for name, value in parts.items() if value is not None},
        }
        total = self.transfer_steps(work, plan)
        earlier = total - self._count_of_steps(work) if self._refits_early else 0
        work.reporter.step(
            earlier + record.step,
            total,
            f"loss {record.loss:.3f}",
            metrics=metrics,
            chosen=plan.order,
        )

    def _gaps_before(self, work: Work, plan: PruningPlan) -> dict[int, float]:
        saved = work.workspace.load(_GAPS)
        if saved:
            return {int(layer): gap for layer, gap in saved.items()}
        gaps = self._measure_gaps(work, plan)
        work.workspace.save(_GAPS, {str(layer): gap for layer, gap in gaps.items()})
        return gaps

    def _gaps_after(self, work: Work, plan: PruningPlan) -> dict[int, float]:
        """Return what is left; a layer that was faded out hands on exactly what it gets."""
        if self.options.schedule == "anneal" and self._count_of_steps(work):
            return dict.fromkeys(plan.removed, 0.0)
        return self._measure_gaps(work, plan)

    def _measure_gaps(self, work: Work, plan: PruningPlan) -> dict[int, float]:
        return gaps_of(
            work.decoder,
            work.windows[:GAP_SEQUENCES],
            plan.removed,
            norm=self.options.norm,
            normalize=self.options.normalize,
            passes=work.passes,
            should_stop=work.should_stop,
        )


def _keep_snapshot(work: Work, snapshot: Snapshot) -> None:
    about = {"step": snapshot.step, "records": snapshot.records_as_dicts()}
    work.workspace.save_tensors(_STEPS, snapshot.tensors(), about)


def _refit_from(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Transfer:
    refits = tuple(Refit(**item) for item in about["refits"])
    return Transfer(changed=frozenset(tensors), refits=refits, notes=tuple(about["notes"]))
