"""What the service adds to a job: the demo's job over HTTP beside `trsp prune` with the same spec.

Both work on the same cache of the model, which one job fills beforehand, and write to the same disk. A pair
is one of each, one after the other, in alternating order, so that a machine that grows warm or busy hits both.
A time is what a person waits: from the command to its end, from `submit` to the status `succeeded`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trsp_cli.client import Client
from trsp_cli.demo import DEMO_SPEC

SHARE, SECONDS = 0.03, 5.0
"""A job may take this share, and so many seconds, longer than the command."""
SPEC = {name: value for name, value in DEMO_SPEC.items() if name != "labels"}
WARM_UP = {**SPEC, "method": "last", "evaluation": {**SPEC["evaluation"], "speed": False, "windows": 1}}
LOOK_SECONDS = 0.2
TRSP = (sys.executable, "-m", "trsp_cli.main", "--json")


@contextmanager
def service(folder: Path) -> Iterator[Client]:
    """Run the whole service on a folder and give a client."""
    command = [*TRSP, "up", "--port", "0", "--data-dir", str(folder)]
    with (folder.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with Client(url, (folder / "key").read_text().strip()) as client:
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=60)


def by_service(client: Client, spec: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a job; return its seconds and its report."""
    began = time.monotonic()
    job = client.submit(spec)
    while job["status"] not in ("succeeded", "failed"):
        time.sleep(LOOK_SECONDS)
        job = client.get(job["id"])
    seconds = time.monotonic() - began
    if job["status"] != "succeeded":
        raise RuntimeError(f"the job failed: {job['error']}")
    return seconds, client.report(job["id"])


def by_command(folder: Path, cache: Path) -> tuple[float, dict[str, Any]]:
    """Run `trsp prune`; return its seconds and its report."""
    out = folder / "out"
    command = [*TRSP, "prune", SPEC["model"], "--out", str(out), *flags(SPEC)]
    began = time.monotonic()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TRSP_CACHE": str(cache)}
    )
    seconds = time.monotonic() - began
    report = json.loads((out / "report.json").read_text())
    shutil.rmtree(out)
    return seconds, report


def flags(spec: Mapping[str, Any]) -> list[str]:
    """Return a spec as the command's options."""
    texts = spec["evaluation"]["perplexity"]
    named = ["--sparsity", str(spec["sparsity"]), "--calibration", spec["calibration"]["set"]]
    named += ["--perplexity", ",".join(texts)]
    parts = {
        "calibration": {name: value for name, value in spec["calibration"].items() if name != "set"},
        "method": {name: value for name, value in spec["method"].items() if name != "name"},
        "evaluation": {name: value for name, value in spec["evaluation"].items() if name != "perplexity"},
    }
    return named + [
        item for name, value in leaves(parts) for item in ("--set", f"{name}={json.dumps(value)}")
    ]


def leaves(tree: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree with its path."""
    for name, value in tree.items():
        path = f"{place}.{name}" if place else name
        if isinstance(value, Mapping):
            yield from leaves(value, path)
        else:
            yield path, value


def measured(folder: Path, pairs: int) -> dict[str, Any]:
    """Return the seconds of each pair, and what the service adds."""
    data = folder / "data"
    data.mkdir()
    found: list[dict[str, Any]] = []
    with service(data) as client:
        by_service(client, WARM_UP)
        for number in range(pairs):
            found.append(pair(client, folder, data / "cache", command_first=number % 2 == 0))
    ours, theirs = (statistics.median(item[name] for item in found) for name in ("service", "command"))
    allowed = SHARE * theirs + SECONDS
    return {
        "spec": SPEC,
        "pairs": found,
        "service_seconds": round(ours, 2),
        "command_seconds": round(theirs, 2),
        "added_seconds": round(ours - theirs, 2),
        "allowed_seconds": round(allowed, 2),
    }


def pair(client: Client, folder: Path, cache: Path, *, command_first: bool) -> dict[str, Any]:
    """Do the same work both ways; the reports must have the same spec and the same layers."""
    ways = {"service": lambda: by_service(client, SPEC), "command": lambda: by_command(folder, cache)}
    order = [*ways][::-1] if command_first else [*ways]
    done = {name: ways[name]() for name in order}
    reports = [report for _, report in done.values()]
    same = [{"spec": report["spec"], "removed": report["plan"]["removed_layers"]} for report in reports]
    if same[0] != same[1]:
        raise RuntimeError(f"the two did not do the same: {same}")
    stages = {name: sum(report["timings"].values()) for name, (_, report) in done.items()}
    return {
        "first": order[0],
        **{name: round(seconds, 2) for name, (seconds, _) in done.items()},
        "in_stages": {name: round(seconds, 2) for name, seconds in stages.items()},
    }


def main() -> None:
    """Print the figures; exit code 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trsp-overhead-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        result = measured(Path(name), given.pairs)
    from machine import machine

    text = json.dumps({"machine": machine(), "share": SHARE, "seconds": SECONDS, **result}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(result["added_seconds"] > result["allowed_seconds"])


if __name__ == "__main__":
    main()
