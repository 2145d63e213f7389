"""The output of each attempt: bounded while it is written, read by offset while it grows."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from trsp_jobs import log_pieces
from trsp_jobs.errors import ArtifactNotFound
from trsp_jobs.models import Attempt
from trsp_jobs.storage import ArtifactStore

TAIL_BYTES = 64 * 1024
LOG_NAME = "log.txt"
_WORDS_BYTES = 8 * 1024


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
    """Return where the worker writes the attempt's log."""
    return work_dir / job_id / "attempts" / f"{attempt}.log"


def last_words(log: Path) -> str:
    """Return the end of a log on this machine, at most `_WORDS_BYTES`; nothing if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _WORDS_BYTES, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def stored_log(job_id: str, attempt: int) -> str:
    """Return where the attempt's log lies in the store once the attempt has ended."""
    return f"jobs/{job_id}/attempts/{attempt}/{LOG_NAME}"


def held_log(session: Session, attempt: Attempt, offset: int, limit: int) -> bytes | None:
    """Return up to `limit` bytes of an attempt's log from `offset` on, as far as the database holds them.

    Nothing means that there is nothing more yet, None that the log is to be looked for in the store; the
    offsets are the same there.
    """
    found = log_pieces.read(session, attempt.job_id, attempt.number, offset, limit)
    return found if found or held_size(session, attempt) is not None else None


def held_size(session: Session, attempt: Attempt) -> int | None:
    """Return how many bytes of an attempt's log the database holds; None if the store is to be asked."""
    size = log_pieces.size(session, attempt.job_id, attempt.number)
    return 0 if size is None and attempt.finished_at is None else size


def read_stored(store: ArtifactStore, attempt: Attempt, offset: int, limit: int) -> bytes:
    """Return up to `limit` bytes of a stored log from `offset` on; nothing if there is none.

    Raises:
        StoreUnavailable: If the store does not answer.
    """
    try:
        return b"".join(store.open_range(stored_log(attempt.job_id, attempt.number), offset, offset + limit))
    except ArtifactNotFound:
        return b""


def stored_size(store: ArtifactStore, attempt: Attempt) -> int:
    """Return how many bytes of a log are stored; raises as `read_stored` does."""
    try:
        return store.stat(stored_log(attempt.job_id, attempt.number)).size
    except ArtifactNotFound:
        return 0
