"""Turns the steps of the stages into progress events: overall share, time left, log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from trsp_core.progress import STAGES, Progress, ProgressFn, Stage
from trsp_core.workspace import Workspace

SHARES: Mapping[Stage, float] = {
    "resolve": 0.02,
    "preflight": 0.01,
    "calibrate": 0.02,
    "stage1": 0.35,
    "stage2": 0.35,
    "surgery": 0.02,
    "round_trip": 0.05,
    "evaluate": 0.17,
    "report": 0.01,
}
"""Rough share of each stage in a job's time; only the overall bar depends on it."""


@dataclass
class _Clock:
    stage: Stage
    first_step: int
    began: float


class Reporter:
    """Sends progress events and keeps each stage's time."""

    def __init__(self, on_progress: ProgressFn, workspace: Workspace) -> None:
        self._on_progress = on_progress
        self._workspace = workspace
        self._clock: _Clock | None = None
        self._overall = 0.0
        self.timings: dict[str, float] = {}

    def begin(self, stage: Stage, total: int, message: str, *, done: int = 0) -> None:
        """Enter a stage of `total` steps of which `done` were done by an earlier attempt."""
        self._close()
        self._clock = _Clock(stage, done, time.monotonic())
        self.step(done, total, message)

    def step(
        self,
        step: int,
        total: int,
        message: str = "",
        *,
        metrics: Mapping[str, float] | None = None,
        layers: Mapping[int, float] | None = None,
        chosen: tuple[int, ...] = (),
    ) -> None:
        """Report `step` of `total` steps of the current stage."""
        if self._clock is None:
            raise RuntimeError("a step outside of a stage")
        progress = Progress(
            stage=self._clock.stage,
            step=step,
            total=total,
            overall=self._advance(step, total),
            eta_seconds=self._eta(step, total),
            message=message,
            metrics=metrics or {},
            layers=layers or {},
            chosen=chosen,
        )
        self._workspace.log(progress)
        self._on_progress(progress)

    def finish(self) -> None:
        """Leave the last stage."""
        self._close()

    def _close(self) -> None:
        if self._clock is not None:
            stage, seconds = self._clock.stage, time.monotonic() - self._clock.began
            self.timings[stage] = self.timings.get(stage, 0.0) + seconds
            self._clock = None

    def _advance(self, step: int, total: int) -> float:
        stage = self._clock.stage if self._clock else STAGES[0]
        before = sum(SHARES[name] for name in STAGES[: STAGES.index(stage)])
        here = before + SHARES[stage] * (step / total if total else 1.0)
        self._overall = max(self._overall, min(1.0, here))
        return self._overall

    def _eta(self, step: int, total: int) -> float | None:
        if self._clock is None or step <= self._clock.first_step:
            return None
        pace = (time.monotonic() - self._clock.began) / (step - self._clock.first_step)
        return pace * (total - step)
