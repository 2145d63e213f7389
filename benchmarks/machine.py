"""What a benchmark ran on, as its results state it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trsp_core.evaluation.memory import environment


def machine() -> dict[str, Any]:
    """Return versions, processor, threads and the date."""
    return {**environment("cpu"), "date": datetime.now(UTC).date().isoformat()}


if __name__ == "__main__":
    print(machine())
