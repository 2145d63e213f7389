"""Progress and summary in the terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.trsp_core.reports import bare_report, example_report
from trsp_cli import render
from trsp_cli.render import (
    ProgressView,
    layer_line,
    plain_line,
    printable,
    summary_rows,
    summary_table,
    summary_text,
)
from trsp_core.progress import Progress

EVENT = Progress(
    stage="stage1",
    step=3,
    total=8,
    overall=0.31,
    eta_seconds=75.2,
    message="round 4",
    metrics={"loss": 2.71, "identity_gap": 0.2, "inner": 7.0},
    layers={1: 0.0, 2: 0.5, 4: 1.0},
    chosen=(3,),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    return console, file


def _step(step: int, stage: str = "stage1", total: int = 8) -> Progress:
    return Progress.from_dict({"stage": stage, "step": step, "total": total, "overall": step / 10})


def test_json_form_reads_back() -> None:
    assert Progress.from_dict(json.loads(json.dumps(EVENT.to_dict()))) == EVENT
    assert Progress.from_dict({**EVENT.to_dict(), "sequence": 4}) == EVENT


def test_plain_line_says_all() -> None:
    words = "[ 31%] stage1 3/8 · round 4 · loss 2.710 · gap 0.2000 · 1 min 15 s left"
    assert plain_line(EVENT) == words


def test_layers_are_blocks_crosses_and_dots() -> None:
    assert layer_line(EVENT.layers, EVENT.chosen).plain == "layers ·▁▅×█"


def test_plain_lines_are_throttled_but_turns_are_told() -> None:
    console, file = _console(terminal=False)
    clock = Clock()
    with ProgressView(console, clock=clock) as view:
        for step in range(9):
            view.update(_step(step))
            view.update(_step(step).to_dict())
            clock.now += 1.0
        view.update(_step(0, "surgery"))
    told = [line.split()[2:4] for line in file.getvalue().splitlines()]
    assert told == [["stage1", "0/8"], ["stage1", "5/8"], ["stage1", "8/8"], ["surgery", "0/8"]]


def test_live_view_shows_stages_bar_and_layers_and_leaves_nothing_behind() -> None:
    console, file = _console(terminal=True)
    with ProgressView(console) as view:
        view.update(EVENT)
        shown = file.getvalue()
    assert "✓\u00a0calibrate" in shown
    assert "●\u00a0stage1" in shown
    assert "○\u00a0round\u00a0trip" in shown
    assert "31%" in shown
    assert "▁▅×█" in shown
    assert "\x1b[?25l" in shown
    assert file.getvalue().count("\x1b[?25h") == 1


def test_live_view_keeps_the_last_layers_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LIVE_INTERVAL", 0.0)
    console, file = _console(terminal=True)
    with ProgressView(console) as view:
        view.update(EVENT)
        view.update(_step(4))
    assert file.getvalue().count("▁▅×█") == 3


def test_terminal_is_restored_when_the_work_fails() -> None:
    console, file = _console(terminal=True)
    view = ProgressView(console)
    view.__enter__().update(EVENT)
    error = RuntimeError("x")
    view.__exit__(RuntimeError, error, None)
    assert "\x1b[?25h" in file.getvalue()


@given(st.text())
def test_words_from_outside_cannot_command_the_terminal(words: str) -> None:
    line = plain_line(Progress.from_dict({**EVENT.to_dict(), "message": words, "stage": words}))
    assert "\x1b" not in line
    assert "\n" not in line
    assert all(sign.isprintable() for sign in printable(words))


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    console, file = _console(terminal=False)
    with ProgressView(console) as view:
        view.update({**EVENT.to_dict(), "message": "[red]x[/red] [/nope]"})
    assert "[red]x[/red] [/nope]" in file.getvalue()


def test_summary_has_the_report_s_figures() -> None:
    report = example_report().to_dict()
    rows = {row.name: row for row in summary_rows(report)}
    assert (rows["layers"].dense, rows["layers"].pruned) == ("30", "22")
    assert rows["perplexity text:valid.txt"].ratio == "1.77×"
    assert "perplexity python-docs (calibration text)" in rows
    assert rows["prompt speed, ms"].ratio == "1.30× (at most 1.31×)"
    assert rows["parameters"].pruned == "106.2\u00a0M"


def test_table_and_text_say_the_same() -> None:
    report = example_report().to_dict()
    console, file = _console(terminal=False)
    console.print(summary_table(report))
    for row in summary_rows(report):
        for cell in (row.name, row.dense, row.pruned, row.ratio):
            assert cell in file.getvalue()
            assert cell.replace("\u00a0", " ") in summary_text(report)
    assert summary_text(report).startswith("8 of 30 layers removed: 6, 9, 11, 13, 20, 22, 24, 26\n")


def test_summary_of_a_bare_report() -> None:
    text = summary_text(bare_report().to_dict())
    assert text.startswith("3 of 30 layers removed: 26, 27, 28")
    assert "perplexity" not in text
    assert "speed" not in text
