"""Reading what a child process says of its progress. It works on hostile input: nothing is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from trsp_core.progress import STAGES, Progress, Stage

_MESSAGE_CHARACTERS = 500
_NAME_CHARACTERS = 64
_METRICS = 64
_LAYERS = 4096


def read_progress(data: Any) -> Progress:
    """Return a progress event from its JSON form, cut to size; figures that are not finite are left out.

    Raises:
        ValueError: If it is no progress event.
    """
    if not isinstance(data, Mapping) or data.get("stage") not in STAGES:
        raise ValueError("is no progress event")
    return Progress(
        stage=cast(Stage, data["stage"]),
        step=_count(data.get("step")),
        total=_count(data.get("total")),
        overall=min(max(_figure(data.get("overall")) or 0.0, 0.0), 1.0),
        eta_seconds=_figure(data.get("eta_seconds")),
        message=clean(data.get("message"), _MESSAGE_CHARACTERS),
        metrics=_metrics(data.get("metrics")),
        layers=_layers(data.get("layers")),
        chosen=_chosen(data.get("chosen")),
    )


def clean(value: Any, characters: int) -> str:
    """Return a text that the database can store: no NUL, no lone surrogate, cut to size."""
    if not isinstance(value, str):
        return ""
    return value[:characters].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _count(value: Any) -> int:
    return min(max(value, 0), 2**53) if isinstance(value, int) and not isinstance(value, bool) else 0


def _figure(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def _metrics(value: Any) -> dict[str, float]:
    pairs = list(value.items())[:_METRICS] if isinstance(value, Mapping) else []
    figures = {clean(name, _NAME_CHARACTERS): _figure(item) for name, item in pairs}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _layers(value: Any) -> dict[int, float]:
    pairs = list(value.items())[:_LAYERS] if isinstance(value, Mapping) else []
    figures = {int(name): _figure(item) for name, item in pairs if str(name).isdecimal() and len(name) < 7}
    return {layer: figure for layer, figure in figures.items() if figure is not None}


def _chosen(value: Any) -> tuple[int, ...]:
    return tuple(_count(item) for item in value[:_LAYERS]) if isinstance(value, list) else ()
