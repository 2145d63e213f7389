"""A comparison as a whole: rows in processes of their own, figures that a compression gives too, going on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.trsp_cli.local_work import HELD
from tests.trsp_core.comparisons import result
from trsp_core.compare import run as running
from trsp_core.compare.request import DENSE, DENSE_TUNED, ComparisonRequest
from trsp_core.compare.results import Comparison, RowProblem, RowResult
from trsp_core.compare.run import compare
from trsp_core.compare.task import RowTask
from trsp_core.errors import CalibrationRefused, Cancelled, InvalidSpec, OutputRefused, WorkFailed
from trsp_core.pipeline import compress
from trsp_core.progress import Progress
from trsp_core.sources import SourcePolicy

Tiny = Callable[[str], Path]
TRSP = {"name": "trsp", "stage1_steps": 2, "stage2_steps": 3, "batch_sequences": 2}
BEYOND = {"label": "beyond reach", "name": "sleb", "protect_first": 5}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text(" ".join(f"line {number} says {number * 37 % 101}." for number in range(120)))
    return f"text:{path}"


def make_request(model: Path, text: str, *methods: Any, **more: Any) -> ComparisonRequest:
    return ComparisonRequest.from_dict(
        {
            "model": str(model),
            "target": {"layers_to_remove": 2},
            "calibration": {"set": text, "sequences": 4, "sequence_length": 32},
            "methods": list(methods),
            "evaluation": {"perplexity": [text], "windows": 3, "window_length": 32},
            **more,
        }
    )


@dataclass
class Finished:
    request: ComparisonRequest
    folder: Path
    comparison: Comparison
    events: list[Progress] = field(default_factory=list)


@pytest.fixture(scope="module")
def finished(tiny_folder: Tiny, text: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One real comparison, made once."""
    request = make_request(tiny_folder("llama"), text, "last", BEYOND, TRSP)
    folder, events = tmp_path_factory.mktemp("compared") / "out", []
    policy = SourcePolicy(dataset_root=None)
    comparison = compare(request, workdir=folder, on_progress=events.append, policy=policy)
    return Finished(request, folder, comparison, events)


def figures(finished: Finished, label: str) -> RowResult:
    found = finished.comparison.row(label).result
    assert found is not None
    return found


@pytest.mark.parametrize("label", ["last", "trsp"])
def test_a_row_has_the_figures_of_the_same_compression(
    finished: Finished, text: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsp_core.job.round_trip", lambda *_, **__: HELD)
    entry = next(item for item in finished.request.methods if item.label == label)
    report = compress(finished.request.spec_of(entry), workdir=tmp_path / "out")
    row = figures(finished, label)
    assert row.order == report.plan.order
    assert row.perplexity[text] == pytest.approx(report.perplexity[text].pruned, rel=1e-5)
    assert figures(finished, DENSE).perplexity[text] == pytest.approx(report.perplexity[text].dense, rel=1e-5)
    assert (row.gradient_tokens, row.forward_tokens) == (
        report.resources.gradient_tokens,
        report.resources.forward_tokens,
    )


def test_the_references_lose_no_layer_and_the_tuned_one_has_the_same_budget(
    finished: Finished, text: str
) -> None:
    dense, tuned = figures(finished, DENSE), figures(finished, DENSE_TUNED)
    assert (dense.order, dense.gradient_tokens, dense.forward_tokens) == ((), 0, 0)
    assert (tuned.order, tuned.gradient_tokens) == ((), 3 * 2 * 32)
    assert tuned.gradient_tokens == figures(finished, "trsp").gradient_tokens
    assert tuned.perplexity[text] < dense.perplexity[text]


def test_a_method_that_cannot_reach_the_target_has_a_row_that_says_so(finished: Finished) -> None:
    row = finished.comparison.row("beyond reach")
    assert row.result is None
    assert row.problem is not None
    assert (row.problem.refused, row.problem.code) == (True, "invalid_spec")
    assert "at most 0 can go" in row.problem.message
    assert [item.label for item in finished.comparison.failed] == ["beyond reach"]


def test_costs_are_those_of_the_row_alone(finished: Finished) -> None:
    trsp, last = figures(finished, "trsp"), figures(finished, "last")
    assert trsp.transfer_seconds > last.transfer_seconds
    assert trsp.choosing_seconds > 0
    assert 50e6 < last.peak_rss_bytes < 2e9


def test_the_folder_holds_the_results_and_no_work(finished: Finished) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {"comparison.json", "comparison.html", "comparison.csv", "log.jsonl"}
    data = json.loads((finished.folder / "comparison.json").read_text())
    assert Comparison.from_dict(data) == finished.comparison


def test_progress_only_grows_and_names_the_row(finished: Finished) -> None:
    shares = [event.overall for event in finished.events]
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1
    assert finished.events[0].message.startswith("dense: ")
    assert finished.events[-1].message.startswith("trsp: ")


def test_a_finished_folder_gives_what_is_there(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "row_in_process", None)
    policy = SourcePolicy(dataset_root=None)
    assert compare(finished.request, workdir=finished.folder, policy=policy) == finished.comparison


def test_a_folder_of_another_request_is_refused(finished: Finished, tiny_folder: Tiny, text: str) -> None:
    other = make_request(tiny_folder("llama"), text, "last")
    with pytest.raises(OutputRefused, match="another job, with another methods"):
        compare(other, workdir=finished.folder, policy=SourcePolicy(dataset_root=None))


@dataclass
class Rows:
    """Stands in for the processes; gives each task's method what is put in, and is stopped by `Cancelled`."""

    given: dict[str, RowResult | RowProblem | type[Cancelled]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, task: RowTask, on_progress: Any, should_stop: Any) -> RowResult | RowProblem:
        assert task.workdir.is_dir()
        name = "dense" if task.reference else task.spec.method.name
        self.asked.append(name)
        found = self.given[name]
        if isinstance(found, type):
            raise found("stopped")
        return found


@pytest.fixture
def rows(text: str, monkeypatch: pytest.MonkeyPatch) -> Rows:
    made = Rows({name: _figures(text) for name in ("dense", "last", "random", "sleb")})
    monkeypatch.setattr(running, "row_in_process", made)
    return made


def _figures(text: str) -> RowResult:
    return result(1, 1, perplexity={text: 20.0})


def test_rows_that_are_done_are_not_made_again(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    request = make_request(tiny_folder("llama"), text, "last", "random", "sleb")
    rows.given["random"] = Cancelled
    with pytest.raises(Cancelled):
        compare(request, workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out" / "comparison.json").exists()
    assert not list((tmp_path / "out" / "checkpoint").glob("work-*"))
    rows.given["random"], rows.asked = _figures(text), []
    found = compare(request, workdir=tmp_path / "out", policy=policy)
    assert rows.asked == ["random", "sleb"]
    assert [row.label for row in found.rows] == ["dense", "last", "random", "sleb"]


def test_a_failure_is_a_row_and_the_rest_goes_on(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    problem = RowProblem(False, "out_of_memory", "memory ran out")
    rows.given["last"] = problem
    found = compare(
        make_request(tiny_folder("llama"), text, "last", "sleb"), workdir=tmp_path / "out", policy=policy
    )
    assert found.row("last").problem == problem
    assert found.row("sleb").result is not None


def test_nothing_is_compared_with_a_dense_model_that_fails(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    rows.given["dense"] = RowProblem(False, "out_of_memory", "memory ran out")
    with pytest.raises(WorkFailed, match="dense model could not be judged: memory ran out"):
        compare(make_request(tiny_folder("llama"), text, "last"), workdir=tmp_path / "out", policy=policy)
    assert rows.asked == ["dense"]


def test_a_text_that_is_too_short_leaves_no_folder(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"a name as long as a window of text": 1, "text": "few"}))
    calibration = {"set": f"jsonl:{few}", "sequences": 4, "sequence_length": 32}
    request = make_request(tiny_folder("llama"), text, "last", calibration=calibration)
    with pytest.raises(CalibrationRefused):
        compare(request, workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out").exists()
    assert rows.asked == []


def test_a_target_beyond_every_method_is_refused(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    request = make_request(tiny_folder("llama"), text, "last", target={"layers_to_remove": 6})
    with pytest.raises(InvalidSpec, match="at most 5"):
        compare(request, workdir=tmp_path / "out", policy=policy)
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_changed_in_between_is_refused(
    tiny_folder: Tiny, text: str, rows: Rows, tmp_path: Path, policy: SourcePolicy
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), model)
    request = make_request(model, text, "last")
    rows.given["last"] = Cancelled
    with pytest.raises(Cancelled):
        compare(request, workdir=tmp_path / "out", policy=policy)
    config = model / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 5000.0}))
    with pytest.raises(OutputRefused, match="was changed since this comparison was begun"):
        compare(request, workdir=tmp_path / "out", policy=policy)
