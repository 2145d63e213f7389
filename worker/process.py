"""The child's process group: told only what it must know, read by a thread, stopped politely or not."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from trsp_core.allocator import ENVIRONMENT
from trsp_jobs.logs import AttemptLog
from trsp_jobs.settings import Settings
from worker.inbox import Inbox
from worker.scratch import Scratch

_INHERITED = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HF_HOME", "TRSP_DATASETS"})
_INHERITED_PREFIXES = ("OMP_", "MKL_", "OPENBLAS_", "CUDA_")
_READ_BYTES = 64 * 1024
_DRAIN_SECONDS = 2.0


def child_environment(parent: Mapping[str, str], settings: Settings, scratch: Scratch) -> dict[str, str]:
    """Return all that the child's environment holds: an allow-list, so that no secret slips through."""
    kept = {
        name: value
        for name, value in parent.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    root = str(Path(__file__).resolve().parent.parent)
    return {
        **ENVIRONMENT,
        **kept,
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        "TRSP_CACHE": str(settings.cache_dir),
        "TMPDIR": str(scratch.tmp),
    }


def s3_credentials(parent: Mapping[str, str]) -> dict[str, str]:
    """Return what reaches S3, for the process that downloads a model and never for the one that runs it."""
    return {name: value for name, value in parent.items() if name.startswith("AWS_")}


def launch_command(settings: Settings, command: Sequence[str], events: int, request: Path) -> list[str]:
    """Return the whole command line: the launcher, its limits, the program, its request and its pipe."""
    limits: list[str] = []
    if settings.child_memory_bytes is not None:
        limits += ["--memory", str(settings.child_memory_bytes)]
    if settings.child_file_bytes is not None:
        limits += ["--file-size", str(settings.child_file_bytes)]
    launcher = [sys.executable, "-P", "-m", "worker.launcher", "--parent", str(os.getpid()), *limits, "--"]
    return [*launcher, *command, str(request), str(events)]


class Child:
    """A running child process group. Its messages go to an inbox, its output to a log.

    It must be started by a thread that lives as long as the child: on Linux the child dies with that thread.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        scratch: Scratch,
        log: AttemptLog,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.inbox = Inbox()
        self.peak_rss_bytes: int | None = None
        self._log = log
        self._asked_at: float | None = None
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name="child-reader", daemon=True)
        self._events, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                launch_command(settings, command, writing, scratch.request),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=scratch.tmp,
                env={**child_environment(os.environ, settings, scratch), **(credentials or {})},
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._events)
            log.close()
            raise
        finally:
            os.close(writing)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` gives it, negative for a signal; None while it runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.peak_rss_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self._process.returncode

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most so long; return the exit code, None if it still runs."""
        deadline = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.exit_code

    def stop(self, grace_seconds: float) -> None:
        """Ask the child to stop the first time; kill its group once the grace is over. Never waits."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._signal(signal.SIGTERM)
        elif now - self._asked_at >= grace_seconds:
            self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """Kill the whole group now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Kill what is left of the group, read what it still said, and close its pipes and its log."""
        self.kill()
        self.wait(5)
        self._closing.set()
        self._reader.join(_DRAIN_SECONDS + 1)
        os.close(self._events)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ, self.inbox.feed)
            selector.register(output.fileno(), selectors.EVENT_READ, self._log.write)
            self._pump(selector)

    def _pump(self, selector: selectors.BaseSelector) -> None:
        """Read until both pipes end, or until the child is gone and has had time to be read to the end."""
        deadline: float | None = None
        while selector.get_map() and (deadline is None or time.monotonic() < deadline):
            if deadline is None and self._closing.is_set():
                deadline = time.monotonic() + _DRAIN_SECONDS
            for key, _ in selector.select(timeout=0.2):
                data = os.read(key.fd, _READ_BYTES)
                if data:
                    key.data(data)
                else:
                    selector.unregister(key.fd)
