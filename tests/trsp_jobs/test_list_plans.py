"""Lists of a full table: whatever is asked, few rows are read, however filters, owners and orders go together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.job_list import NEAR, SORTS, JobFilter
from trsp_jobs.models import Job

pytestmark = pytest.mark.integration
ROWS = 20_000
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}
FILL = """
INSERT INTO jobs (id, spec, fingerprint, status, reason, progress, labels, priority, device_class, attempt,
                  crashes, max_attempts, last_event, version, created_at, finished_at, owner, schedule_id)
SELECT 'job_' || lpad(number::text, 26, '0'),
       jsonb_set(CAST(:spec AS jsonb), '{model}', to_jsonb('hf:org/model-' || number % 50)), '',
       CASE WHEN number > :rows - 50 THEN 'queued' WHEN number % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
       '', 1, jsonb_build_object('team', 'red-' || number % 100, 'half', CASE WHEN number % 2 = 0 THEN 'a' END),
       number % 5, 'any', 1, 0, 3, 1, 1, timestamptz '2026-01-01' + number * interval '1 minute',
       CASE WHEN number <= :rows - 50 THEN timestamptz '2026-01-02' + number * interval '1 minute' END,
       CASE WHEN number % 2 = 0 THEN 'much' WHEN number % 201 = 0 THEN 'little' ELSE 'others' END,
       CASE WHEN number % 3 = 0 THEN 'sch_' || number % 20 END
FROM generate_series(1, :rows) AS number
"""
"""What goes together: no job of `much` has an odd team, model or schedule; those that failed have priority 0."""
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "status": {"statuses": ["failed"]},
    "unfinished": {"statuses": ["queued", "starting", "running"]},
    "model": {"model": "hf:org/model-7"},
    "label": {"labels": ["team=red-3"]},
    "common label": {"labels": ["half=a"]},
    "no such label": {"labels": ["team=none"]},
    "label and status": {"labels": ["team=red-3"], "statuses": ["succeeded"]},
    "schedule": {"schedule": "sch_7"},
    "time": {
        "created_after": datetime(2026, 1, 2, tzinfo=UTC),
        "created_before": datetime(2026, 1, 3, tzinfo=UTC),
    },
}


@pytest.fixture
def full(engine: Engine, sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """A table of many jobs, as VACUUM keeps it."""
    values = {"spec": json.dumps(CompressionSpec.from_dict(SPEC).to_dict()), "rows": ROWS}
    with engine.begin() as connection:
        connection.execute(text(FILL), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
    return sessions


@contextmanager
def explained(engine: Engine) -> Iterator[list[dict[str, Any]]]:
    """Give the plans of all queries on jobs, with what each part of them really read."""
    plans: list[dict[str, Any]] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("EXPLAIN"):
            found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plans.append(found.scalar_one()[0]["Plan"])

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def rows_read(plan: dict[str, Any]) -> float:
    """Return the rows of the jobs' table that a plan took up, those among them that it threw away."""
    own = 0.0
    if plan.get("Relation Name") == "jobs":
        dropped = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = plan["Actual Loops"] * (plan["Actual Rows"] + dropped)
    return own + sum(map(rows_read, plan.get("Plans", ())))


def test_no_list_reads_more_than_a_few_rows(engine: Engine, full: sessionmaker[Session]) -> None:
    most: dict[str, float] = {}
    for who, (name, chosen) in product((None, "much", "little"), FILTERS.items()):
        with explained(engine) as plans, db.session_scope(full) as session:
            service.list_jobs(session, chosen=JobFilter(owner=who, **chosen))
        most[f"{who}: {name}"] = sum(map(rows_read, plans))
    assert len(most) == 3 * len(FILTERS)
    assert {name: rows for name, rows in most.items() if rows > 2 * NEAR + 2000} == {}


def test_an_owner_with_few_jobs_does_not_pay_for_the_labels_of_others(
    engine: Engine, full: sessionmaker[Session]
) -> None:
    for label in ("half=a", "team=red-3", "team=none"):
        with explained(engine) as plans, db.session_scope(full) as session:
            service.list_jobs(session, chosen=JobFilter(owner="little", labels=[label]))
        assert sum(map(rows_read, plans)) < 300, label


@pytest.mark.parametrize("status", [(), ("failed",)])
def test_no_order_reads_more_than_a_page(
    engine: Engine, full: sessionmaker[Session], status: tuple[str, ...]
) -> None:
    most: dict[str, float] = {}
    for who, sort in product((None, "much", "little"), SORTS):
        with db.session_scope(full) as session:
            first = service.list_jobs(
                session, sort=sort, chosen=JobFilter(owner=who, statuses=status), limit=50
            )
        with explained(engine) as plans, db.session_scope(full) as session:
            service.list_jobs(
                session, sort=sort, after=first.next_cursor, chosen=JobFilter(owner=who, statuses=status)
            )
        most[f"{who}: {sort}"] = sum(map(rows_read, plans))
    assert {name: rows for name, rows in most.items() if rows > 300} == {}


def test_reasons_of_a_page_take_one_query(engine: Engine, full: sessionmaker[Session]) -> None:
    with db.session_scope(full) as session:
        jobs = service.list_jobs(session).items
    assert {job.status for job in jobs} == {"queued"}
    with explained(engine) as plans, db.session_scope(full) as session:
        service.see_worker(session, service.WorkerFacts("w", "host", "cpu", 1), seconds=60)
        plans.clear()
        reasons = service.waiting_reasons(session, [session.merge(job, load=False) for job in jobs])
    assert len(plans) == 1
    assert reasons[0] == "waiting: 49 jobs ahead"
    assert isinstance(jobs[0], Job)
