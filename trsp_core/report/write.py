"""Writes the three forms of a report from the one value."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trsp_core.report.csv import to_csv
from trsp_core.report.html import render_html
from trsp_core.report.json import to_json
from trsp_core.results import CompressionReport


def write_reports(report: CompressionReport, folder: Path) -> tuple[Path, ...]:
    """Write `report.json`, `report.html` and `report.csv` into `folder`; return their paths.

    All three are made before the first is written, and each appears whole or not at all.
    """
    texts = {
        "report.json": to_json(report),
        "report.csv": to_csv(report),
        "report.html": render_html(report),
    }
    return tuple(_write(folder / name, text) for name, text in texts.items())


def _write(path: Path, text: str) -> Path:
    """Write under a temporary name beside it, then put it in place; text no UTF-8 can say is escaped."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
