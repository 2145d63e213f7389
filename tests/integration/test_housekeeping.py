"""Housekeeping on real PostgreSQL and Valkey, in the process and as a process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import func, update

from tests.integration.conftest import Stack
from tests.servers import Postgres, Valkey
from trsp_jobs import db, service
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.logs import local_log, stored_log
from trsp_jobs.models import Job
from worker.housekeeping import Housekeeper

pytestmark = pytest.mark.integration


@pytest.fixture
def bell(stack: Stack) -> Iterator[CeleryDispatcher]:
    bell = CeleryDispatcher(stack.settings.broker_url, queue=stack.settings.queue)
    yield bell
    bell.close()


@pytest.fixture
def keeper(stack: Stack, bell: CeleryDispatcher) -> Housekeeper:
    return Housekeeper(stack.settings, stack.sessions, stack.store, bell)


def claim(stack: Stack, job_id: str, seconds: float) -> None:
    with db.session_scope(stack.sessions) as session:
        assert service.claim(session, job_id, owner="w", lease_seconds=seconds)


def test_lost_rings_are_rung_again_and_no_more_than_needed(
    stack: Stack, keeper: Housekeeper, bell: CeleryDispatcher, valkey: Valkey
) -> None:
    ids = [stack.submit_and_ring("ok") for _ in range(3)]
    assert bell.pending() == 3
    time.sleep(stack.settings.ring_again_seconds + 0.1)
    keeper.round()
    assert bell.pending() == 3
    valkey.flush()
    for job_id in ids:
        stack.mark_rung(job_id)
    keeper.round()
    assert bell.pending() == 0
    time.sleep(stack.settings.ring_again_seconds + 0.1)
    keeper.round()
    keeper.round()
    assert bell.pending() == len(ids)


def test_a_job_that_was_never_rung_is_rung_at_once(
    stack: Stack, keeper: Housekeeper, bell: CeleryDispatcher
) -> None:
    job_id = stack.submit("ok")
    keeper.round()
    keeper.round()
    assert bell.pending() == 1
    assert stack.job(job_id).rung_at is not None


def test_a_broker_that_is_away_keeps_nothing_else_from_being_done(
    stack: Stack, keeper: Housekeeper, bell: CeleryDispatcher, valkey: Valkey
) -> None:
    lost, overdue = stack.submit("ok"), stack.submit("ok", queue_deadline=0.01)
    claim(stack, lost, seconds=-1)
    valkey.stop()
    try:
        keeper.round()
    finally:
        valkey.start()
    assert stack.job(lost).reason.startswith("attempt 1 ended early")
    assert stack.job(overdue).status == "timed_out"
    keeper.round()
    assert bell.pending() == 1


def test_leases_that_hold_are_left_alone(stack: Stack, keeper: Housekeeper) -> None:
    job_id = stack.submit("ok")
    claim(stack, job_id, seconds=30)
    keeper.round()
    assert stack.job(job_id).status == "starting"


def test_many_keepers_at_once_do_each_thing_once(stack: Stack, bell: CeleryDispatcher) -> None:
    ids = [stack.submit("ok") for _ in range(20)]
    for job_id in ids:
        claim(stack, job_id, seconds=-1)
    keepers = [Housekeeper(stack.settings, stack.sessions, stack.store, bell) for _ in range(4)]
    threads = [threading.Thread(target=keeper.round) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job_id in ids:
        assert (stack.job(job_id).status, stack.job(job_id).crashes) == ("queued", 1)
        assert stack.numbers_are_whole(job_id)


def test_after_an_outage_the_workers_come_first(
    stack: Stack, keeper: Housekeeper, postgres: Postgres
) -> None:
    job_id = stack.submit("ok")
    claim(stack, job_id, seconds=stack.settings.lease_seconds)
    ended = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(ended,), daemon=True)
    thread.start()
    with postgres.outage():
        time.sleep(stack.settings.lease_seconds + 0.5)
    time.sleep(stack.settings.lease_seconds / 2)
    assert stack.job(job_id).status == "starting"
    stack.wait_for_status(job_id, "queued", seconds=20)
    ended.set()
    thread.join()


def test_old_scratch_folders_go_once_their_logs_are_stored(stack: Stack, keeper: Housekeeper) -> None:
    stack.settings = stack.settings.model_copy(update={"scratch_keep_seconds": 60})
    done, recent, waiting = (stack.submit("ok") for _ in range(3))
    for job_id in (done, recent):
        stack.cancel(job_id)
    for job_id in (done, recent, waiting, "job_nobody_knows"):
        log = local_log(stack.settings.work_dir, job_id, 1)
        log.parent.mkdir(parents=True)
        log.write_bytes(b"text")
        os.utime(stack.scratch(job_id), (time.time() - 100,) * 2)
    with db.session_scope(stack.sessions) as session:
        session.execute(
            update(Job).where(Job.id == done).values(finished_at=func.now() - func.make_interval(0, 0, 0, 1))
        )
    bell = CeleryDispatcher(stack.settings.broker_url)
    Housekeeper(stack.settings, stack.sessions, stack.store, bell).round()
    bell.close()
    left = {path.name for path in stack.settings.work_dir.iterdir()}
    assert left == {recent, waiting}
    assert stack.read_stored(stored_log(done, 1)) == b"text"


def test_the_process_survives_outages_and_ends_on_request(
    stack: Stack, postgres: Postgres, valkey: Valkey
) -> None:
    with stack.housekeeping() as process:
        first = stack.submit("ok")
        stack.wait_for(lambda: stack.job(first).rung_at, 20)
        valkey.stop()
        with postgres.outage():
            time.sleep(1.5)
        valkey.start()
        second = stack.submit("ok")
        stack.wait_for(lambda: stack.job(second).rung_at, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
