"""The ticker rings for the jobs that it makes, and bears a broker and a database that are away."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, update

from tests.worker.conftest import Bench
from trsp_core.config import CompressionSpec
from trsp_jobs import db, schedules
from trsp_jobs.callers import OPERATOR
from trsp_jobs.schedules import Terms
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.rows import Schedule
from trsp_jobs.testing import RecordingDispatcher
from worker.ticking import Ticker

pytestmark = pytest.mark.integration
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}


def make_due(bench: Bench) -> str:
    spec = CompressionSpec.from_dict(SPEC).to_dict()
    rules = {"misfire": "run_once", "overlap": "allow"}
    terms = Terms(name="s", cron=Cron("0 0 1 1 *"), spec=spec, options={}, **rules)  # type: ignore[arg-type]
    with db.session_scope(bench.sessions) as session:
        schedule_id = schedules.create(session, OPERATOR, terms).id
        session.execute(update(Schedule).values(next_fire_at=func.now() - timedelta(seconds=1)))
    return schedule_id


def fired(bench: Bench, schedule_id: str) -> list[str | None]:
    with db.session_scope(bench.sessions) as session:
        return [fire.job_id for fire in schedules.list_fires(session, schedule_id)[0]]


def test_a_job_that_was_made_is_rung(bench: Bench) -> None:
    bell, schedule_id = RecordingDispatcher(), make_due(bench)
    Ticker(bench.settings, bench.sessions, bell).tick()
    (job_id,) = fired(bench, schedule_id)
    assert bell.rung == [job_id]
    assert bench.job(str(job_id)).rung_at is not None


def test_without_the_broker_the_job_is_made_and_left_to_be_rung(bench: Bench) -> None:
    bell, schedule_id = RecordingDispatcher(), make_due(bench)
    bell.down = True
    Ticker(bench.settings, bench.sessions, bell).tick()
    (job_id,) = fired(bench, schedule_id)
    assert bench.job(str(job_id)).rung_at is None


def test_it_ticks_on_after_what_nobody_foresaw(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, ticks = threading.Event(), []
    ticker = Ticker(bench.settings, bench.sessions, RecordingDispatcher())

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            ended.set()
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(ticker, "tick", tick)
    ticker.run(ended)
    assert len(ticks) == 2
