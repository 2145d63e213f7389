"""Times become jobs on real PostgreSQL: once each, whoever ticks, and visibly where none is made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import SPEC
from trsp_core.config import CompressionSpec
from trsp_jobs import db, schedules, service
from trsp_jobs.callers import OPERATOR
from trsp_jobs.errors import Conflict, ResourceNotFound, VersionConflict
from trsp_jobs.models import Job
from trsp_jobs.schedules import Terms
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.rows import Fire, Schedule
from trsp_jobs.settings import Settings

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
HOURLY = Cron("0 * * * *")


def terms(**changes: Any) -> Terms:
    spec = CompressionSpec.from_dict({**SPEC, **changes.pop("spec", {})}).to_dict()
    options = {"labels": {"from": "schedule"}, "priority": 3, "publish": None}
    whole = {"name": "s", "cron": HOURLY, "misfire": "run_once", "overlap": "allow", "spec": spec}
    return Terms(**{**whole, "options": options, **changes})


Make = Callable[..., str]


@pytest.fixture
def make(sessions: sessionmaker[Session]) -> Make:
    """Creates a schedule and returns its id; with `due` its next time was so many seconds ago."""

    def act(due: float | None = None, **changes: Any) -> str:
        with db.session_scope(sessions) as session:
            schedule_id = schedules.create(session, OPERATOR, terms(**changes)).id
            if due is not None:
                past = func.now() - timedelta(seconds=due)
                query = update(Schedule).where(Schedule.id == schedule_id).values(next_fire_at=past)
                session.execute(query)
        return schedule_id

    return act


def row(sessions: sessionmaker[Session], schedule_id: str) -> Schedule:
    with db.session_scope(sessions) as session:
        return schedules.get_schedule(session, schedule_id)


def jobs(sessions: sessionmaker[Session]) -> list[Job]:
    with db.session_scope(sessions) as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


def fires(sessions: sessionmaker[Session], schedule_id: str) -> list[Fire]:
    with db.session_scope(sessions) as session:
        return list(schedules.list_fires(session, schedule_id, limit=100)[0])


def test_a_time_that_has_come_becomes_a_job_with_all_that_was_said(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    schedule_id = make(due=1)
    (fire,) = schedules.tick(sessions, settings)
    (job,) = jobs(sessions)
    assert (fire.outcome, fire.reason, fire.job_id) == ("fired", "on time", job.id)
    assert (job.schedule_id, job.labels, job.priority) == (schedule_id, {"from": "schedule"}, 3)
    assert (job.status, job.last_event) == ("queued", 1)
    following = row(sessions, schedule_id).next_fire_at
    assert following is not None
    assert following > datetime.now(UTC)
    assert schedules.tick(sessions, settings) == []


def test_what_is_not_due_or_suspended_makes_nothing(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    make()
    suspended = make(due=1)
    with db.session_scope(sessions) as session:
        schedules.suspend(session, suspended)
    assert schedules.tick(sessions, settings) == []
    with db.session_scope(sessions) as session:
        assert schedules.resume(session, suspended).next_fire_at > datetime.now(UTC)  # type: ignore[operator]
    assert schedules.tick(sessions, settings) == []
    assert jobs(sessions) == []


@pytest.mark.parametrize(("misfire", "outcome", "made"), [("skip", "missed", 0), ("run_once", "fired", 1)])
def test_times_without_anybody(
    sessions: sessionmaker[Session], settings: Settings, make: Make, misfire: str, outcome: str, made: int
) -> None:
    schedule_id = make(due=3 * 3600, misfire=misfire, cron=Cron("59 23 31 12 *"))
    (fire,) = schedules.tick(sessions, settings)
    assert (fire.outcome, len(jobs(sessions))) == (outcome, made)
    assert row(sessions, schedule_id).next_fire_at > datetime.now(UTC)  # type: ignore[operator]


def test_a_run_waits_for_the_one_before_unless_both_may_be(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    schedule_id = make(due=1, overlap="forbid")
    schedules.tick(sessions, settings)
    (job,) = jobs(sessions)
    _make_due(sessions, schedule_id)
    (fire,) = schedules.tick(sessions, settings)
    assert (fire.outcome, fire.reason) == ("overlapped", f"{job.id} of this schedule is not finished")
    with db.session_scope(sessions) as session:
        service.cancel(session, job.id)
    _make_due(sessions, schedule_id)
    assert [item.outcome for item in schedules.tick(sessions, settings)] == ["fired"]
    assert [item.outcome for item in fires(sessions, schedule_id)] == ["fired", "overlapped", "fired"]


def _make_due(sessions: sessionmaker[Session], schedule_id: str) -> None:
    with db.session_scope(sessions) as session:
        query = update(Schedule).where(Schedule.id == schedule_id)
        session.execute(query.values(next_fire_at=func.now() - timedelta(milliseconds=5)))


def test_a_spec_that_no_longer_holds_fails_visibly_and_the_schedule_goes_on(
    sessions: sessionmaker[Session], settings: Settings, make: Make, tmp_path: Path
) -> None:
    schedule_id = make(due=1, spec={"calibration": f"text:{tmp_path}/gone.txt"})
    (fire,) = schedules.tick(sessions, settings)
    assert (fire.outcome, fire.job_id, jobs(sessions)) == ("failed", None, [])
    assert "no job could be made" in fire.reason
    assert fire.problems[0]["pointer"] == "/calibration/set"
    assert row(sessions, schedule_id).next_fire_at > datetime.now(UTC)  # type: ignore[operator]


def test_a_spec_that_cannot_even_be_checked_keeps_no_other_schedule_waiting(
    sessions: sessionmaker[Session], settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, sound = make(due=10), make(due=1)
    real = schedules.firing.admit

    def admit(*arguments: Any) -> Any:
        if not calls:
            calls.append(1)
            raise OSError("a broken disk")
        return real(*arguments)

    calls: list[int] = []
    monkeypatch.setattr(schedules.firing, "admit", admit)
    outcomes = {fire.schedule_id: fire.outcome for fire in schedules.tick(sessions, settings)}
    assert outcomes == {poison: "failed", sound: "fired"}
    assert fires(sessions, poison)[0].reason.endswith("it could not be checked: OSError")


def test_many_tickers_at_once_make_each_run_once(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    ids = [make(due=1) for _ in range(4)]
    threads = [threading.Thread(target=schedules.tick, args=(sessions, settings)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    schedules.tick(sessions, settings)
    assert sorted(str(job.schedule_id) for job in jobs(sessions)) == sorted(ids)
    assert all(len(fires(sessions, schedule_id)) == 1 for schedule_id in ids)


def test_a_schedule_that_was_changed_while_it_was_judged_is_judged_anew(
    sessions: sessionmaker[Session], settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule_id = make(due=1)
    real = schedules.firing.judge

    def judge(*arguments: Any) -> Any:
        with db.session_scope(sessions) as session:
            schedules.suspend(session, schedule_id)
        return real(*arguments)

    monkeypatch.setattr(schedules.firing, "judge", judge)
    assert schedules.tick(sessions, settings) == []
    assert jobs(sessions) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from trsp_jobs import db, schedules
from trsp_jobs.settings import Settings
from trsp_jobs.schedules import firing
real = firing.submit
def submit(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
firing.submit = submit
settings = Settings()
schedules.tick(db.session_factory(db.make_engine(settings.database_url)), settings)
"""


def test_a_kill_between_the_job_and_the_next_time_leaves_neither(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    schedule_id = make(due=1)
    before = row(sessions, schedule_id).next_fire_at
    names = ("database_url", "broker_url", "store_url", "data_dir")
    own = {f"TRSP_{name.upper()}": str(getattr(settings, name)) for name in names}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=ROOT, env={**os.environ, **own}, check=False, timeout=120
    )
    assert done.returncode == -9
    assert (jobs(sessions), fires(sessions, schedule_id)) == ([], [])
    assert row(sessions, schedule_id).next_fire_at == before
    assert [fire.outcome for fire in schedules.tick(sessions, settings)] == ["fired"]
    assert len(jobs(sessions)) == 1


def test_a_run_by_hand_is_a_run_beside_the_times(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    schedule_id = make(overlap="forbid")
    current = row(sessions, schedule_id)
    spec = CompressionSpec.from_dict(current.spec)
    with db.session_scope(sessions) as session:
        fire = schedules.run_now(session, schedule_id, spec, settings, version=current.version)
        assert (fire.outcome, fire.by_hand) == ("fired", True)
    assert row(sessions, schedule_id).next_fire_at == current.next_fire_at
    with pytest.raises(Conflict, match="is not finished"), db.session_scope(sessions) as session:
        schedules.run_now(session, schedule_id, spec, settings, version=current.version)
    with pytest.raises(Conflict, match="was changed"), db.session_scope(sessions) as session:
        schedules.run_now(session, schedule_id, spec, settings, version=current.version + 1)


def test_a_change_names_the_version_that_it_is_based_on(sessions: sessionmaker[Session], make: Make) -> None:
    schedule_id = make()
    with db.session_scope(sessions) as session:
        changed = schedules.change(session, schedule_id, terms(cron=Cron("0 0 1 1 *")), version=1)
        assert changed.next_fire_at.month == 1  # type: ignore[union-attr]
    with pytest.raises(VersionConflict), db.session_scope(sessions) as session:
        schedules.change(session, schedule_id, terms(), version=1)
    assert row(sessions, schedule_id).cron == "0 0 1 1 *"


def test_a_deleted_schedule_leaves_its_jobs(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    schedule_id = make(due=1)
    schedules.tick(sessions, settings)
    with db.session_scope(sessions) as session:
        schedules.delete(session, schedule_id)
    assert [job.schedule_id for job in jobs(sessions)] == [schedule_id]
    with pytest.raises(ResourceNotFound), db.session_scope(sessions) as session:
        schedules.get_schedule(session, schedule_id)


def test_lists_are_stable_and_come_in_parts(
    sessions: sessionmaker[Session], settings: Settings, make: Make
) -> None:
    ids = sorted((make(due=1) for _ in range(3)), reverse=True)
    with db.session_scope(sessions) as session:
        first = schedules.list_schedules(session, limit=2)
        rest = schedules.list_schedules(session, after=first.next_cursor, limit=2)
    assert [item.id for item in (*first.items, *rest.items)] == ids
    assert rest.next_cursor is None
    schedules.tick(sessions, settings)
    _make_due(sessions, ids[0])
    schedules.tick(sessions, settings)
    with db.session_scope(sessions) as session:
        latest, before = schedules.list_fires(session, ids[0], limit=1)
        earlier, end = schedules.list_fires(session, ids[0], before=before, limit=1)
    assert latest[0].fire_at > earlier[0].fire_at
    assert end is None
