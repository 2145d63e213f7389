"""The service under load, against its limits: submits, lists, listeners and claims, on real servers.

The API is a process as `trsp up` starts it, PostgreSQL commits durably, the client is on the same machine and
sends a key. Ratios are of requests that were sent in turn. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from load_parts import claims, listeners, lists, submits
from load_parts.limits import Limit
from load_parts.served import Backend, servers
from machine import machine

RESULT = Path(__file__).parent / "results" / "load.json"

Part = Callable[[Backend], tuple[dict[str, Any], list[Limit]]]


def parts(given: argparse.Namespace) -> dict[str, Part]:
    """Return the parts by name."""
    return {
        "submits": partial(submits.measure, requests=given.submits),
        "lists": partial(lists.measure, jobs=given.jobs, requests=given.requests),
        "listeners": partial(listeners.measure, listeners=given.listeners, events=given.events),
        "claims": partial(claims.measure, jobs=given.claims),
    }


def main() -> int:
    """Measure, write the result, print it; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--part", action="append", help="submits, lists, listeners or claims; all if not given"
    )
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs of the full table")
    parser.add_argument("--requests", type=int, default=300, help="requests of each list")
    parser.add_argument("--submits", type=int, default=1000, help="submits")
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--claims", type=int, default=2000, help="jobs that are claimed, thrice")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    limits: list[Limit] = []
    with servers() as backend:
        for name, part in parts(given).items():
            if not given.part or name in given.part:
                found[name], kept = part(backend)
                limits += kept
                print(json.dumps([limit.to_dict() for limit in kept]), file=sys.stderr, flush=True)
    result = {"machine": machine(), "limits": [limit.to_dict() for limit in limits], "found": found}
    text = json.dumps(result, indent=2)
    given.output.write_text(text + "\n")
    print(text)
    return int(not all(limit.ok for limit in limits))


if __name__ == "__main__":
    sys.exit(main())
