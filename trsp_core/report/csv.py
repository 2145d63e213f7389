"""report.csv: the report in long form, one figure a row, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from trsp_core.results import CompressionReport

COLUMNS = ("section", "name", "field", "value")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(report: CompressionReport) -> str:
    """Return every leaf of `report.json` as `section,name,field,value`.

    A leaf's path is its section, its field and, joined by `/`, what lies between. Numbers are in full
    precision, null is empty. A text that a spreadsheet would run as a formula gets a `'` before it.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path, value in _leaves(report.to_dict(), ()):
        writer.writerow((*_cells(path), _text(value)))
    return buffer.getvalue()


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        yield path, value
        return
    for key, item in items:
        yield from _leaves(item, (*path, key))


def _cells(path: tuple[str, ...]) -> tuple[str, str, str]:
    section, *middle = path[:-1] if len(path) > 1 else path
    return section, safe("/".join(middle)), safe(path[-1] if len(path) > 1 else "")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return safe(value) if isinstance(value, str) else repr(value)


def safe(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text
