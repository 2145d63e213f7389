from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsp_core.progress import Progress
from trsp_jobs.progress import clean, read_progress

EVENT = Progress(
    stage="stage1",
    step=3,
    total=8,
    overall=0.25,
    eta_seconds=12.5,
    message="round 3",
    metrics={"loss": 2.5},
    layers={0: 0.5, 12: 1.0},
    chosen=(12, 3),
)


def test_an_event_comes_through_json_unchanged() -> None:
    assert read_progress(json.loads(json.dumps(EVENT.to_dict()))) == EVENT


@pytest.mark.parametrize("data", [None, 3, [], {}, {"stage": "lunch"}, {"stage": ["stage1"]}])
def test_what_is_no_event_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="no progress event"):
        read_progress(data)


def test_figures_that_are_not_finite_are_left_out() -> None:
    data = {**EVENT.to_dict(), "overall": float("nan"), "eta_seconds": float("inf")}
    data["metrics"] = {"loss": float("nan"), "gap": 1.0}
    event = read_progress(data)
    assert (event.overall, event.eta_seconds, event.metrics) == (0.0, None, {"gap": 1.0})


def test_long_texts_are_cut_and_unstorable_characters_removed() -> None:
    assert clean("a\0b\ud800", 10) == "ab?"
    assert len(read_progress({**EVENT.to_dict(), "message": "x" * 10_000}).message) == 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = ("step", "total", "overall", "eta_seconds", "message", "metrics", "layers", "chosen")


@given(st.fixed_dictionaries({"stage": st.just("stage2")}, optional=dict.fromkeys(FIELDS, JSON)))
def test_whatever_the_fields_hold_the_event_is_well_formed(data: dict[str, Any]) -> None:
    event = read_progress(data)
    text = json.dumps(event.to_dict(), allow_nan=False)
    assert "\\u0000" not in text
    assert 0 <= event.overall <= 1
    text.encode()
