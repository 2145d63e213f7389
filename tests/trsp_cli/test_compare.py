"""`trsp compare` on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.trsp_cli.conftest import Said
from tests.trsp_cli.local_work import PERPLEXITY, TEXT, TWO

Trsp = Callable[..., Said]
COMPARE = ("compare", "llama", *TEXT, *PERPLEXITY)
BOTH = (*COMPARE, *TWO, "--methods", "last,random")
RESULT = {"comparison.json", "comparison.html", "comparison.csv", "log.jsonl"}


def test_a_person_gets_the_table_and_where_the_picture_is(trsp: Trsp, here: Path) -> None:
    methods = ("--methods", "last,sleb", "--set", "sleb.protect_first=5", "--out", "out")
    said = trsp(*COMPARE, *TWO, *methods)
    assert said.code == 1
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["dense", "last", "sleb"]
    assert lines[4].split()[1] == "refused"
    assert lines[-1].endswith(str(here / "out" / "comparison.html"))
    assert said.err.splitlines()[-1] == "error no figures for sleb; the other rows are complete."
    assert {path.name for path in (here / "out").iterdir()} == RESULT
    again = trsp("--json", *COMPARE, *TWO, *methods)
    assert again.code == 1
    assert again.json == json.loads((here / "out" / "comparison.json").read_text())
    assert again.json["rows"][2]["method"]["protect_first"] == 5
    assert again.json["rows"][1]["method"]["protect_first"] == 1
    assert again.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "last,shortgtp"), "--methods: is 'shortgtp'"),
        (("--methods", "last,last"), "--methods: names last twice"),
        (("--methods", ","), "--methods: must be a list of at least one method"),
        (
            ("--methods", "last", "--set", "sleb.protect_first=2"),
            "sleb is not among the compared methods last",
        ),
        (("--methods", "last", "--set", "stage2_steps=4"), "none of last has the option stage2_steps"),
        (("--methods", "last", "--set", "last.protect_first=-1"), "--set last.protect_first: is -1"),
        (("--methods", "last", "--set", "last.colour=1"), "--set last.colour: is not a known field"),
        (("--methods", "last", "--set", "protect_first"), "it must be key=value"),
        (("--methods", "last", "--tasks", "piqa"), "--tasks: zero-shot tasks are not in this release"),
        (("--methods", "last", "--set", "evaluation.speed=true"), "--speed: is not measured by a comparison"),
        (("--methods", "last", "--device", "gpu"), "--device: is 'gpu'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    trsp: Trsp, here: Path, arguments: tuple[str, ...], words: str
) -> None:
    said = trsp(*COMPARE, *TWO, *arguments, "--out", "out")
    assert (said.code, said.out) == (2, "")
    assert words in said.err
    assert not (here / "out").exists()


def test_an_option_without_a_method_is_for_all_that_have_it(trsp: Trsp, here: Path) -> None:
    """Every method is then refused for what it protects, so that only the dense row needs a process."""
    methods = ("--methods", "random,sleb+absorb", "--set", "protect_first=5", "--set", "evaluation.windows=1")
    said = trsp("--json", *COMPARE, *TWO, *methods, "--out", "out")
    assert said.code == 1
    assert [row["method"]["protect_first"] for row in said.json["rows"][1:]] == [5, 5]
    assert all(row["problem"]["refused"] for row in said.json["rows"][1:])
    assert [text["windows"] for text in said.json["texts"].values()] == [1]


def _workers(out: Path) -> list[psutil.Process]:
    """Return the living processes that work below `out`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "trsp_core.compare.row_child" in words and any(word.startswith(str(out)) for word in words):
            found.append(process)
    return found


def _struck(out: Path, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own and strike it while the second row is being made."""
    command = [sys.executable, "-m", "trsp_cli.main", *BOTH, "--out", out.name]
    process = subprocess.Popen(
        command, cwd=out.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and not ((out / "checkpoint" / "row-0.json").exists() and _workers(out)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, said, error)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_same_command_goes_on_with_the_row_that_was_struck(
    trsp: Trsp, here: Path, number: signal.Signals, code: int
) -> None:
    out = here / "out"
    struck = _struck(out, number)
    assert (struck.returncode, struck.stdout) == (code, ""), struck.stderr
    if code == 130:
        assert struck.stderr.splitlines()[-1].endswith("and the same command goes on from it.")
    deadline = time.monotonic() + 60
    while _workers(out):
        assert time.monotonic() < deadline, "the row's process outlived the command"
        time.sleep(0.05)
    kept = json.loads((out / "checkpoint" / "row-0.json").read_text())
    said = trsp("--json", *BOTH, "--out", "out")
    assert said.code == 0, said.err
    assert [row["label"] for row in said.json["rows"]] == ["dense", "last", "random"]
    assert said.json["rows"][0]["result"]["peak_rss_bytes"] == kept["result"]["peak_rss_bytes"]
    assert "dense:" not in said.err
    assert {path.name for path in out.iterdir()} == RESULT
