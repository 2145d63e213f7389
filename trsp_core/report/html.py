"""report.html: one file that needs nothing else, and the part of it that the dashboard embeds."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from trsp_core.report import figures, headlines, layer_map
from trsp_core.report.certificate import certificate
from trsp_core.report.facts import Facts, pointer
from trsp_core.results import CompressionReport

_ABSENT = "not given"
TEMPLATES = Path(__file__).parent / "templates"


def render_html(report: CompressionReport) -> str:
    """Return a whole page: style sheet inside, no script, no request to anywhere."""
    return template("page.html").render(**_view(report), css=style_sheet())


def render_fragment(report: CompressionReport) -> str:
    """Return the report's `<article>` alone; its page must serve `templates/report.css`.

    It holds no script, style element or style attribute, so that a strict content security policy passes it.
    """
    return template("fragment.html").render(**_view(report))


def style_sheet() -> Markup:
    """Return the style sheet of all pages, to stand inside one."""
    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def template(name: str) -> Template:
    """Return a page's template."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _view(report: CompressionReport) -> dict[str, Any]:
    facts = Facts(report.to_dict())
    return {
        "report": report,
        "facts": facts,
        "finished": moment(report.finished_at),
        "pointer": pointer,
        "headlines": headlines.headlines(report, facts),
        "certificate": certificate(report, facts),
        "cells": layer_map.cells(report, facts),
        "legend": layer_map.legend(report),
        "speed": figures.speed(report, facts),
        "curve": figures.curve(report, facts),
        "scores": figures.scores(report, facts),
        "losses": figures.losses(report, facts),
        "gap_by_step": figures.gap_by_step(report, facts),
        "gap_by_layer": figures.gap_by_layer(report, facts),
        "timings": figures.timings(report, facts),
        "spec_rows": flat(report.spec),
        "environment_rows": [row for row in flat(report.environment) if row[1] != _ABSENT],
        "limits": limits(report),
    }


def limits(report: CompressionReport) -> tuple[str, ...]:
    """Return what the figures do not say, in plain words."""
    always = (
        "Perplexity says how well text is predicted, not how well tasks are done; no task was run.",
        "What the removed layers did for other text than was measured here is not known: "
        "try the model on your own.",
    )
    when = (
        (
            any(item.calibration_text for item in report.perplexity.values()),
            "Perplexity on the calibration text flatters the result; read the other sets first.",
        ),
        (
            bool(report.perplexity) and all(item.calibration_text for item in report.perplexity.values()),
            "No text was measured that calibration had not seen.",
        ),
        (
            bool(report.stage2),
            "On text like the calibration's the dense model would have gained, too, by the same training; "
            "that comparison is not made here.",
        ),
        (bool(report.speed), "Speed holds for this machine, these sizes and this precision."),
        (not report.speed, "Speed was not measured."),
    )
    return tuple(words for holds, words in when if holds) + always


def moment(text: str) -> str:
    """Return an ISO time as people write it; anything else as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{at.day} {at:%B %Y, %H:%M} {at.tzname() or ''}".rstrip()


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return the leaves of the spec as dotted names and words."""
    if isinstance(value, Mapping):
        return [
            row for key, item in value.items() for row in flat(item, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list):
        return [(path, ", ".join(str(item) for item in value) or "none")]
    words = {None: _ABSENT, True: "yes", False: "no"}
    return [(path, words[value] if value is None or isinstance(value, bool) else str(value))]
