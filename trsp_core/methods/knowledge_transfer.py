"""Stage 2 as a whole: what is read, who teaches, and in which order the steps and the refit come.

What the layers know can move while they are still there, at the moment when they go, and afterwards. `schedule`
says which of these happens: `split` all three, `removed` the latter two, `penalty` (the paper) the former two,
`anneal` the first alone, since its layers are gone when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from typing import Any

from torch import Tensor

from trsp_core.absorb import Refit
from trsp_core.decoder import assign
from trsp_core.identity_gap import gaps_of
from trsp_core.method_options import TrspOptions, own_sequences
from trsp_core.methods.base import Transfer, Work, joined, refit_gaps, refits_of
from trsp_core.own_text import written_by
from trsp_core.results import PruningPlan, StepRecord
from trsp_core.stage2 import Snapshot, transfer
from trsp_core.teacher import teacher_states
from trsp_core.text import Text
from trsp_core.trainable import changed_names

_OWN, _REFIT, _GAPS = "own_text", "refit", "identity_gap"
_OWN_TEACHER, _TEACHER = "teacher_own.bin", "teacher.bin"
GAP_SEQUENCES = 8
"""Sequences of calibration text that the identity gap is measured on, before and after."""


@dataclass(frozen=True)
class Phase:
    """Gradient steps of one kind.

    Attributes:
        name: Name of its checkpoint.
        options: What `stage2.transfer` gets; says how many steps there are.
        first: Number of steps of stage 2 before it.
    """

    name: str
    options: TrspOptions
    first: int = 0

    @property
    def steps(self) -> int:
        """Number of its steps."""
        return self.options.stage2_steps or 0


@dataclass(frozen=True)
class KnowledgeTransfer:
    """Stage 2 of one job."""

    work: Work
    plan: PruningPlan
    options: TrspOptions

    @cached_property
    def steps(self) -> int:
        """Gradient steps in all."""
        return self.options.steps_for(len(self.work.windows))

    @cached_property
    def before(self) -> Phase | None:
        """The steps with the chosen layers in place, or fading; None where there are none."""
        options, steps = self.options, self.steps
        if options.schedule == "split":
            steps = round(options.tuned_first * steps)
            options = replace(options, schedule="penalty", lambda2=0.0, objective="lm", own_text=0.0)
        elif options.schedule == "removed":
            steps = 0
        return Phase("stage2_before", replace(options, stage2_steps=steps)) if steps else None

    @cached_property
    def after(self) -> Phase | None:
        """The steps with the chosen layers gone; None where there are none."""
        first = self.before.steps if self.before else 0
        if self.options.schedule not in ("split", "removed") or first == self.steps:
            return None
        options = replace(self.options, schedule="removed", stage2_steps=self.steps - first)
        return Phase("stage2", options, first)

    @property
    def refits(self) -> int:
        """Projections that the refit changes."""
        wanted = self.options.absorb and self.options.schedule != "anneal"
        return refits_of(self.work, self.plan) if wanted else 0

    @property
    def length(self) -> int:
        """Steps and refits in all."""
        return self.steps + self.refits

    def run(self) -> Transfer:
        """Do all of it, or go on where the checkpoints end."""
        text = self._text()
        own_states = self._own_states(text)
        parts = [self._unwritten(), self._steps_before(text, own_states)]
        teacher = self._teacher(text, own_states) if self.after else None
        parts.append(self._refit(text))
        if self.after:
            parts.append(self._run(self.after, text, teacher))
        return reduce(joined, parts)

    def _text(self) -> Text:
        """Return what refit and steps read; the model's own part is written before anything changes."""
        work = self.work
        sequences, length = work.windows.shape
        count = own_sequences(sequences, length, self.options.own_text)
        if count == 0 or not work.decoder.writes or not self.length:
            return Text.of(work.windows)
        saved = work.workspace.load_tensors(_OWN)
        if saved:
            return Text(work.windows, saved[0]["ids"])
        work.reporter.step(0, self.length, f"the dense model writes {count} sequences")
        own = written_by(
            work.decoder, sequences=count, length=length, seed=work.seed, should_stop=work.should_stop
        )
        work.workspace.save_tensors(_OWN, {"ids": own}, {})
        work.tokens.forward += own.numel()
        return Text(work.windows, own)

    def _unwritten(self) -> Transfer:
        """Say where the model was to write text and cannot."""
        if self.options.own_text == 0 or self.work.decoder.writes:
            return Transfer()
        return Transfer(notes=("no text of the model's own: its weights are streamed from disk",))

    def _own_states(self, text: Text) -> Tensor:
        """Return the dense model's states on what it wrote: the teacher there, whatever happens to the model."""
        if len(text.own) == 0 or self.steps == 0:
            return text.own.new_zeros(0)
        return self._states(text.own, _OWN_TEACHER)

    def _teacher(self, text: Text, own_states: Tensor | None) -> Tensor | None:
        """Return the states of the model as it is now on the calibration text, beside those on its own text."""
        if self.options.objective == "lm" and len(text.own) == 0:
            return None
        return self._states(text.given, _TEACHER, beside=own_states if len(text.own) else None)

    def _states(self, ids: Tensor, file: str, *, beside: Tensor | None = None) -> Tensor:
        work = self.work
        path = work.workspace.checkpoint / file
        if not path.exists():
            work.tokens.forward += ids.numel()
        return teacher_states(
            work.decoder, ids, path=path, passes=work.passes, beside=beside, should_stop=work.should_stop
        )

    def _steps_before(self, text: Text, own_states: Tensor) -> Transfer:
        """Run the steps with the layers in place; where these make the identity gaps small, measure them."""
        phase = self.before
        if phase is None:
            return Transfer()
        distils = phase.options.objective != "lm" or (len(text.own) and phase.options.own_text)
        teacher = self._teacher(text, own_states) if distils else None
        read = text if distils else Text.of(text.given)
        if self.options.schedule == "split":
            return self._run(phase, read, teacher)
        gaps = self._gaps_before()
        done = self._run(phase, read, teacher)
        after = self._gaps_after(phase)
        return replace(done, identity_gap={layer: (gaps[layer], after[layer]) for layer in self.plan.removed})

    def _refit(self, text: Text) -> Transfer:
        """Refit, or take the refitted weights from the checkpoint."""
        if not self.options.absorb or self.options.schedule == "anneal":
            return Transfer()
        saved = self.work.workspace.load_tensors(_REFIT)
        if saved:
            tensors, about = saved
            assign(self.work.decoder, tensors)
            return _refit_from(about, tensors)
        before = self.before.steps if self.before else 0
        refit = refit_gaps(
            self.work,
            text.mixed,
            self.plan,
            ridge=self.options.ridge,
            steps_before=before,
            steps_after=self.steps - before,
        )
        tensors = {name: self.work.decoder.weight(name).detach() for name in refit.changed}
        about = {"refits": [asdict(item) for item in refit.refits], "notes": list(refit.notes)}
        self.work.workspace.save_tensors(_REFIT, tensors, about)
        return refit

    def _run(self, phase: Phase, text: Text, teacher: Tensor | None) -> Transfer:
        """Run the gradient steps of a phase from where the last checkpoint left them."""
        work = self.work
        saved = work.workspace.load_tensors(phase.name)
        resume = Snapshot.of(saved[1]["step"], saved[1]["records"], saved[0]) if saved else None
        records = transfer(
            work.decoder,
            text,
            self.plan.order,
            phase.options,
            passes=work.passes,
            teacher=teacher,
            seed=work.seed + phase.first,
            resume=resume,
            on_step=lambda record: self._tell_step(_numbered(record, phase)),
            on_checkpoint=lambda snapshot: _keep_snapshot(work, phase, snapshot),
            should_stop=work.should_stop,
        )
        used = len(records) * phase.options.batch_sequences * work.windows.shape[1]
        work.tokens.gradient += used
        work.tokens.forward += used
        gone = self.plan.removed if phase.options.schedule == "removed" else ()
        numbered = tuple(_numbered(record, phase) for record in records)
        return Transfer(changed=changed_names(work.decoder, phase.options, gone), records=numbered)

    def _tell_step(self, record: StepRecord) -> None:
        parts = {"lm": record.lm, "distill": record.distill}
        metrics = {
            "loss": record.loss,
            "identity_gap": record.identity_gap,
            "learning_rate": record.learning_rate,
            **{name: value for name, value in parts.items() if value is not None},
        }
        refitted = self.refits if self.after and record.step > self.after.first else 0
        self.work.reporter.step(
            refitted + record.step,
            self.length,
            f"loss {record.loss:.3f}",
            metrics=metrics,
            chosen=self.plan.order,
        )

    def _gaps_before(self) -> dict[int, float]:
        saved = self.work.workspace.load(_GAPS)
        if saved:
            return {int(layer): gap for layer, gap in saved.items()}
        gaps = self._measure_gaps()
        self.work.workspace.save(_GAPS, {str(layer): gap for layer, gap in gaps.items()})
        return gaps

    def _gaps_after(self, phase: Phase) -> dict[int, float]:
        """Return what is left; a layer that was faded out hands on exactly what it gets."""
        if phase.options.schedule == "anneal":
            return dict.fromkeys(self.plan.removed, 0.0)
        return self._measure_gaps()

    def _measure_gaps(self) -> dict[int, float]:
        return gaps_of(
            self.work.decoder,
            self.work.windows[:GAP_SEQUENCES],
            self.plan.removed,
            norm=self.options.norm,
            normalize=self.options.normalize,
            passes=self.work.passes,
            should_stop=self.work.should_stop,
        )


def _numbered(record: StepRecord, phase: Phase) -> StepRecord:
    """Return a phase's record under its number in stage 2."""
    return replace(record, step=phase.first + record.step)


def _keep_snapshot(work: Work, phase: Phase, snapshot: Snapshot) -> None:
    about = {"step": snapshot.step, "records": snapshot.records_as_dicts()}
    work.workspace.save_tensors(phase.name, snapshot.tensors(), about)


def _refit_from(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Transfer:
    refits = tuple(Refit(**item) for item in about["refits"])
    return Transfer(changed=frozenset(tensors), refits=refits, notes=tuple(about["notes"]))
