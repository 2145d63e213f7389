"""The embedded service with a real job on a tiny model: kill -9 of everything in the middle of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.trsp_core.conftest import save_tiny
from trsp_cli.client import Client, Event

pytestmark = pytest.mark.e2e

LEASE_SECONDS = "3"


class Stack:
    """`trsp up` processes on one data folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Client:
        """Start the service; return a client with its key."""
        command = [sys.executable, "-m", "trsp_cli.main", "--json", "up", "--port", "0"]
        command += ["--data-dir", str(self.folder / "data"), "--allow-files", str(self.folder)]
        environment = {**os.environ, "TRSP_LEASE_SECONDS": LEASE_SECONDS, "TRSP_WORKER_DEVICE": "cpu"}
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert self._process.stdout is not None
        with self._process.stdout as said:
            line = said.readline()
        assert line, (self.folder / "up.log").read_text()
        key = (self.folder / "data" / "key").read_text().strip()
        return Client(json.loads(line)["url"], key)

    def kill_everything(self) -> None:
        """Send SIGKILL to the command, to each of its parts and to all that descends from them."""
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True)
        for process in [psutil.Process(self._process.pid), *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=20)
        self._process.wait(20)

    def stop(self) -> None:
        """End the service as Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)


@pytest.fixture
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="trsp-e2e-"))
    found = Stack(folder)
    yield found
    found.stop()
    shutil.rmtree(folder, ignore_errors=True)


def job_on(folder: Path) -> dict[str, Any]:
    """Return a job that takes some seconds and keeps a checkpoint every other step."""
    save_tiny(folder / "tiny", "llama")
    (folder / "text.txt").write_text(" ".join(f"line {number} of the text." for number in range(600)))
    text = f"text:{folder / 'text.txt'}"
    return {
        "model": str(folder / "tiny"),
        "target": {"layers_to_remove": 2},
        "calibration": {"set": text, "sequences": 8, "sequence_length": 32},
        "method": {
            "name": "trsp",
            "stage1_steps": 3,
            "stage2_steps": 120,
            "checkpoint_every": 2,
            "trainable": "lora",
            "schedule": "removed",
        },
        "evaluation": {"perplexity": [text], "windows": 3, "window_length": 32},
    }


def wait_until_it_trains(client: Client, job_id: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        job = client.get(job_id)
        assert job["status"] not in ("succeeded", "failed"), job
        if job["stage"] == "stage2" and (job["stage_step"] or 0) >= 8:
            return
        time.sleep(0.05)
    pytest.fail("the job did not reach stage 2")


def test_a_job_survives_kill_9_of_the_whole_stack(stack: Stack) -> None:
    wanted = job_on(stack.folder)
    with stack.start() as client:
        job_id = client.submit(wanted)["id"]
        wait_until_it_trains(client, job_id)
        before = [*client.events_so_far(job_id)]
        stack.kill_everything()
    with stack.start() as client:
        job = client.wait(job_id, timeout=180)
        assert job["status"] == "succeeded", job
        assert job["attempt"] == 2
        events = [*client.events_so_far(job_id)]
        assert events[: len(before)] == before
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert sum(event.data.get("to") == "succeeded" for event in events) == 1
        report = client.report(job_id)
        assert report["round_trip"]["ok"]
        assert [record["step"] for record in report["stage2"]] == list(range(1, 121))
        assert first_step(events, attempt=2) > 2 + len(report["refitted_layers"])
        paths = [item["path"] for item in client.artifacts(job_id)]
        assert len(paths) == len(set(paths))
        assert "report.json" in paths


def first_step(events: list[Event], *, attempt: int) -> int:
    """Return the first step of stage 2 that an attempt told of after entering it."""
    steps = [
        event.data["step"]
        for event in events
        if event.kind == "progress" and event.attempt == attempt and event.data["stage"] == "stage2"
    ]
    return int(next(step for step in steps if step > 0))
