"""Lists of a full table against the same lists of an empty one, by callers who own much, little and all of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from sqlalchemy import create_engine, text

from load_parts.clients import SPEC, Client, client, compared, in_turn, new_key, put_worker_online
from load_parts.limits import Limit
from load_parts.served import OPERATORS_KEY, Backend, Served, serving

MOST_RATIO = 2.0
CHOICES: Mapping[str, dict[str, Any]] = {
    "all": {},
    "status": {"status": "failed"},
    "unfinished": {"status": ["queued", "starting", "running"]},
    "model": {"model": "hf:org/model-7"},
    "no such model": {"model": "hf:org/none"},
    "label": {"label": "team=red-3"},
    "common label": {"label": "kind=nightly"},
    "no such label": {"label": "team=none"},
    "label and status": {"label": "team=red-3", "status": "succeeded"},
    "schedule": {"schedule": "sch_7"},
    "time": {"created_after": "2026-01-02T00:00:00Z", "created_before": "2026-01-03T00:00:00Z"},
}
SORTS = ("-created_at", "created_at", "-finished_at", "finished_at", "-priority", "priority")
DEEP_PAGES = 200
"""So many pages from the first one, of 100 jobs each, deep pages begin."""
OWNERS = ("much", "little")
FILL = """
INSERT INTO jobs (id, spec, fingerprint, status, reason, progress, labels, priority, device_class, attempt,
                  crashes, max_attempts, last_event, version, created_at, finished_at, result, rung_at, owner,
                  schedule_id)
SELECT 'job_' || lpad(number::text, 26, '0'),
       jsonb_set(CAST(:spec AS jsonb), '{model}', to_jsonb('hf:org/model-' || number % 50)),
       md5(number::text),
       CASE WHEN number > :count - 50 THEN 'queued' WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
       'the result is published', 1,
       jsonb_build_object('team', 'red-' || number % 100,
                          'kind', CASE WHEN number % 2 = 0 THEN 'nightly' ELSE 'ad-hoc' END),
       number % 5, 'any', 1, 0, 3, 12, 20, timestamptz '2026-01-01' + number * interval '1 minute',
       CASE WHEN number > :count - 50 THEN NULL
            ELSE timestamptz '2026-01-01' + (number + 30) * interval '1 minute' END,
       CAST(:result AS jsonb), now(),
       CASE WHEN number % 2 = 0 THEN 'much' WHEN number % 2001 = 0 THEN 'little' ELSE 'others' END,
       CASE WHEN number % 3 = 0 THEN 'sch_' || number % 20 END
FROM generate_series(1, :count) AS number
"""
RESULT = {"removed_layers": [1, 2, 3], "perplexity": {"python-docs": {"dense": 9.0, "pruned": 12.0}}}


def fill(database_url: str, count: int, spec: Mapping[str, Any]) -> None:
    """Put jobs into the table: nearly all have ended, as a service has them after a while."""
    values = {"spec": json.dumps(spec), "result": json.dumps(RESULT), "count": count}
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(FILL), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    engine.dispose()


def measure(backend: Backend, jobs: int, requests: int) -> tuple[dict[str, Any], list[Limit]]:
    """Return the times of every list on both tables, and what they are held to."""
    with (
        serving(backend.database("empty")) as empty,
        serving(backend.database("full")) as full,
    ):
        with client(full) as operator:
            fill(full.database_url, jobs, operator.send("POST", "/v1/jobs/validate", SPEC)["spec"])
        for served in (empty, full):
            put_worker_online(served.database_url)
        keys = {"operator": (OPERATORS_KEY, OPERATORS_KEY)}
        keys |= {owner: (new_key(empty, owner)[1], new_key(full, owner)[1]) for owner in OWNERS}
        found = {who: _measure_lists(empty, full, pair, requests) for who, pair in keys.items()}
    worst = {f"{who}: {name}": row["p99_ratio"] for who, rows in found.items() for name, row in rows.items()}
    slowest = max(worst, key=lambda name: worst[name])
    return found, [
        Limit(
            f"lists, worst of {len(worst)} ({slowest}): p99 to an empty table's", worst[slowest], MOST_RATIO
        )
    ]


def _measure_lists(
    empty: Served, full: Served, keys: tuple[str, str], requests: int
) -> dict[str, dict[str, float]]:
    with ExitStack() as opened:
        low, high = (
            opened.enter_context(client(served, key)) for served, key in zip((empty, full), keys, strict=True)
        )
        found = {}
        for name, query in _queries(high).items():
            known = {key: value for key, value in query.items() if key != "after"}
            acts = {"empty": _listing(low, known), "full": _listing(high, query)}
            found[name] = compared(in_turn(acts, requests), "empty", "full")
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        return found


def _queries(full: Client) -> dict[str, dict[str, Any]]:
    """Return every list: the choices by the usual order, all jobs by each order, and pages far from the first."""
    chosen = {name: dict(query) for name, query in CHOICES.items()}
    sorted_ = {f"all by {sort}": {"sort": sort} for sort in SORTS}
    deep = {
        f"deep by {sort}": {"sort": sort, "after": after} for sort in SORTS if (after := _deep(full, sort))
    }
    both = {f"status by {sort}": {"sort": sort, "status": "failed"} for sort in SORTS}
    return {**chosen, **sorted_, **deep, **both}


def _deep(full: Client, sort: str) -> str | None:
    """Return the cursor of a page far from the first, or of the last but one where there are fewer."""
    query: dict[str, Any] = {"sort": sort, "limit": 100}
    for _ in range(DEEP_PAGES):
        following = full.get("/v1/jobs", query)["next_cursor"]
        if following is None:
            break
        query["after"] = following
    return query.get("after")


def _listing(caller: Client, query: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: caller.get("/v1/jobs", query)
