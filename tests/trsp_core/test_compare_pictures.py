"""Who is ahead, where the names stand, and what the pictures show."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trsp_core.comparisons import HOME, comparison, example, result, row
from trsp_core.compare.labels import Box, placed
from trsp_core.compare.pictures import Mark, cost_floor, cost_panel, layers_taken
from trsp_core.compare.ranking import best_places, contenders, frontier, ranked
from trsp_core.compare.results import RowResult
from trsp_core.report.facts import Fact

FIGURES = st.lists(
    st.tuples(st.floats(0, 1e6, allow_nan=False), st.floats(1, 1e6, allow_nan=False)), min_size=1, max_size=9
)


def on_home(figures: RowResult) -> float:
    return figures.perplexity[HOME]


def seconds(figures: RowResult) -> float:
    return figures.seconds


def test_references_and_failed_rows_do_not_compete() -> None:
    labels = [item.row.label for item in contenders(example())]
    assert labels == [
        "shortgpt",
        "shortgpt+tune",
        "sleb",
        "sleb+tune",
        "trsp",
        "trsp without stage 2",
        "last",
    ]
    assert ranked(contenders(example()), on_home)[0].row.label == "trsp"


def test_equals_share_the_best_and_all_equal_have_none() -> None:
    found = contenders(example())
    assert best_places(found, lambda item: float(item.gradient_tokens)) == {2, 4, 7, 8}
    assert best_places(found, lambda item: float(len(item.order))) == frozenset()
    assert best_places((), on_home) == frozenset()


@given(FIGURES)
def test_the_frontier_holds_exactly_those_whom_nobody_beats(figures: list[tuple[float, float]]) -> None:
    rows = [row(str(n), result(y, 1.0, choosing_seconds=x)) for n, (x, y) in enumerate(figures)]
    found = contenders(comparison(*rows))
    front = frontier(found, seconds, on_home)
    costs, values = [seconds(item.result) for item in front], [on_home(item.result) for item in front]
    assert costs == sorted(set(costs))
    assert values == sorted(set(values), reverse=True)
    for item in found:
        as_good = (
            seconds(f.result) <= seconds(item.result) and on_home(f.result) <= on_home(item.result)
            for f in front
        )
        assert any(as_good)


def test_names_in_a_crowd_do_not_overlap() -> None:
    marks = [(f"method {n}", 200.0 + 14 * (n % 3), 150.0 + 12 * (n // 3)) for n in range(7)]
    area = Box(50, 20, 440, 290)
    labels = placed(marks, area)
    assert [label.words for label in labels] == [name for name, _, _ in marks]
    assert all(label.box.within(area) for label in labels)
    assert not any(one.box.shared_with(other.box) for one, other in combinations(labels, 2))


def test_a_name_with_room_stands_right_beside_its_mark() -> None:
    (label,) = placed([("trsp", 100.0, 100.0)], Box(0, 0, 440, 300))
    assert (label.x, label.anchor, label.far) == (109.0, "start", False)
    (label,) = placed([("trsp", 430.0, 100.0)], Box(0, 0, 440, 300))
    assert label.anchor == "end"


def mark(name: str, cost: float, perplexity: float) -> Mark:
    return Mark(
        name, "r-forward", Fact(cost, f"{cost} s", "/cost"), Fact(perplexity, f"{perplexity}", "/ppl")
    )


def test_the_cheaper_is_further_left_and_the_better_is_lower() -> None:
    marks = [mark("slow and good", 400.0, 20.0), mark("quick and bad", 4.0, 200.0), mark("free", 0.0, 250.0)]
    drawn = str(cost_panel(marks, marks[:1], Fact(13.0, "13", "/dense"), label="x"))
    spots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert spots[2][0] < spots[1][0] < spots[0][0]
    assert spots[2][1] < spots[1][1] < spots[0][1]
    assert "dense" in drawn


def test_a_ruined_model_stands_at_the_edge_with_its_figure_and_does_not_flatten_the_rest() -> None:
    marks = [mark("good", 400.0, 20.0), mark("fair", 40.0, 40.0), mark("ruined", 4.0, 5e6)]
    drawn = str(cost_panel(marks, marks[:1], Fact(13.0, "13", "/dense"), label="x"))
    good, fair = (float(y) for y in re.findall(r'cy="([\d.]+)"', drawn))
    assert good - fair > 30
    assert drawn.count("<polygon") == 1
    assert "ruined (5000000.0)" in drawn


@pytest.mark.parametrize(("costs", "floor"), [([400.0, 0.0], 0.4), ([0.0], 0.01), ([], 0.01)])
def test_what_costs_nothing_still_has_a_place(costs: list[float], floor: float) -> None:
    assert cost_floor(costs) == pytest.approx(floor)


def test_each_removed_layer_is_filled_once_in_its_order() -> None:
    drawn = str(layers_taken([("trsp", (7, 2)), ("last", (9, 8))], 12, label="x"))
    assert drawn.count('class="r-went"') == 4
    assert drawn.count('class="r-stays"') == 20
    assert "layer 7, 1st to go" in drawn
    assert "layer 2, 2nd to go" in drawn
    first, second = (
        float(re.findall(rf'fill-opacity="([\d.]+)"><title>layer {n},', drawn)[0]) for n in (7, 2)
    )
    assert first > second
