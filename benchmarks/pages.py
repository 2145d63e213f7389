"""Lists of a full table against those of an empty one, and a submit against a bare INSERT behind FastAPI.

The API is a process of its own with PostgreSQL and Valkey; requests come one after the other. The table is
filled with jobs that have ended, as a service has them after a while, a few that wait and a few that work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from machine import machine
from served import running, servers
from sqlalchemy import create_engine, text

LIST_RATIO = 2.0
SUBMIT_RATIO = 5.0
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}
LISTS: Mapping[str, dict[str, Any]] = {
    "newest": {},
    "status": {"status": "failed"},
    "unfinished": {"status": ["queued", "starting", "running"]},
    "model": {"model": "hf:org/model-7"},
    "label": {"label": "team=red-3"},
    "label and status": {"label": "team=red-3", "status": "succeeded"},
    "time": {"created_before": "2026-01-02T00:00:00Z"},
    "oldest": {"sort": "created_at"},
    "finished last": {"sort": "-finished_at"},
    "priority": {"sort": "-priority"},
}
FILL = """
INSERT INTO jobs (id, spec, fingerprint, status, reason, progress, labels, priority, device_class, attempt,
                  crashes, max_attempts, last_event, version, created_at, finished_at, result, rung_at)
SELECT 'job_' || lpad(number::text, 26, '0'),
       jsonb_set(CAST(:spec AS jsonb), '{model}', to_jsonb('hf:org/model-' || number % 50)),
       md5(number::text),
       CASE WHEN number > :count - 50 THEN 'queued' WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
       'the result is published', 1, jsonb_build_object('team', 'red-' || number % 100), number % 5, 'any', 1,
       0, 3, 12, 20, timestamptz '2026-01-01' + number * interval '1 minute',
       CASE WHEN number > :count - 50 THEN NULL
            ELSE timestamptz '2026-01-01' + (number + 30) * interval '1 minute' END,
       CAST(:result AS jsonb), now()
FROM generate_series(1, :count) AS number
"""


def fill(database_url: str, count: int, body: Mapping[str, Any]) -> None:
    """Put jobs into the table."""
    result = {"removed_layers": [1, 2, 3], "perplexity": {"python-docs": {"dense": 9.0, "pruned": 12.0}}}
    values = {"spec": json.dumps(body), "result": json.dumps(result), "count": count}
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(FILL), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    engine.dispose()


def p99(act: Callable[[], Any], repeats: int) -> float:
    """Return the 99th percentile of an action's time, milliseconds, after a few that do not count."""
    for _ in range(10):
        act()
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        act()
        took.append(time.perf_counter() - begun)
    return round(1000 * sorted(took)[int(0.99 * (len(took) - 1))], 2)


def lists(client: httpx.Client, repeats: int) -> dict[str, float]:
    """Return the p99 of every list's first page, and of walking one list page by page."""
    times = {
        name: p99(lambda params=params: client.get("/v1/jobs", params=params).raise_for_status(), repeats)
        for name, params in LISTS.items()
    }
    cursor: list[str | None] = [None]

    def following() -> None:
        params = {"after": cursor[0]} if cursor[0] else {}
        cursor[0] = client.get("/v1/jobs", params=params).raise_for_status().json()["next_cursor"]

    return {**times, "page by page": p99(following, repeats)}


def measure(settings: dict[str, str], count: int, repeats: int) -> dict[str, Any]:
    """Return the figures of all lists and of the submit."""
    with running(["-m", "api"], settings, "/healthz") as served, httpx.Client(base_url=served.url) as client:
        empty = lists(client, repeats)
        body = client.post("/v1/jobs/validate", json=SPEC).raise_for_status().json()["spec"]
        fill(settings["TRSP_DATABASE_URL"], count, body)
        full = lists(client, repeats)
        submit = p99(lambda: client.post("/v1/jobs", json=SPEC).raise_for_status(), repeats)
    with (
        running(["benchmarks/bare.py"], settings, "/") as served,
        httpx.Client(base_url=served.url) as client,
    ):
        bare = p99(lambda: client.post("/", json=SPEC).raise_for_status(), repeats)
    rows = {
        name: {"empty_ms": empty[name], "full_ms": full[name], "ratio": round(full[name] / empty[name], 2)}
        for name in full
    }
    return {"lists": rows, "submit": {"bare_ms": bare, "ms": submit, "ratio": round(submit / bare, 2)}}


def main() -> None:
    """Print the figures; exit code 1 if a ratio is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=300)
    given = parser.parse_args()
    with servers() as settings:
        found = measure(settings, given.jobs, given.repeats)
    limits = {"list": LIST_RATIO, "submit": SUBMIT_RATIO}
    print(json.dumps({"machine": machine(), "jobs": given.jobs, **found, "limits": limits}, indent=2))
    slow = [row for row in found["lists"].values() if row["ratio"] > LIST_RATIO]
    sys.exit(bool(slow) or found["submit"]["ratio"] > SUBMIT_RATIO)


if __name__ == "__main__":
    main()
