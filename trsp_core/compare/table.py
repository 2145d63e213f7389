"""comparison.csv: one row a method, one column a figure, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from typing import Any

from trsp_core.compare.results import Comparison, Row
from trsp_core.report.csv import safe


def to_csv(comparison: Comparison) -> str:
    """Return the table; numbers in full precision, what a row does not have is empty."""
    buffer = io.StringIO(newline="")
    rows = [_record(comparison, row) for row in comparison.rows]
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _record(comparison: Comparison, row: Row) -> dict[str, Any]:
    result = row.result
    change = comparison.against_dense(result) if result else {}
    figures = ("choosing_seconds", "transfer_seconds", "gradient_tokens", "forward_tokens")
    peaks = ("peak_rss_bytes", "peak_cuda_bytes")
    return {
        "label": safe(row.label),
        "method": row.method["name"],
        "reference": str(row.reference).lower(),
        "problem": safe(row.problem.message) if row.problem else "",
        "removed_layers": " ".join(map(str, result.order)) if result else "",
        **{f"perplexity {name}": result.perplexity[name] if result else "" for name in comparison.texts},
        **{f"against dense {name}": change.get(name, "") for name in comparison.texts},
        **{name: getattr(result, name) if result else "" for name in (*figures, *peaks)},
    }
