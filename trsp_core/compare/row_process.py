"""Runs one row in a process of its own: its peak memory is its own, and all of it comes back."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trsp_core.allocator import ENVIRONMENT
from trsp_core.compare.results import RowProblem, RowResult
from trsp_core.compare.task import RowTask
from trsp_core.errors import OutOfMemory
from trsp_core.files import write_json_atomically
from trsp_core.progress import Progress, ProgressFn, StopFn, raise_if_stopped

_POLL_SECONDS = 0.2
_TAIL_LINES = 5
_KILLED = -9

_Lines = queue.Queue[str | None]


def row_in_process(task: RowTask, on_progress: ProgressFn, should_stop: StopFn) -> RowResult | RowProblem:
    """Return the figures of a row, or why there are none.

    Args:
        task: The work; its folder gets the process's words and its answer.
        on_progress: Told what the process tells.
        should_stop: Asked while it runs.

    Raises:
        Cancelled: If `should_stop` said so; the process is gone.
    """
    file, said = task.workdir / "task.json", task.workdir / "said.txt"
    write_json_atomically(file, task.to_dict())
    with _started(file, said) as (child, lines):
        for event in _events(lines, should_stop):
            on_progress(event)
        child.wait()
    if task.answer.is_file():
        return _answer(json.loads(task.answer.read_text()))
    return _crash(child.returncode, said)


@contextmanager
def _started(file: Path, said: Path) -> Iterator[tuple[subprocess.Popen[str], _Lines]]:
    """Start the process in a group of its own, so that Ctrl-C reaches it only through us; always end it.

    A thread reads what it tells, so that a silent process can be stopped; None is the end.
    """
    command = [sys.executable, "-P", "-m", "trsp_core.compare.row_child", str(file)]
    with said.open("wb") as errors:
        child = subprocess.Popen(
            command,
            env={**ENVIRONMENT, **os.environ, "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            process_group=0,
        )
    lines: _Lines = queue.Queue()
    reader = threading.Thread(target=_read, args=(child.stdout, lines), daemon=True)
    with child:
        try:
            reader.start()
            yield child, lines
        finally:
            child.kill()
            reader.join()


def _events(lines: _Lines, should_stop: StopFn) -> Iterator[Progress]:
    """Yield what the process tells until it ends."""
    while True:
        raise_if_stopped(should_stop)
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return
        yield Progress.from_dict(json.loads(line))


def _read(stream: IO[str], lines: _Lines) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _answer(data: dict[str, dict[str, object]]) -> RowResult | RowProblem:
    if "problem" in data:
        return RowProblem(**data["problem"])  # type: ignore[arg-type]
    return RowResult.from_dict(data["result"])


def _crash(code: int | None, said: Path) -> RowProblem:
    """Say how a process ended that gave no answer."""
    if code == _KILLED:
        return RowProblem(False, OutOfMemory.code, "its process was killed, most likely for want of memory")
    lines = said.read_text(errors="replace").strip().splitlines()
    words = " ".join(lines[-_TAIL_LINES:]) or "no word"
    return RowProblem(False, "internal_error", f"its process ended with code {code}: {words}")
