"""Child processes of the embedded service: start, watch, restart and stop them, and find those left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from trsp_core.errors import WorkFailed

LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
LOG_LINES = 15
KILL_SECONDS = 5.0


class PartFailed(WorkFailed):
    """A part of the service could not be started; the message ends with the last lines of its log."""

    code = "part_failed"


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the service, as it is to be started.

    Attributes:
        name: What a person calls it.
        command: Program and arguments; no secret stands here, since every user can read them.
        address: Where it answers; empty if it does not listen.
        environment: Its whole environment.
        folder: Its working directory.
        log: File that its output is appended to.
        is_ready: Tells whether it does its work; called until it says so.
        stop_signal: What asks it to end in order.
        patience: Seconds from that signal to the kill.
        user: System user it runs as; None for the caller's own.
    """

    name: str
    command: tuple[str, ...]
    address: str
    environment: Mapping[str, str]
    folder: Path
    log: Path
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 10.0
    user: str | None = None


class Running:
    """A started part, in a process group of its own, so that a terminal's Ctrl-C does not reach it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.restarts = 0
        self._pause_until = 0.0
        self.process = _spawn(part)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id of the present run."""
        return self.process.pid

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process.poll() is None

    def wait_ready(self, timeout: float) -> None:
        """Return when the part does its work, starting it again if it ends before.

        Raises:
            PartFailed: After `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (self.is_alive() and self.part.is_ready()):
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.part.name} did not become ready.\n{log_tail(self.part.log)}")
            if not self.is_alive():
                time.sleep(0.5)
                self._respawn()
            time.sleep(0.05)

    def revive(self) -> bool:
        """Start the part again if it has ended; the pause doubles while it keeps ending.

        Returns:
            Whether it was started.
        """
        if self.is_alive():
            if time.monotonic() - self.started > STEADY_SECONDS:
                self.restarts = 0
            return False
        if not self._pause_until:
            self._pause_until = time.monotonic() + min(0.5 * 2**self.restarts, LONGEST_PAUSE)
        if time.monotonic() < self._pause_until:
            return False
        self.restarts += 1
        self._respawn()
        return True

    def _respawn(self) -> None:
        kill_group(self.pid)
        self.process = _spawn(self.part)
        self.started = time.monotonic()
        self._pause_until = 0.0

    def stop(self, *, patience: float | None = None) -> None:
        """End the part in order, then whatever it left behind by force."""
        family = descendants(self.pid)
        if self.is_alive():
            with suppress(ProcessLookupError):
                self.process.send_signal(self.part.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.part.patience if patience is None else patience)
        kill([*family, *descendants(self.pid)])
        kill_group(self.pid)
        self.process.wait()


def _spawn(part: Part) -> subprocess.Popen[bytes]:
    with part.log.open("ab") as log:
        return subprocess.Popen(
            part.command,
            cwd=part.folder,
            env=dict(part.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=part.user,
        )


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this very Python with the arguments."""
    return (sys.executable, *arguments)


def descendants(pid: int) -> list[psutil.Process]:
    """Return the children of a process and theirs; empty if it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill processes that still run and wait until they are gone."""
    victims = list(processes)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + KILL_SECONDS
    while any(runs(process) for process in victims) and time.monotonic() < deadline:
        time.sleep(0.02)


def runs(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_group(group: int) -> None:
    """Kill what is left of a process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_leftover(pid: int, created: float, *, stop_signal: signal.Signals, patience: float) -> bool:
    """End a process of an earlier run with all it started, unless its id belongs to another one by now.

    Args:
        created: When it was created, seconds since the epoch, as psutil told then.

    Returns:
        Whether it still ran.
    """
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created) > 1:
            return False
        family = process.children(recursive=True)
        process.send_signal(stop_signal)
    except psutil.NoSuchProcess:
        return False
    with suppress(psutil.TimeoutExpired):
        process.wait(patience)
    kill([process, *family])
    return True


def created_at(pid: int) -> float:
    """Return when a process was created, seconds since the epoch; 0 if it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def log_tail(path: Path, lines: int = LOG_LINES) -> str:
    """Return the last lines of a log, under a line that says where it is."""
    if not path.exists():
        return f"Its log would be {path}."
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        tail = file.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join([f"The end of {path}:", *(f"  {line}" for line in tail)])


def wait_all(running: Sequence[Running], timeout: float) -> None:
    """Wait until every part is ready, together within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    for item in running:
        item.wait_ready(max(1.0, deadline - time.monotonic()))
