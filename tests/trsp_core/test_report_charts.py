"""The pictures put figures where they belong, and no figure, however odd, breaks a report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trsp_core.reports import example_report
from trsp_core.report import charts, render_html
from trsp_core.report.numbers import ordinal, parameters, seconds, significant
from trsp_core.report.svg import Scale
from trsp_core.results import ChoiceRound, CurvePoint, SpeedResult, StepRecord

FIGURES = st.floats(1e-30, 1e30)
ANY = st.floats(-1e30, 1e30)


def test_scale_maps_its_ends_and_middle() -> None:
    even, factor = Scale(2, 4, 100, 0), Scale(1, 100, 0, 10, True)
    assert (even(2), even(3), even(4)) == (100, 50, 0)
    assert factor(10) == pytest.approx(5)
    assert Scale(7, 7, 0, 10)(7) == 5


@given(FIGURES, FIGURES, st.booleans())
def test_ticks_are_few_and_within(one: float, other: float, logarithmic: bool) -> None:
    low, high = sorted((one, other))
    ticks = Scale(low, high, 0, 1, logarithmic).ticks(5)
    assert len(ticks) <= 13
    assert ticks == sorted(set(ticks))
    assert all(low - 1e-6 * high <= tick <= high + 1e-6 * high for tick in ticks)


def test_line_goes_through_its_points() -> None:
    series = charts.Series("a", "r-kept", ((0, 0), (5, 10), (10, 0)))
    found = ET.fromstring(charts.lines([series], label="l", x_label="x", y_label="y"))
    line = found.find(".//{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    (x1, y1), (x2, y2), (x3, y3) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y1 == y3 > y2


def test_the_chosen_layer_is_ringed_and_the_least_is_faintest() -> None:
    rounds = [ChoiceRound(2, {1: 0.5, 2: 0.1, 3: 0.9}), ChoiceRound(1, {1: 0.4, 3: 0.8})]
    svg = charts.score_map(rounds, 5, "l")
    ringed = re.findall(r'fill-opacity="([\d.]+)" class="r-score r-chosen"><title>([^<]+)', svg)
    assert ringed == [("0.12", "round 1, layer 2: 0.1000"), ("0.12", "round 2, layer 1: 0.4000")]
    assert svg.count("<rect") == 5


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FIGURES, min_size=1, max_size=4), st.lists(ANY, min_size=1, max_size=4), st.integers(1, 5000))
def test_no_figure_breaks_a_report(positive: list[float], signed: list[float], step: int) -> None:
    report = example_report()
    scores = dict(enumerate(signed))
    odd = replace(
        report,
        curve=tuple(CurvePoint(index, None, value, 1) for index, value in enumerate(positive)),
        stage2=tuple(StepRecord(step + index, value, abs(value), 1e-4) for index, value in enumerate(signed)),
        identity_gap={index: (abs(value), 0.0) for index, value in enumerate(signed)},
        plan=replace(report.plan, rounds=(ChoiceRound(0, scores, {}, None),)),
        speed={"prompt": SpeedResult(1, 1, "ms", positive[0], 1.2, 3, (positive[0], positive[-1]), False)},
        timings={"stage1": 0.0, "stage2": positive[0]},
    )
    for svg in re.findall(r"<svg.*?</svg>", render_html(odd), re.DOTALL):
        ET.fromstring(svg)
        assert "nan" not in svg
        assert not re.search(r'="-?inf"', svg)


@pytest.mark.parametrize("layers", [2, 12, 48, 126])
def test_score_map_stays_within_its_box(layers: int) -> None:
    scores = {layer: float(layer) for layer in range(layers)}
    svg = charts.score_map([ChoiceRound(0, scores)] * max(1, layers // 2), layers, "l")
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())  # type: ignore[union-attr]
    for x, y, wide, high in re.findall(r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg):
        assert float(x) + float(wide) <= width
        assert float(y) + float(high) <= height


def test_numbers_as_people_write_them() -> None:
    assert significant(21477.3) == "21,477"
    assert significant(14.7312) == "14.73"
    assert significant(0) == "0"
    assert significant(9.5e-7) == "9.5e-7"
    assert parameters(1_500_000_000) == "1.500\u00a0B"
    assert (seconds(59.96), seconds(143), seconds(11_100)) == (
        "1\u00a0min 00\u00a0s",
        "2\u00a0min 23\u00a0s",
        "3\u00a0h 05\u00a0min",
    )
    assert [ordinal(value) for value in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]
    )
