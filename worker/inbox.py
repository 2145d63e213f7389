"""What the child says, read so that no child can hurt: bounded lines, bounded memory, nothing believed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trsp_core.progress import Progress
from trsp_jobs.leases import JobError
from trsp_jobs.progress import clean, read_progress

LINE_BYTES = 256 * 1024
_PENDING = 200
_TEXT = 4000
_PROBLEMS = 100


class LineReader:
    """Cuts a stream of bytes into lines; a line longer than `LINE_BYTES` is dropped while it is read."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take more bytes and return the lines that are complete now."""
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._add(piece)
            if not self._dropping:
                yield bytes(self._begun)
            self._begun.clear()
            self._dropping = False
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        if self._dropping or len(self._begun) + len(piece) > LINE_BYTES:
            self._dropping = True
            self._begun.clear()
        else:
            self._begun += piece


class Inbox:
    """The child's messages between the thread that reads them and the one that writes them to the database.

    Of progress that nobody has taken yet, each stage keeps its latest event; so a fast child fills no memory
    and no change of stage is lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines = LineReader()
        self._pending: list[Progress] = []
        self._error: JobError | None = None
        self.refused = 0
        """Lines that were no messages."""

    def feed(self, data: bytes) -> None:
        """Take bytes from the child's pipe."""
        for line in self._lines.feed(data):
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            if message["type"] == "progress":
                self.put([read_progress(message.get("data"))])
            elif message["type"] == "error":
                self._error = read_error(message)
            else:
                self.refused += 1
        except (ValueError, TypeError, KeyError, RecursionError):
            self.refused += 1

    def put(self, events: Sequence[Progress]) -> None:
        """Add events that are newer than those pending."""
        with self._lock:
            self._pending = _thinned([*self._pending, *events])

    def put_back(self, events: Sequence[Progress]) -> None:
        """Return events that were taken and could not be written; they are older than those pending."""
        with self._lock:
            self._pending = _thinned([*events, *self._pending])

    def take(self) -> list[Progress]:
        """Take all pending events."""
        with self._lock:
            taken, self._pending = self._pending, []
            return taken

    @property
    def error(self) -> JobError | None:
        """Why the child gave up, as it said itself."""
        return self._error


def read_error(message: Mapping[str, Any]) -> JobError:
    """Return the error that a child reports, cut to size."""
    problems = message.get("problems")
    suggestion = clean(message.get("suggestion"), _TEXT) or None
    return JobError(
        code=clean(message.get("code"), 64) or "error",
        message=clean(message.get("message"), _TEXT) or "the work failed without saying why",
        problems=tuple(_problem(item) for item in problems[:_PROBLEMS]) if isinstance(problems, list) else (),
        suggestion=suggestion,
    )


def _problem(item: Any) -> Mapping[str, Any]:
    """Return a problem with only the fields that a problem has, each as text or a list of texts."""
    source = item if isinstance(item, Mapping) else {}
    result: dict[str, Any] = {
        name: clean(source[name], _TEXT)
        for name in ("pointer", "message", "suggestion", "value", "allowed")
        if isinstance(source.get(name), str)
    }
    if isinstance(source.get("allowed"), list):
        result["allowed"] = [clean(str(value), 200) for value in source["allowed"][:_PROBLEMS]]
    if isinstance(source.get("value"), (int, float, bool)):
        result["value"] = clean(str(source["value"]), 200)
    return result


def _thinned(events: list[Progress]) -> list[Progress]:
    """Return the latest event of each run of events of one stage; of too many runs, the latest."""
    last = [
        event
        for event, following in zip(events, [*events[1:], None], strict=True)
        if following is None or following.stage != event.stage
    ]
    return last[-_PENDING:]
