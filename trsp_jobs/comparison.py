"""The key figures of several jobs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of each job.

    Attributes:
        name: What it is, with the set or the speed test it belongs to: `perplexity/ptb`.
        unit: What it counts or measures.
        better: Which value is better.
        values: One a job, in their order; None where a job has not measured it.
        best: Places of the jobs with the best value; none where no value is better or only one job has one.
    """

    name: str
    unit: str
    better: Better
    values: tuple[float | None, ...]
    best: tuple[int, ...]


def side_by_side(results: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Return the figures of jobs' headlines (`Job.result`), a row for each that any of them has."""
    rows = [
        _row("layers removed", "layers", "neither", results, lambda item: len(item["removed_layers"])),
        _row("parameters", "weights", "lower", results, lambda item: item["parameters"]["pruned"]),
        _row("parameters dense", "weights", "neither", results, lambda item: item["parameters"]["dense"]),
    ]
    for name in _names(results, "perplexity"):
        rows.append(_row(f"perplexity/{name}", "", "lower", results, _pruned(name)))
        rows.append(_row(f"perplexity ratio/{name}", "of dense", "lower", results, _ratio(name)))
    for name in _names(results, "speed"):
        rows.append(_row(f"speed/{name}", "of dense", "higher", results, _speed(name)))
    rows.append(_row("time", "seconds", "lower", results, lambda item: item["seconds"]))
    rows.append(_row("peak memory", "bytes", "lower", results, lambda item: item["peak_rss_bytes"]))
    return tuple(row for row in rows if any(value is not None for value in row.values))


def _pruned(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda item: item["perplexity"][name]["pruned"]


def _ratio(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda item: item["perplexity"][name]["pruned"] / item["perplexity"][name]["dense"]


def _speed(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda item: item["speed"][name]


def _names(results: Sequence[Mapping[str, Any]], part: str) -> list[str]:
    return sorted({name for item in results for name in item.get(part, {})})


def _row(
    name: str,
    unit: str,
    better: Better,
    results: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], Any],
) -> Row:
    values = tuple(_value(item, read) for item in results)
    return Row(name, unit, better, values, _best(values, better))


def _value(item: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Any]) -> float | None:
    try:
        value = read(item)
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return None if value is None else float(value)


def _best(values: Sequence[float | None], better: Better) -> tuple[int, ...]:
    known = [value for value in values if value is not None]
    if better == "neither" or len(known) < 2:
        return ()
    best = min(known) if better == "lower" else max(known)
    return tuple(place for place, value in enumerate(values) if value == best)
