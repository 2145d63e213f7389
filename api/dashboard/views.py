"""What the pages show, made from rows and stories: frozen values without any HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.dashboard import words
from api.dashboard.story import Curve, Story
from trsp_core.progress import STAGES
from trsp_core.report import numbers
from trsp_jobs import models
from trsp_jobs.lifecycle import FINAL, RETRYABLE, Status


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what it means."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobCard:
    """A job in the list."""

    id: str
    model: str
    target: str
    method: str
    status: str
    reason: str
    progress: float
    labels: Mapping[str, str]
    figures: tuple[Figure, ...]
    created: datetime
    took: str
    doing: str
    final: bool


@dataclass(frozen=True, slots=True)
class StageStep:
    """A stage in the timeline: `state` is done, now, stopped or ahead."""

    name: str
    title: str
    meaning: str
    state: str
    took: str


@dataclass(frozen=True, slots=True)
class LayerBar:
    """A layer in the live map.

    Attributes:
        height: Its figure as a share of the largest, 0 to 1; None without one.
        place: Its place in the order of choice, 1 for the first; 0 if it is not chosen.
    """

    layer: int
    height: float | None
    place: int
    words: str


@dataclass(frozen=True, slots=True)
class LayerMap:
    """The layers with what the latest figures of them are."""

    bars: tuple[LayerBar, ...]
    caption: str
    figure: str


@dataclass(frozen=True, slots=True)
class Spark:
    """A curve in a box of 100 by 32, and its ends in words."""

    title: str
    stage: str
    points: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """Everything on a job's page but its report and log."""

    card: JobCard
    job: models.Job
    stage_title: str
    message: str
    eta: str
    steps: tuple[StageStep, ...]
    layers: LayerMap | None
    sparks: tuple[Spark, ...]
    may_cancel: bool
    may_retry: bool
    sequence: int


def card(job: models.Job, reason: str) -> JobCard:
    """Return a job as the list shows it."""
    return JobCard(
        id=job.id,
        model=job.spec["model"],
        target=words.target(job.spec),
        method=job.spec["method"]["name"],
        status=job.status,
        reason=reason,
        progress=job.progress,
        labels=job.labels,
        figures=headline(job.result or {}),
        created=job.created_at,
        took=took(job),
        doing=doing(job, reason),
        final=job.status in FINAL,
    )


def took(job: models.Job) -> str:
    """Return how long a job took, or has taken so far; empty before its start."""
    if job.started_at is None:
        return ""
    seconds = ((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds()
    return f"{'took' if job.finished_at else 'for'} {words.duration(seconds)}"


def doing(job: models.Job, reason: str) -> str:
    """Return what a job does now: its stage and step while it works, else the reason of its status."""
    title = words.STAGES.get(job.stage or "", ("", ""))[0]
    if job.status != Status.RUNNING or not title:
        return reason
    return f"{title}, step {job.stage_step} of {job.stage_total}" if job.stage_total else title


def headline(result: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return what a result amounts to: layers, the perplexity that grew most, the best speed, the weights."""
    found = [_layers(result), _perplexity(result), _speed(result), _parameters(result)]
    return tuple(figure for figure in found if figure is not None)


def _layers(result: Mapping[str, Any]) -> Figure | None:
    removed, layers = result.get("removed_layers"), result.get("layers")
    return Figure("layers", f"−{len(removed)}", f"of {layers}") if removed and layers else None


def _perplexity(result: Mapping[str, Any]) -> Figure | None:
    both = [
        (item["pruned"] / item["dense"], name, item)
        for name, item in result.get("perplexity", {}).items()
        if item.get("dense") and item.get("pruned")
    ]
    if not both:
        return None
    ratio, name, item = max(both, key=lambda found: found[0])
    note = f"{numbers.significant(item['dense'], 3)} → {numbers.significant(item['pruned'], 3)} on {name}"
    return Figure("perplexity", numbers.ratio(ratio), note)


def _speed(result: Mapping[str, Any]) -> Figure | None:
    ratios = {name: value for name, value in result.get("speed", {}).items() if value}
    if not ratios:
        return None
    name = max(ratios, key=lambda key: ratios[key])
    return Figure("speed", numbers.ratio(ratios[name]), name)


def _parameters(result: Mapping[str, Any]) -> Figure | None:
    both = result.get("parameters") or {}
    if not (both.get("dense") and both.get("pruned")):
        return None
    share = both["pruned"] / both["dense"] - 1
    note = f"{numbers.parameters(both['dense'])} → {numbers.parameters(both['pruned'])}"
    return Figure("parameters", f"{numbers.percent(share)}".replace("-", "−"), note)


def page(job: models.Job, reason: str, story: Story) -> JobPage:
    """Return a job's page."""
    working = job.status not in FINAL and job.status != Status.QUEUED
    title = words.STAGES.get(job.stage or "", ("", ""))[0]
    return JobPage(
        card=card(job, reason),
        job=job,
        stage_title=title if working else "",
        message=story.message if working else "",
        eta=words.duration(job.eta_seconds) if working else "",
        steps=timeline(job, story),
        layers=layer_map(job, story),
        sparks=sparks(story),
        may_cancel=job.status not in FINAL and job.status != Status.CANCELING,
        may_retry=job.status in RETRYABLE,
        sequence=story.sequence,
    )


def timeline(job: models.Job, story: Story) -> tuple[StageStep, ...]:
    """Return the stages of the work with their state and time."""
    reached = STAGES.index(story.stage) if story.stage in STAGES else -1
    return tuple(_step(job, story, index, name, reached) for index, name in enumerate(STAGES))


def _step(job: models.Job, story: Story, index: int, name: str, reached: int) -> StageStep:
    title, meaning = words.STAGES[name]
    seconds = story.seconds.get(name)
    state = _state(job, story, index, name, reached)
    if state == "now" and story.since is not None and job.status != Status.QUEUED:
        seconds = (seconds or 0.0) + max(0.0, (datetime.now(UTC) - story.since).total_seconds())
    return StageStep(name, title, meaning, state, words.duration(seconds) if index <= reached else "")


def _state(job: models.Job, story: Story, index: int, name: str, reached: int) -> str:
    if job.status == Status.SUCCEEDED or index < reached:
        return "done"
    if index > reached:
        return "ahead"
    if name in story.finished:
        return "done"
    return "stopped" if job.status in FINAL else "now"


def layer_map(job: models.Job, story: Story) -> LayerMap | None:
    """Return the live map of the layers, or None before anything is known of them."""
    result = job.result or {}
    count = result.get("layers") or max([*story.layers, *story.chosen], default=-1) + 1
    if not count:
        return None
    places = {layer: place for place, layer in enumerate(story.chosen, 1)}
    top = max((abs(value) for value in story.layers.values()), default=0.0) or 1.0
    name = "identity gap" if story.layers_stage == "stage2" else "gate weight"
    bars = tuple(
        _bar(layer, story.layers.get(layer), top, places.get(layer, 0), name) for layer in range(count)
    )
    return LayerMap(bars, _caption(job, len(places), count), name)


def _bar(layer: int, value: float | None, top: float, place: int, name: str) -> LayerBar:
    said = f"Layer {layer}"
    if value is not None:
        said += f", {name} {numbers.significant(value, 3)}"
    if place:
        said += f", chosen as the {numbers.ordinal(place)}"
    return LayerBar(layer, None if value is None else min(1.0, abs(value) / top), place, said)


def _caption(job: models.Job, chosen: int, count: int) -> str:
    if not chosen:
        return f"{count} layers, none chosen yet"
    verb = "removed" if job.status == Status.SUCCEEDED else "chosen"
    return f"{chosen} of {count} layers {verb}"


def sparks(story: Story) -> tuple[Spark, ...]:
    """Return a small curve for each metric of each stage that has at least two points, latest stage first."""
    order = sorted(story.curves, key=lambda key: (-STAGES.index(key[0]) if key[0] in STAGES else 0, key[1]))
    return tuple(
        _spark(stage, name, story.curves[stage, name])
        for stage, name in order
        if len(story.curves[stage, name].points) > 1
    )


def _spark(stage: str, name: str, curve: Curve) -> Spark:
    values = [value for _, value in curve.points]
    across, up = _scaled(range(len(values)), 100.0), _scaled(values, 28.0)
    points = " ".join(f"{x:.1f},{30.0 - y:.1f}" for x, y in zip(across, up, strict=True))
    title = words.STAGES[stage][0] if stage in words.STAGES else stage
    return Spark(
        words.metric(name),
        title,
        points,
        numbers.significant(values[0], 3),
        numbers.significant(values[-1], 3),
    )


def _scaled(values: Sequence[float], size: float) -> list[float]:
    low, high = min(values), max(values)
    spread = high - low
    return [size / 2 if not spread else size * (value - low) / spread for value in values]
