"""The regression gate: what passes, what does not, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.trsp_core.reports import example_report
from trsp_core.errors import InvalidSpec
from trsp_jobs.slots.figures import Figures, Perplexity, Speed
from trsp_jobs.slots.gate import Offer, compare

SIZES = {"batch": 1, "prompt_tokens": 64}


def figures(perplexity: float = 10.0, ratio: float = 1.3, **changes: Any) -> Figures:
    found = Figures({"ptb": Perplexity(perplexity, "text")}, {"prompt": Speed(ratio, SIZES)})
    return replace(found, **changes)


def offer(**margins: Any) -> Offer:
    return Offer.from_dict({"slot": "s", **margins})


def test_an_empty_slot_takes_anything() -> None:
    assert compare(offer(), None, Figures({}, {})).accepted


def test_the_same_figures_pass_without_any_margin() -> None:
    assert compare(offer(perplexity=0, speed=0), figures(), figures()).accepted


@pytest.mark.parametrize(("perplexity", "accepted"), [(10.1, True), (10.11, False)])
def test_perplexity_may_grow_by_its_margin(perplexity: float, accepted: bool) -> None:
    verdict = compare(offer(perplexity=0.01), figures(), figures(perplexity))
    assert verdict.accepted is accepted
    assert verdict.lines[0].limit == pytest.approx(10.1)


@pytest.mark.parametrize(("ratio", "accepted"), [(1.25, True), (1.2, False)])
def test_speed_may_fall_by_its_margin(ratio: float, accepted: bool) -> None:
    assert compare(offer(speed=0.05), figures(), figures(ratio=ratio)).accepted is accepted


def test_a_set_may_have_a_margin_of_its_own() -> None:
    wide = offer(perplexity=0, perplexity_of={"ptb": 0.5})
    assert compare(wide, figures(), figures(14.9)).accepted
    assert not compare(offer(perplexity_of={"c4": 0.5}), figures(), figures(14.9)).accepted


def test_a_figure_that_nobody_measured_does_not_pass() -> None:
    verdict = compare(offer(), figures(), figures(speed={}))
    assert not verdict.accepted
    assert verdict.reason == "speed/prompt was not measured"


def test_only_the_same_ground_is_compared() -> None:
    other = replace(figures(), perplexity={"ptb": Perplexity(5.0, "other text")})
    assert compare(offer(), figures(), other).reason == "perplexity/ptb was measured on other tokens"
    sizes = figures(speed={"prompt": Speed(9.0, {"batch": 2})})
    assert compare(offer(), figures(), sizes).reason == "speed/prompt was measured in other sizes"


def test_the_reason_names_every_figure_that_is_worse() -> None:
    reason = compare(offer(perplexity=0, speed=0), figures(), figures(12.0, 1.0)).reason
    assert reason == "perplexity/ptb is 12, above the limit of 10; speed/prompt is 1, below the limit of 1.3"


def test_a_report_gives_its_figures_and_they_read_back() -> None:
    found = Figures.from_report(example_report().to_dict())
    assert set(found.perplexity) == set(example_report().perplexity)
    assert found.speed
    assert Figures.from_dict(found.to_dict()) == found


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(["perplexity", "speed", "ptb", "pruned", "ratio", "sizes", "text_sha256"]), inner
        ),
    )
)
def test_nothing_in_a_report_is_believed(report: Any) -> None:
    found = Figures.from_report(
        report if isinstance(report, dict) else {"perplexity": report, "speed": report}
    )
    assert Figures.from_dict(found.to_dict()) == found
    assert all(0 < item.pruned < float("inf") for item in found.perplexity.values())


shares = st.floats(0, 0.9)
values = st.floats(0.1, 1e6)


@given(values, values, shares, shares)
def test_a_wider_margin_never_refuses_what_a_narrower_one_takes(
    current: float, new: float, narrow: float, wide: float
) -> None:
    narrow, wide = sorted((narrow, wide))
    taken = compare(offer(perplexity=narrow), figures(current), figures(new)).accepted
    assert not taken or compare(offer(perplexity=wide), figures(current), figures(new)).accepted


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/slot"),
        ({"slot": "A B"}, "/slot"),
        ({"slot": "../x"}, "/slot"),
        ({"slot": 3}, "/slot"),
        ({"slot": "s", "perplexity": -0.1}, "/perplexity"),
        ({"slot": "s", "speed": 1}, "/speed"),
        ({"slot": "s", "perplexity_of": {"ptb": "x"}}, "/perplexity_of/ptb"),
        ({"slot": "s", "perplexity_of": {"text:/a": 11}}, "/perplexity_of/text:~1a"),
        ({"slot": "s", "perplexity_of": 3}, "/perplexity_of"),
        ({"slot": "s", "margin": 1}, "/margin"),
        ("s", ""),
    ],
)
def test_a_wrong_offer_is_refused_by_field(data: Any, pointer: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Offer.from_dict(data)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_an_offer_reads_back() -> None:
    made = offer(perplexity_of={"ptb": 1})
    assert Offer.from_dict(made.to_dict()) == made
