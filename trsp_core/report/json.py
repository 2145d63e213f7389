"""report.json: the value itself."""

from __future__ import annotations

import json

from trsp_core.results import CompressionReport


def to_json(report: CompressionReport) -> str:
    """Return the report as JSON text, floats in full precision.

    Raises:
        ValueError: A figure is not finite; JSON has no word for that.
    """
    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
