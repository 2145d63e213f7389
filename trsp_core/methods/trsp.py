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
from trsp_core.methods.base import Transfer, Work, joined, refit_gaps, refits_of
from trsp_core.results import PruningPlan, StepRecord
from trsp_core.stage1 import GateState, GateStep, choose_layers, plan_of
from trsp_core.stage2 import Snapshot, transfer
from trsp_core.teacher import teacher_states
from trsp_core.trainable import changed_names

_GATES, _REFIT, _STEPS, _TEACHER, _GAPS = "stage1", "refit", "stage2", "teacher.bin", "identity_gap"
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
        return self.options.stage2_steps + refits

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Run stage 2: the gradient steps, and the refit at the moment when the layers go.

        Under `removed` that moment is before the first step, under `penalty` after the last one; `anneal`
        leaves nothing to refit.
        """
        teacher = self._teacher(work)
        if self.options.schedule == "removed":
            return joined(self._early_refit(work, plan), self._steps(work, plan, teacher))
        before = self._gaps_before(work, plan)
        steps = self._steps(work, plan, teacher)
        after = self._gaps_after(work, plan)
        refit = self._late_refit(work, plan)
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
        last = state.rounds[-1]
        work.reporter.step(
            len(state.order),
            work.count,
            f"layer {last.layer} goes: the loss is then {last.loss:.3f} nats a token",
            metrics={"loss": last.loss or 0.0},
            layers=last.scores,
            chosen=state.order,
        )

    def _teacher(self, work: Work) -> Tensor | None:
        """Return the dense model's states, taken before anything changes; None where nothing distils."""
        if self.options.objective == "lm" or self.options.stage2_steps == 0:
            return None
        path = work.workspace.checkpoint / _TEACHER
        if not path.exists():
            work.tokens.forward += work.windows.numel()
        return teacher_states(
            work.decoder, work.windows, path=path, passes=work.passes, should_stop=work.should_stop
        )

    def _early_refit(self, work: Work, plan: PruningPlan) -> Transfer:
        """Refit before the steps, or take the refitted weights from the checkpoint."""
        if not self._refits_early:
            return Transfer()
        saved = work.workspace.load_tensors(_REFIT)
        if saved:
            tensors, about = saved
            assign(work.decoder, tensors)
            return _refit_from(about, tensors)
        refit = refit_gaps(work, plan, ridge=self.options.ridge, steps_after=self.options.stage2_steps)
        tensors = {name: work.decoder.weight(name).detach() for name in refit.changed}
        about = {"refits": [asdict(item) for item in refit.refits], "notes": list(refit.notes)}
        work.workspace.save_tensors(_REFIT, tensors, about)
        return refit

    def _late_refit(self, work: Work, plan: PruningPlan) -> Transfer:
        if not self._refits_late:
            return Transfer()
        return refit_gaps(work, plan, ridge=self.options.ridge, steps_before=self.options.stage2_steps)

    @property
    def _refits_early(self) -> bool:
        return self.options.absorb and self.options.schedule == "removed"

    @property
    def _refits_late(self) -> bool:
        return self.options.absorb and self.options.schedule == "penalty"

    def _steps(self, work: Work, plan: PruningPlan, teacher: Tensor | None) -> Transfer:
        """Run the gradient steps from where the last checkpoint left them."""
        if self.options.stage2_steps == 0:
            return Transfer()
        saved = work.workspace.load_tensors(_STEPS)
        resume = Snapshot.of(saved[1]["step"], saved[1]["records"], saved[0]) if saved else None
        records = transfer(
            work.decoder,
            work.windows,
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
        earlier = total - self.options.stage2_steps if self._refits_early else 0
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
        if self.options.schedule == "anneal" and self.options.stage2_steps:
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
