"""A job's folder on this machine: what the child is given, what it makes, what earlier attempts left.

data_dir/work/JOB/
  request.json      what the child is to do
  fetched.json      revision of the model that was downloaded for it
  child.json        which process group works on it
  attempts/N.log    output of each attempt
  uploads/          uploaded texts that the job names, only while an attempt runs
  tmp/              the child's TMPDIR, empty at the start of each attempt
  out/              the child's work folder: result and checkpoint
  incoming/         a checkpoint of another machine on its way from the store
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder of one job."""

    root: Path

    @property
    def out(self) -> Path:
        """The child's work folder."""
        return self.root / "out"

    @property
    def tmp(self) -> Path:
        """The child's temporary folder."""
        return self.root / "tmp"

    @property
    def uploads(self) -> Path:
        """Uploaded texts that the child may read."""
        return self.root / "uploads"

    def forget_uploads(self) -> None:
        """Remove the uploaded texts: a deleted one must not live on in a scratch folder."""
        shutil.rmtree(self.uploads, ignore_errors=True)

    @property
    def incoming(self) -> Path:
        """A checkpoint that is not here as a whole yet."""
        return self.root / "incoming"

    @property
    def request(self) -> Path:
        """What the child is to do."""
        return self.root / "request.json"

    @property
    def fetched(self) -> Path:
        """Revisions of the models that were downloaded for the job."""
        return self.root / "fetched.json"

    @property
    def _child(self) -> Path:
        return self.root / "child.json"

    def prepare(self, request: Mapping[str, Any], *, fresh_after: int = 0) -> None:
        """Make the folder ready for an attempt: no process of an earlier one, an empty tmp, the request.

        Args:
            request: What the child is to do, with the attempt's number.
            fresh_after: What attempts up to this number made here is removed.
        """
        self.kill_leftover()
        if fresh_after and self.last_attempt() <= fresh_after:
            shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.tmp, ignore_errors=True)
        for folder in (self.out, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        self.write_request(request)

    def write_request(self, request: Mapping[str, Any]) -> None:
        """Write what the next process is to do."""
        write_whole(self.request, json.dumps(request).encode())

    def last_attempt(self) -> int:
        """Return the attempt that worked here last, 0 if none did or nobody knows."""
        try:
            return int(json.loads(self.request.read_bytes())["attempt"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0

    def record_child(self, pid: int) -> None:
        """Write down which process group works here, so that a later attempt can end it."""
        started = psutil.Process(pid).create_time()
        write_whole(self._child, json.dumps({"pid": pid, "started": started}).encode())

    def kill_leftover(self) -> int:
        """Kill what is left of an earlier attempt's process group, and wait; return how many there were."""
        left = list(self._leftover())
        for process in left:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=_KILL_SECONDS)
        self._child.unlink(missing_ok=True)
        return len(left)

    def _leftover(self) -> Iterator[psutil.Process]:
        record = self._read_child()
        if record is None or _is_reused(*record):
            return
        pid, started = record
        for process in psutil.process_iter(["create_time"]):
            if process.info["create_time"] >= started - 1 and _session(process.pid) == pid:
                yield process

    def _read_child(self) -> tuple[int, float] | None:
        try:
            record = json.loads(self._child.read_bytes())
            return int(record["pid"]), float(record["started"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def forget_child(self) -> None:
        """Note that no process works here any more."""
        self._child.unlink(missing_ok=True)

    def logs(self) -> list[tuple[int, Path]]:
        """Return the logs that lie here, each with its attempt's number."""
        found = (self.root / "attempts").glob("*.log")
        return sorted((int(path.stem), path) for path in found if path.stem.isdecimal())

    def results(self) -> Iterator[Path]:
        """Return the files that the child made for publication: regular ones, no checkpoint, no links."""
        for folder, names, files in os.walk(self.out):
            here = Path(folder)
            names[:] = [name for name in names if here != self.out or name != "checkpoint"]
            yield from (here / name for name in sorted(files) if _is_plain(here / name))

    def made(self) -> Iterator[Path]:
        """Return everything that the child made, its checkpoint included: regular files, no links."""
        for folder, _, files in os.walk(self.out):
            paths = (Path(folder) / name for name in sorted(files))
            yield from (path for path in paths if _is_plain(path) and path.suffix != ".partial")

    def partial_results(self) -> Iterator[Path]:
        """Return what is worth keeping of an attempt that did not end well: plan and log, no unproved model."""
        yield from (path for path in self.results() if path.parent == self.out)

    def checkpoint(self) -> dict[str, Any] | None:
        """Return what a later attempt on this machine can go on from; None where there is nothing."""
        files = [path.stat() for path in (self.out / "checkpoint").rglob("*") if _is_plain(path)]
        if not files:
            return None
        return {
            "files": len(files),
            "bytes": sum(item.st_size for item in files),
            "written_at": datetime.fromtimestamp(max(item.st_mtime for item in files), UTC).isoformat(),
            "host": socket.gethostname(),
        }

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.root, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def idle_folders(work_dir: Path, seconds: float) -> list[Scratch]:
    """Return the folders of jobs that nothing was written to for so many seconds."""
    if not work_dir.is_dir():
        return []
    oldest = time.time() - seconds
    found = (path for path in work_dir.iterdir() if path.is_dir() and path.name.startswith("job_"))
    return [Scratch(path) for path in found if path.stat().st_mtime < oldest]


def remove_old(folder: Path, seconds: float) -> None:
    """Remove what lies in a folder and was not written to for so many seconds."""
    oldest = time.time() - seconds
    for path in folder.glob("*"):
        if path.stat().st_mtime >= oldest:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.name.endswith(".part")


def _is_reused(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) > 1
    except psutil.NoSuchProcess:
        return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
