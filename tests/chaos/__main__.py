"""`python -m tests.chaos --seeds 1 2 3 4 5`: one run a seed, a line of JSON each; exit code 1 if one is bad."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="trsp-run-"))

from benchmarks.machine import machine
from tests.chaos.blows import Weather
from tests.chaos.run import Options, run


def main() -> int:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--store-seconds", type=float, default=20, help="how long the S3 server is away")
    parser.add_argument("--mean-pause", type=float, default=1.5, help="between two blows, seconds")
    parser.add_argument("--logs", type=Path, help="folder in which the logs of the parts are kept")
    parser.add_argument("--out", type=Path, help="file that gets all results and the machine")
    options = parser.parse_args()
    results = []
    for seed in options.seeds:
        weather = Weather(mean_pause=options.mean_pause, store_seconds=options.store_seconds)
        wanted = Options(seed, options.jobs, weather)
        result = asdict(run(wanted, options.logs and options.logs / str(seed)))
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        results.append(result)
    if options.out is not None:
        options.out.write_text(json.dumps({"runs": results, "machine": machine()}, indent=2) + "\n")
    return 1 if any(result["problems"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
