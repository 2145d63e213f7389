"""Processes of the service that are started again whenever they die, as an init system does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.servers import kill_group

ROOT = Path(__file__).resolve().parents[2]
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 20


class Part:
    """One process, in a group of its own, with its log."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = [sys.executable, *arguments]
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to its log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                cwd=ROOT,
                start_new_session=True,
            )
        self.starts += 1

    @property
    def died(self) -> bool:
        """Whether it was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send the process itself a signal."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill_group(self) -> None:
        """Kill it with the processes that it forked."""
        if self._process is not None:
            kill_group(self._process, signal.SIGKILL)

    def forked(self) -> list[psutil.Process]:
        """Return its own children."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children()
        return []

    def stop(self) -> bool:
        """Ask it to end and wait; return whether it did."""
        self.signal(signal.SIGTERM)
        if self._process is None:
            return True
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_group()
            self._process.wait()
            return False
        return True


class Keeper:
    """Starts parts, starts those again that die, and stops them all at the end."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keeper", daemon=True)

    def start(self) -> None:
        """Start all parts."""
        for part in self.parts:
            part.start()
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            for part in self.parts:
                if part.died:
                    part.start()

    def stop(self) -> list[str]:
        """Stop all parts; return the names of those that would not end."""
        self._ended.set()
        self._thread.join()
        for part in self.parts:
            part.signal(signal.SIGTERM)
        return [part.name for part in self.parts if not part.stop()]


def processes_of(folder: Path) -> Iterator[psutil.Process]:
    """Yield the living processes that name a folder in their command line or in their environment."""
    name = str(folder)
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            if any(name in text for text in (*process.cmdline(), *process.environ().values())):
                yield process
