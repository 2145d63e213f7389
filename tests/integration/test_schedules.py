"""Schedules kept by real housekeeping processes, several at once, some of them killed."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from tests.integration.conftest import Stack
from tests.servers import kill_group
from trsp_core.config import CompressionSpec
from trsp_jobs import db, schedules
from trsp_jobs.callers import OPERATOR
from trsp_jobs.models import Job
from trsp_jobs.schedules import Terms
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.rows import Fire, Schedule

pytestmark = pytest.mark.integration
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}


def create(stack: Stack) -> str:
    terms = Terms(
        name="s",
        cron=Cron("0 0 1 1 *"),
        misfire="run_once",
        overlap="allow",
        spec=CompressionSpec.from_dict(SPEC).to_dict(),
        options={},
    )
    with db.session_scope(stack.sessions) as session:
        return schedules.create(session, OPERATOR, terms).id


def make_due(stack: Stack) -> None:
    with db.session_scope(stack.sessions) as session:
        session.execute(update(Schedule).values(next_fire_at=func.now() - timedelta(seconds=1)))


def runs(stack: Stack) -> dict[str, list[str]]:
    with db.session_scope(stack.sessions) as session:
        found: dict[str, list[str]] = {}
        for fire in session.scalars(select(Fire)):
            found.setdefault(fire.schedule_id, []).append(str(fire.job_id))
        return found


def job_ids(stack: Stack) -> list[str]:
    with db.session_scope(stack.sessions) as session:
        return sorted(session.scalars(select(Job.id)))


def test_two_nodes_and_a_killed_one_make_each_run_once_and_ring(stack: Stack) -> None:
    ids = [create(stack) for _ in range(4)]
    for number in range(2):
        make_due(stack)
        with ExitStack() as running:
            nodes = [running.enter_context(stack.housekeeping(f"node-{number}-{n}")) for n in range(3)]
            stack.wait_for(lambda: runs(stack), 60)
            kill_group(nodes[0], signal.SIGKILL)
            wanted = (number + 1) * len(ids)
            stack.wait_for(lambda wanted=wanted: len(job_ids(stack)) >= wanted, 60)  # type: ignore[misc]
            stack.wait_for(lambda: all(stack.job(job_id).rung_at for job_id in job_ids(stack)), 60)
    found = runs(stack)
    assert {name: len(jobs) for name, jobs in found.items()} == dict.fromkeys(ids, 2)
    assert sorted(job for jobs in found.values() for job in jobs) == job_ids(stack)
