"""Writes a comparison: the picture and the table for people, the table for programs, the value itself."""

from __future__ import annotations

from pathlib import Path

from trsp_core.compare.page import render_page
from trsp_core.compare.results import Comparison
from trsp_core.compare.space import COMPARISON
from trsp_core.compare.table import to_csv
from trsp_core.files import write_json_atomically, write_text_atomically

PAGE, TABLE = "comparison.html", "comparison.csv"


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write page, table and, last of all, the value; each appears whole or not at all."""
    page, table = render_page(comparison), to_csv(comparison)
    write_text_atomically(folder / PAGE, page)
    write_text_atomically(folder / TABLE, table)
    write_json_atomically(folder / COMPARISON, comparison.to_dict())
