"""The process of one row: how it ends, and that it never outlives whoever started it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.trsp_core.comparisons import FACTS
from trsp_core.compare import row_process
from trsp_core.compare.results import RowProblem
from trsp_core.compare.row_process import row_in_process
from trsp_core.compare.task import RowTask
from trsp_core.config import CompressionSpec
from trsp_core.errors import Cancelled
from trsp_core.preflight import Preflight
from trsp_core.progress import ignore, never
from trsp_core.sources import Source

SPEC = CompressionSpec.from_dict(
    {"model": "m", "sparsity": 0.5, "calibration": "python-docs", "method": "last"}
)


@pytest.fixture
def task(tmp_path: Path) -> RowTask:
    source = Source("m", "folder", tmp_path / "model", "cafe")
    checked = Preflight(source, FACTS, 8, False, 28, 128, 256, 10**9, 10**9)
    (tmp_path / "work").mkdir()
    return RowTask(SPEC, checked, False, tmp_path, tmp_path / "work", 1)


def test_a_task_survives_json(task: RowTask) -> None:
    assert RowTask.from_dict(task.to_dict()) == task


def test_a_crash_says_how_the_process_ended(task: RowTask) -> None:
    found = row_in_process(task, ignore, never)
    assert isinstance(found, RowProblem)
    assert (found.refused, found.code) == (False, "internal_error")
    assert "ended with code 1" in found.message
    assert "holds no inputs of a comparison" in found.message


def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Let another program stand in for Python, so that the process does what `code` says."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(row_process.sys, "executable", str(program))


def test_a_killed_process_was_most_likely_too_large(
    task: RowTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(monkeypatch, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    found = row_in_process(task, ignore, never)
    assert isinstance(found, RowProblem)
    assert (found.code, "memory" in found.message) == ("out_of_memory", True)


def test_a_silent_process_is_stopped_at_once(
    task: RowTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(monkeypatch, tmp_path, "time.sleep(600)")
    before = time.monotonic()
    with pytest.raises(Cancelled):
        row_in_process(task, ignore, lambda: time.monotonic() - before > 0.5)
    assert time.monotonic() - before < 30
    assert not [
        child for child in psutil.Process().children() if str(task.workdir) in " ".join(child.cmdline())
    ]
