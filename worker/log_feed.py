"""What the child has said since the last look, for the database to hold until the log is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trsp_jobs.log_pieces import PIECE_BYTES, Said

MOST_BYTES = 16 * PIECE_BYTES
"""Read at one look; the rest comes with the next."""


class LogFeed:
    """Reads the growing log of one attempt; what was taken is given again until it is `kept`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def take(self) -> list[Said]:
        """Return what is new, in pieces."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(MOST_BYTES)
        except FileNotFoundError:
            return []
        starts = range(0, len(data), PIECE_BYTES)
        return [Said(self._offset + start, data[start : start + PIECE_BYTES]) for start in starts]

    def kept(self, pieces: Sequence[Said]) -> None:
        """Note that pieces were written."""
        if pieces:
            self._offset = pieces[-1].end
