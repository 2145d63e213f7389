"""The embedded service: up, down, and up again after kill -9. No model is worked on here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from trsp_cli import embedded, processes, runfile
from trsp_cli.client import Client, Refused, Unreachable
from trsp_cli.processes import Part, PartFailed, Running
from trsp_core.errors import InputRefused

pytestmark = pytest.mark.integration

WAITING_JOB = {
    "model": "demo:smollm2-135m",
    "sparsity": 0.25,
    "calibration": "python-docs",
    "device": "cuda",
}
"""Waits for good: the workers here offer only the CPU."""


@dataclass
class Up:
    """A `trsp up` process and what it said."""

    process: subprocess.Popen[bytes]
    said: dict[str, Any]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts."""
        return {part["name"]: part["pid"] for part in self.said["parts"]}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder with a short path that PostgreSQL's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="trsp-up-"))
    yield folder / "data"
    record = runfile.read(folder / "data")
    for part in record.parts if record else ():
        processes.end_leftover(part.pid, part.created, stop_signal=signal.SIGKILL, patience=5)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[[], Up]]:
    """Start `trsp up` on the folder and wait until it says that it is up."""
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> Up:
        command = [
            sys.executable,
            "-m",
            "trsp_cli.main",
            "--json",
            "up",
            "--data-dir",
            str(data_dir),
            "--port",
            "0",
        ]
        log = (data_dir.parent / f"up-{len(running)}.log").open("wb")
        environment = {**os.environ, "TRSP_WORKER_DEVICE": "cpu"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        log.close()
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        process.stdout.close()
        assert line, Path(log.name).read_text()
        return Up(process, json.loads(line))

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def connected(up: Up, data_dir: Path) -> Client:
    """Return a client with the data folder's own key."""
    return Client(up.said["url"], (data_dir / "key").read_text().strip())


def test_up_serves_restarts_what_died_and_leaves_nothing_behind(
    start: Callable[[], Up], data_dir: Path
) -> None:
    up = start()
    assert list(up.pids) == ["postgres", "valkey", "api", "housekeeping", "worker-1"]
    for name in ("run.json", "key", "secret"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600
    with Client(up.said["url"]) as stranger, pytest.raises(Refused, match="No key"):
        stranger.workers()
    command_lines = [" ".join(psutil.Process(pid).cmdline()) for pid in up.pids.values()]
    with connected(up, data_dir) as client:
        assert client.ready()["status"] == "ready"
        assert len(client.workers()) == 1
        with pytest.raises(InputRefused, match="is in use by a running service"), runfile.hold(data_dir):
            pass
        for name in ("api", "valkey"):
            os.kill(up.pids[name], signal.SIGKILL)
        _until(lambda: _new_pids(data_dir, up.pids, "api", "valkey"))
        _until(lambda: _is_ready(client))
    assert not any("redis://" in line or "postgresql://" in line for line in command_lines)
    record = runfile.read(data_dir)
    assert record is not None
    up.process.terminate()
    assert up.process.wait(60) == 0
    assert not any(psutil.pid_exists(part.pid) for part in record.parts)
    assert runfile.read(data_dir) is None


def test_up_again_after_kill_9_with_and_without_orphans(start: Callable[[], Up], data_dir: Path) -> None:
    first = start()
    with connected(first, data_dir) as client:
        job = client.submit(WAITING_JOB)
    first.process.kill()
    first.process.wait()
    assert psutil.pid_exists(first.pids["worker-1"])
    second = start()
    assert not any(_runs(pid) for pid in first.pids.values())
    with connected(second, data_dir) as client:
        assert client.get(job["id"])["status"] == "queued"
        assert [event.sequence for event in client.events_so_far(job["id"])] == [1]
    second.process.kill()
    for pid in second.pids.values():
        family = processes.descendants(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        processes.kill(family)
    second.process.wait()
    third = start()
    with connected(third, data_dir) as client:
        assert client.get(job["id"])["status"] == "queued"
        assert client.cancel(job["id"])["status"] == "canceled"


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and processes.runs(psutil.Process(pid))


def _until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _new_pids(data_dir: Path, before: dict[str, int], *names: str) -> bool:
    record = runfile.read(data_dir)
    now = {part.name: part.pid for part in record.parts} if record else {}
    return all(now.get(name) not in (None, before[name]) for name in names)


def _is_ready(client: Client) -> bool:
    try:
        return bool(client.ready()["status"] == "ready")
    except Unreachable:
        return False


def test_a_port_that_was_asked_for_and_is_taken_is_refused(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputRefused, match=f"is {port}, which another program listens on"):
            embedded._url(embedded.Config(data_dir=data_dir, port=port))
        assert embedded._url(embedded.Config(data_dir=data_dir)).startswith("http://127.0.0.1:")


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="TRSP_KEY"):
        embedded.Config(data_dir=tmp_path, host="0.0.0.0")
    with pytest.raises(InputRefused, match="at least 1"):
        embedded.Config(data_dir=tmp_path, workers=0)
    with pytest.raises(InputRefused, match="is no folder"):
        embedded.Config(data_dir=tmp_path, allow_files=(tmp_path / "no",))


def test_a_wildcard_host_is_reached_by_any_name_and_only_with_the_key(tmp_path: Path) -> None:
    config = embedded.Config(data_dir=tmp_path, host="0.0.0.0", key="k", port=0)
    url = embedded._url(config)
    assert url.startswith("http://127.0.0.1:")
    environment = embedded.service_environment(config, url, "db", "broker")
    assert environment["TRSP_API_KEY"] == "k"
    assert "TRSP_PUBLIC_URL" not in environment
    local = embedded.Config(data_dir=tmp_path)
    assert embedded.service_environment(local, url, "db", "broker")["TRSP_PUBLIC_URL"] == url


def test_the_folders_own_key_is_said_once_and_stays(tmp_path: Path) -> None:
    said: list[str] = []
    first = embedded.with_key(embedded.Config(data_dir=tmp_path), said.append)
    again = embedded.with_key(embedded.Config(data_dir=tmp_path), said.append)
    assert first.key == again.key
    assert len(said) == 1
    assert str(first.key) in said[0]
    assert embedded.with_key(embedded.Config(data_dir=tmp_path, key="mine"), said.append).key == "mine"


def _part(tmp_path: Path, code: str, ready: Callable[[], bool] = lambda: True) -> Part:
    command = processes.python("-c", code)
    return Part("thing", command, "", dict(os.environ), tmp_path, tmp_path / "thing.log", ready, patience=0.5)


def test_a_part_that_never_becomes_ready_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    running = Running(_part(tmp_path, "print('cannot find my hat'); raise SystemExit(3)", lambda: False))
    with pytest.raises(PartFailed, match="cannot find my hat"):
        running.wait_ready(0.3)
    running.stop()


def test_a_part_that_ignores_the_polite_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    running = Running(_part(tmp_path, code, lambda: "up" in (tmp_path / "thing.log").read_text()))
    running.wait_ready(10)
    (child,) = processes.descendants(running.pid)
    running.stop()
    assert not running.is_alive()
    assert not _runs(child.pid)


def test_a_part_that_keeps_ending_is_restarted_ever_more_slowly(tmp_path: Path) -> None:
    running = Running(_part(tmp_path, "pass"))
    begun, revived = time.monotonic(), 0
    while revived < 3:
        revived += running.revive()
        time.sleep(0.01)
    assert time.monotonic() - begun > 0.5 + 1 + 2 - 0.2
    running.stop()


def test_a_process_with_a_reused_id_is_left_alone(tmp_path: Path) -> None:
    running = Running(_part(tmp_path, "import time; time.sleep(600)"))
    created = processes.created_at(running.pid)
    end = {"stop_signal": signal.SIGTERM, "patience": 2}
    assert not processes.end_leftover(running.pid, created - 100, **end)  # type: ignore[arg-type]
    assert running.is_alive()
    assert processes.end_leftover(running.pid, created, **end)  # type: ignore[arg-type]
    running.stop()


def test_a_run_file_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"url": 1}', '{"url": "u", "key": null, "pid": 1, "parts": [{"x": 1}]}'):
        (tmp_path / runfile.RUN_FILE).write_text(text)
        assert runfile.read(tmp_path) is None
