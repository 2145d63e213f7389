"""A job's events folded into what its page shows: times of stages, losses, gate weights, chosen layers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.deps import Services
from trsp_jobs import models, service

MOST_POINTS = 240
MOST_STORIES = 64
BATCH = 500


@dataclass(slots=True)
class Curve:
    """One metric over the steps of one stage, thinned out to a bounded number of points."""

    points: list[tuple[float, float]] = field(default_factory=list)
    every: int = 1
    seen: int = 0

    def add(self, step: float, value: float) -> None:
        """Take a point in; when there are too many, keep every second one from then on."""
        if self.points and step < self.points[-1][0]:
            self.points = [point for point in self.points if point[0] < step]
        self.seen += 1
        if self.seen % self.every == 0:
            self.points.append((step, value))
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self.every *= 2


@dataclass(slots=True)
class Story:
    """What the events of one job amount to so far.

    Attributes:
        sequence: The last event taken in.
        stage: Stage of the latest progress.
        since: When that stage's latest progress came.
        seconds: Time spent in each stage, over all attempts.
        finished: Stages whose last step was reported.
        curves: Points by stage and metric.
        layers: The latest figure of each layer, and the stage that it comes from.
        chosen: Layers chosen so far, in the order of choice.
    """

    sequence: int = 0
    stage: str | None = None
    attempt: int = 0
    since: datetime | None = None
    message: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)
    layers: dict[int, float] = field(default_factory=dict)
    layers_stage: str = ""
    chosen: tuple[int, ...] = ()

    def take(self, events: Iterable[models.Event]) -> None:
        """Take in the events that follow."""
        for event in events:
            self.sequence = event.sequence
            if event.kind == "progress":
                self._progress(event)

    def _progress(self, event: models.Event) -> None:
        data = event.data
        stage = str(data["stage"])
        self._count_time(event, stage)
        self.stage, self.attempt, self.since = stage, event.attempt, event.at
        self.message = str(data.get("message", ""))
        if data["step"] >= data["total"]:
            self.finished.add(stage)
        self._figures(stage, data)

    def _count_time(self, event: models.Event, stage: str) -> None:
        """Add the time since the last progress to the stage that it came from, within one attempt."""
        self.seconds.setdefault(stage, 0.0)
        if self.since is None or self.attempt != event.attempt or self.stage is None:
            return
        self.seconds[self.stage] += max(0.0, (event.at - self.since).total_seconds())

    def _figures(self, stage: str, data: Mapping[str, Any]) -> None:
        for name, value in data.get("metrics", {}).items():
            if isinstance(value, (int, float)):
                self.curves.setdefault((stage, name), Curve()).add(float(data["step"]), float(value))
        if data.get("layers"):
            self.layers = {int(layer): float(value) for layer, value in data["layers"].items()}
            self.layers_stage = stage
        if data.get("chosen"):
            self.chosen = tuple(data["chosen"])


class StoryBook:
    """Stories of the jobs looked at lately, so that each event is read once and not at every refresh."""

    def __init__(self) -> None:
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, services: Services, job_id: str) -> Story:
        """Return a job's story up to its latest event."""
        with self._lock, services.session() as session:
            story = self._stories.setdefault(job_id, Story())
            self._stories.move_to_end(job_id)
            while rows := service.events_after(session, job_id, story.sequence, limit=BATCH):
                story.take(rows)
            if len(self._stories) > MOST_STORIES:
                self._stories.popitem(last=False)
            return story
