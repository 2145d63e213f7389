"""The output of each attempt: bounded while it is written, read by offset while it grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trsp_jobs.errors import ArtifactNotFound
from trsp_jobs.storage import ArtifactStore

TAIL_BYTES = 64 * 1024
LOG_NAME = "log.txt"


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a log, and the offset at which to ask for the next one."""

    data: bytes
    next_offset: int


class AttemptLog:
    """Writes one attempt's output: all of it up to a limit, then only its end, with the gap counted."""

    def __init__(self, path: Path, limit: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._room = max(limit - TAIL_BYTES, 0)
        self._tail = bytearray()
        self._skipped = 0

    def write(self, data: bytes) -> None:
        """Append output."""
        head = data[: self._room]
        self._file.write(head)
        self._room -= len(head)
        self._tail += data[len(head) :]
        overflow = max(len(self._tail) - TAIL_BYTES, 0)
        self._skipped += overflow
        del self._tail[:overflow]

    def close(self) -> None:
        """Write the end of the output and close the file; closing again does nothing."""
        if self._file.closed:
            return
        if self._skipped:
            self._file.write(b"\n[%d bytes left out]\n" % self._skipped)
        self._file.write(self._tail)
        self._file.close()


def local_log(work_dir: Path, job_id: str, attempt: int) -> Path:
    """Return where a worker on this machine writes the attempt's log."""
    return work_dir / job_id / "attempts" / f"{attempt}.log"


def stored_log(job_id: str, attempt: int) -> str:
    """Return where the attempt's log lies in the store once the attempt has ended."""
    return f"jobs/{job_id}/attempts/{attempt}/{LOG_NAME}"


def read_log(
    job_id: str,
    attempt: int,
    offset: int = 0,
    *,
    work_dir: Path,
    store: ArtifactStore,
    limit: int = 64 * 1024,
) -> LogChunk:
    """Return up to `limit` bytes of an attempt's log from `offset` on.

    While the attempt runs on this machine they come from its file, afterwards from the store, with the same
    offsets. An empty piece means that there is nothing more yet; the attempt's row tells whether it
    has ended.

    Raises:
        StoreUnavailable: If the store is needed and does not answer.
    """
    try:
        with local_log(work_dir, job_id, attempt).open("rb") as file:
            file.seek(offset)
            data = file.read(limit)
    except FileNotFoundError:
        data = _read_stored(job_id, attempt, offset, store, limit)
    return LogChunk(data, offset + len(data))


def _read_stored(job_id: str, attempt: int, offset: int, store: ArtifactStore, limit: int) -> bytes:
    try:
        return b"".join(store.open_range(stored_log(job_id, attempt), offset, offset + limit))
    except ArtifactNotFound:
        return b""
