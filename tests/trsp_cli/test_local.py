"""`trsp prune`, `plan`, `remove` and `evaluate` on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trsp_cli.conftest import Said
from tests.trsp_cli.local_work import HELD, PERPLEXITY, PRUNE, QUICK, RESULT, TEXT, TWO, WINDOWS, tree
from trsp_cli.main import run
from trsp_core import removal
from trsp_core.errors import RoundTripFailed

Trsp = Callable[..., Said]
_BOXES = set("┏━┃│└┘\x1b")


def test_prune_tells_a_person_and_again_the_same(trsp: Trsp, here: Path) -> None:
    said = trsp(*PRUNE, *TWO, "--out", "out")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("2 of 6 layers removed: ")
    assert [line.split()[0] for line in lines[2:]] == [
        "layers",
        "perplexity",
        "parameters",
        "size",
        "model",
        "report",
    ]
    assert lines[-1].endswith(str(here / "out" / "report.html"))
    assert not _BOXES & set(said.out + said.err)
    assert "stage1" in said.err
    assert {path.name for path in (here / "out").iterdir()} == RESULT
    again = trsp(*PRUNE, *TWO, "--out", "out")
    assert (again.code, again.out, again.err) == (0, said.out, "")


def test_prune_as_json_gives_the_report_and_nothing_else(trsp: Trsp, here: Path, trusting: None) -> None:
    said = trsp("--json", *PRUNE, "--sparsity", "0.34", "--out", "deep/er/out")
    assert said.code == 0, said.err
    assert said.json == json.loads((here / "deep/er/out/report.json").read_text())
    assert len(said.json["plan"]["removed_layers"]) == 2
    assert said.out.count("\n") == 1
    assert "stage1" in said.err


def test_max_params_speed_and_a_baseline(trsp: Trsp, here: Path, trusting: None) -> None:
    sizes = ("prompt_tokens=16", "batch=2", "generation_prompt=4", "new_tokens=4", "repeats=3", "warmup=0")
    settings = [item for size in sizes for item in ("--set", f"evaluation.speed.{size}")]
    arguments = ("prune", "llama", "--max-params", "0.045M", *TEXT, *PERPLEXITY, "--method", "last")
    said = trsp("--json", *arguments, "--set", "dtype=float32", "--seed", "3", *settings, "--out", "out")
    assert said.code == 0, said.err
    assert said.json["size"]["pruned_parameters"] <= 45_000
    assert set(said.json["speed"]) == {"prompt", "generation"}
    assert said.json["speed"]["generation"]["repeats"] == 3
    assert (said.json["seed"], said.json["spec"]["dtype"]) == (3, "float32")
    assert (
        "speed, tokens/s"
        in trsp(*arguments, "--set", "dtype=float32", "--seed", "3", *settings, "--out", "out").out
    )


def test_a_plan_is_removed_and_judged(trsp: Trsp, here: Path) -> None:
    planned = trsp("plan", "llama", *TEXT, *TWO, "--set", "stage1_steps=2", "--out", "plan.json")
    assert planned.code == 0, planned.err
    plan = json.loads((here / "plan.json").read_text())
    assert planned.out.splitlines()[0] == (
        f"2 of 6 layers, in order of choice: {', '.join(map(str, plan['order']))}"
    )
    assert not (here / "plan.json.working").exists()

    removed = trsp("remove", "llama", "--plan", "plan.json", "--out", "small")
    assert (removed.code, removed.out) == (0, f"2 of 6 layers removed: {here / 'small'}\n")
    config = json.loads((here / "small" / "config.json").read_text())
    assert config["num_hidden_layers"] == 4

    judged = trsp("evaluate", "small", "--against", "llama", *PERPLEXITY)
    assert judged.code == 0, judged.err
    assert not _BOXES & set(judged.out + judged.err)
    title, head, row = judged.out.splitlines()
    assert (title, head.split()) == ("small against llama", ["dense", "given", "ratio"])
    figures = trsp("--json", "evaluate", "small", "--against", "llama", *PERPLEXITY).json["perplexity"]
    found = figures["text:text.txt"]
    assert row.split()[-1] == f"{found['pruned'] / found['dense']:.2f}×"


def test_plan_as_json(trsp: Trsp, here: Path) -> None:
    said = trsp("plan", "llama", *TEXT, *TWO, "--method", "shortgpt", "--out", "plan.json", "--json")
    assert said.code == 0, said.err
    assert said.json == json.loads((here / "plan.json").read_text())
    assert said.json["method"] == "shortgpt"
    assert said.json["resources"]["forward_tokens"] > 0


def test_remove_as_json_and_by_indices(trsp: Trsp, here: Path) -> None:
    said = trsp("--json", "remove", "llama", "--layers", "4, 1", "--out", "small")
    assert said.json == {
        "model": str(here / "small"),
        "removed_layers": [1, 4],
        "kept_layers": [0, 2, 3, 5],
    }


def test_evaluate_one_model(trsp: Trsp, here: Path) -> None:
    said = trsp("evaluate", "llama", *PERPLEXITY)
    assert said.code == 0, said.err
    assert [line.split() for line in said.out.splitlines()][:2] == [["llama"], ["given"]]
    data = trsp("--json", "evaluate", "llama", *PERPLEXITY).json
    assert data["against"] is None
    assert data["perplexity"]["text:text.txt"]["windows"] == 3


def test_help_shows_the_forms_of_a_model(trsp: Trsp) -> None:
    for command in ("prune", "plan", "remove", "evaluate"):
        assert "[hf:]ORG/NAME[@REVISION]" in trsp(command, "--help").out


def test_work_that_fails_is_1(trsp: Trsp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RoundTripFailed("the saved model is not the model that was made")

    monkeypatch.setattr("trsp_core.job.round_trip", broken)
    said = trsp("--json", *PRUNE, *TWO, "--out", "out")
    assert (said.code, said.json["error"]["code"]) == (1, "round_trip_failed")
    assert said.err.splitlines()[-1] == "error the saved model is not the model that was made"


# Interruptions


def test_ctrl_c_in_the_middle_of_a_removal_leaves_nothing(
    trsp: Trsp, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = removal.remove_streamed

    def interrupted(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        whole(*arguments, **options)

    monkeypatch.setattr(removal, "remove_streamed", interrupted)
    before = tree(here)
    said = trsp("remove", "llama", "--layers", "1", "--out", "out")
    assert (said.code, said.out) == (130, "")
    assert said.err.splitlines()[-1] == "interrupted: nothing was written."
    assert tree(here) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_at_once(trsp: Trsp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stubborn(*_: object, **__: object) -> None:
        for _again in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(removal, "remove_streamed", stubborn)
    said = trsp("--json", "remove", "llama", "--layers", "1", "--out", "out")
    assert (said.code, said.json["error"]["code"]) == (130, "interrupted")


LONG = ("prune", "llama", *TEXT, "--perplexity", "text:text.txt", *WINDOWS, *TWO)
LONG_SETTINGS = ("--set", "stage1_steps=2", "--set", "stage2_steps=60", "--set", "checkpoint_every=10")


@pytest.fixture(scope="session")
def whole(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(furnished)
        patch.setattr("trsp_core.job.round_trip", lambda *_, **__: HELD)
        assert run([*LONG, *LONG_SETTINGS, "--out", str(out)]) == 0
    return out


def _struck(out: Path, moment: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run the long command in a process of its own and strike it once its log speaks of `moment`."""
    command = [sys.executable, "-m", "trsp_cli.main", *LONG, *LONG_SETTINGS, "--out", out.name]
    process = subprocess.Popen(
        command, cwd=out.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    log = out / "log.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (log.exists() and moment in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    said, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, said, error)


def _same(one: Path, other: Path) -> None:
    assert (one / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()
    reports = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    for field in ("plan", "perplexity", "curve", "identity_gap", "stage2"):
        assert reports[0][field] == reports[1][field], field


STAGE1 = '"stage": "stage1", "step": 1'
STAGE2 = '"stage": "stage2", "step": 25'


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [(STAGE2, signal.SIGINT, 130), (STAGE1, signal.SIGKILL, -9), (STAGE2, signal.SIGKILL, -9)],
)
def test_the_same_command_goes_on_after(
    trsp: Trsp, here: Path, whole: Path, trusting: None, moment: str, number: signal.Signals, code: int
) -> None:
    out = here / "out"
    struck = _struck(out, moment, number)
    assert (struck.returncode, struck.stdout) == (code, ""), struck.stderr
    assert (out / "checkpoint" / "spec.json").exists()
    assert not (out / "report.json").exists()
    if code == 130:
        words = f"the checkpoint is in {out / 'checkpoint'}, and the same command goes on from it."
        assert struck.stderr.splitlines()[-1] == f"interrupted: {words}"
    before = len((out / "log.jsonl").read_text())
    said = trsp(*LONG, *LONG_SETTINGS, "--out", "out")
    assert said.code == 0, said.err
    _same(out, whole)
    assert {path.name for path in out.iterdir()} == RESULT
    stages = {json.loads(line)["stage"] for line in (out / "log.jsonl").read_text()[before:].splitlines()}
    assert "report" in stages
    assert ("stage1" in stages) == (moment == STAGE1)


def test_a_process_of_its_own_prints_one_object(here: Path) -> None:
    command = [sys.executable, "-m", "trsp_cli.main", "--json", *PRUNE, *TWO, "--out", "out"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["round_trip"]["ok"]
    assert "Warning" not in done.stderr
    assert QUICK[1] == "stage1_steps=2"
    assert report["spec"]["method"]["stage1_steps"] == 2
