"""The output folder of a comparison: its table and picture, and while it runs the rows that are done."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trsp_core.compare.results import Row
from trsp_core.workspace import Workspace

COMPARISON = "comparison.json"
"""Written last of all: a folder that has it is complete."""


class ComparisonSpace(Workspace):
    """A folder that belongs to one request; a comparison that was killed goes on with the first row not done."""

    def finished_report(self) -> dict[str, Any] | None:
        """Return the finished comparison, or None while there is none."""
        path = self.folder / COMPARISON
        return dict(json.loads(path.read_text())) if path.is_file() else None

    def row(self, place: int) -> Row | None:
        """Return a row that is done."""
        saved = self.load(f"row-{place}")
        return Row.from_dict(saved) if saved else None

    def keep_row(self, place: int, row: Row) -> None:
        """Write a row down, whole or not at all."""
        self.save(f"row-{place}", asdict(row))

    @contextmanager
    def working(self) -> Iterator[Path]:
        """Give the folder of one row's work, gone afterwards; one that a killed run left goes first."""
        for left in self.checkpoint.glob("work-*"):
            shutil.rmtree(left, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix="work-", dir=self.checkpoint))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
