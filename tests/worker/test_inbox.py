from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trsp_core.progress import Progress, Stage
from worker.inbox import LINE_BYTES, Inbox, LineReader


def event(stage: Stage, step: int) -> Progress:
    return Progress(stage=stage, step=step, total=10, overall=0.1)


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


@given(st.lists(st.binary(max_size=20).filter(lambda text: b"\n" not in text)), st.lists(st.integers(1, 9)))
def test_lines_come_out_however_the_bytes_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    data, reader, found = b"".join(item + b"\n" for item in lines), LineReader(), []
    for cut in [*cuts, len(data)]:
        found += list(reader.feed(data[:cut]))
        data = data[cut:]
    assert found == lines


def test_a_line_that_is_too_long_is_dropped_and_not_held() -> None:
    reader = LineReader()
    assert list(reader.feed(b"first\n")) == [b"first"]
    for _ in range(50):
        assert list(reader.feed(b"x" * 100_000)) == []
        assert len(reader._begun) <= LINE_BYTES
    assert list(reader.feed(b"end of it\nnext\n")) == [b"next"]
    assert list(reader.feed(b"y" * LINE_BYTES + b"\n")) == [b"y" * LINE_BYTES]


def test_of_each_stage_the_latest_event_waits() -> None:
    inbox = Inbox()
    for stage, step in [("stage1", 1), ("stage1", 2), ("stage2", 1), ("stage2", 5), ("evaluate", 1)]:
        inbox.feed(line(type="progress", data=event(stage, step).to_dict()))  # type: ignore[arg-type]
    assert inbox.take() == [event("stage1", 2), event("stage2", 5), event("evaluate", 1)]
    assert inbox.take() == []


def test_events_put_back_stand_before_newer_ones() -> None:
    inbox = Inbox()
    inbox.put([event("stage1", 1), event("stage2", 1)])
    taken = inbox.take()
    inbox.put([event("stage2", 2)])
    inbox.put_back(taken)
    assert inbox.take() == [event("stage1", 1), event("stage2", 2)]


def test_a_child_that_changes_its_stage_all_the_time_fills_no_memory() -> None:
    inbox = Inbox()
    for step in range(5000):
        inbox.put([event("stage1" if step % 2 else "stage2", step)])
    assert len(inbox.take()) == 200


def test_nonsense_is_counted_and_passed_over() -> None:
    inbox = Inbox()
    inbox.feed(b"nonsense\n\xff\n3\n[]\n{}\n" + line(type="lunch") + line(type="progress", data=3))
    inbox.feed(b"[" * 200_000 + b"\n")
    inbox.feed(line(type="progress", data=event("stage1", 1).to_dict()))
    assert inbox.refused == 8
    assert len(inbox.take()) == 1


def test_an_error_is_read_with_its_problems_and_cut_to_size() -> None:
    inbox = Inbox()
    problem = {"pointer": "/model", "message": "no", "value": 3, "allowed": ["a", "b"], "extra": "x" * 10_000}
    inbox.feed(line(type="error", code="model_refused", message="m" * 10_000, problems=[problem, 7]))
    assert inbox.error is not None
    assert (inbox.error.code, len(inbox.error.message)) == ("model_refused", 4000)
    expected = {"pointer": "/model", "message": "no", "value": "3", "allowed": ["a", "b"]}
    assert inbox.error.problems == (expected, {})
