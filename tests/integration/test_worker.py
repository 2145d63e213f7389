"""Real Celery workers on real PostgreSQL and Valkey, killed and confused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.integration.conftest import Stack
from tests.servers import Postgres, Valkey, kill_group
from trsp_jobs import db, service
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.logs import stored_log

pytestmark = pytest.mark.integration


def resumed_from(stack: Stack, job_id: str) -> int:
    report = json.loads(stack.read_stored(stack.artifacts(job_id)["report.json"].store_path))
    return int(report["resumed_from"])


def pool_pid(worker: subprocess.Popen[bytes], child: int) -> int:
    """Return the pool process that holds the supervisor of a child."""
    parent = psutil.Process(child).ppid()
    assert parent != worker.pid
    return parent


def test_a_worker_runs_what_is_rung_each_job_once(stack: Stack) -> None:
    first = stack.submit_and_ring("ok", steps=20)
    stack.ring(first)
    stack.ring(first)
    second = stack.submit_and_ring("ok", steps=2)
    with stack.worker():
        for job_id in (first, second):
            stack.wait_for_status(job_id, "succeeded", seconds=25)
        for _ in range(3):
            stack.ring(first)
        bell = CeleryDispatcher(stack.settings.broker_url, queue=stack.settings.queue)
        stack.wait_for(lambda: bell.pending() == 0)
        bell.close()
    for job_id in (first, second):
        assert stack.job(job_id).attempt == 1
        assert len(stack.attempts(job_id)) == 1
        assert stack.numbers_are_whole(job_id)


def test_a_worker_is_seen_at_work_and_says_goodbye(stack: Stack) -> None:
    def workers() -> list[str | None]:
        with db.session_scope(stack.sessions) as session:
            return [worker.current_job for worker in service.list_workers(session)]

    job_id = stack.submit_and_ring("ok", steps=40)
    with stack.worker():
        stack.wait_for(lambda: workers() == [job_id], 20)
        stack.wait_for_status(job_id, "succeeded")
        stack.wait_for(lambda: workers() == [None])
    assert workers() == []


def test_urgent_jobs_go_first(stack: Stack) -> None:
    ids = [stack.submit_and_ring("ok", steps=1, priority=priority) for priority in (0, 5, 9)]
    with stack.worker():
        for job_id in ids:
            stack.wait_for_status(job_id, "succeeded", seconds=25)
    assert sorted(ids, key=lambda job_id: str(stack.job(job_id).started_at)) == ids[::-1]


def test_cancel_reaches_a_running_job_within_seconds(stack: Stack) -> None:
    job_id = stack.submit_and_ring("ok", steps=5000)
    with stack.worker():
        stack.wait_for_status(job_id, "running", seconds=20)
        child = stack.child_pid(job_id)
        began = time.monotonic()
        stack.cancel(job_id)
        stack.wait_for_status(job_id, "canceled", seconds=5)
        assert time.monotonic() - began < 5
        assert not psutil.pid_exists(child)


def test_a_worker_killed_with_everything_in_it_is_replaced(stack: Stack) -> None:
    job_id = stack.submit_and_ring("ok", steps=60)
    with stack.housekeeping():
        with stack.worker("first") as first:
            stack.wait_for(stack.begun(job_id, 5), 20)
            child = stack.child_pid(job_id)
            kill_group(first, signal.SIGKILL)
            stack.wait_for(lambda: not psutil.pid_exists(child), 5)
        with stack.worker("second"):
            stack.wait_for_status(job_id, "succeeded", seconds=30)
    assert resumed_from(stack, job_id) >= 5
    assert [attempt.outcome for attempt in stack.attempts(job_id)] == ["lease_lost", "succeeded"]
    assert stack.numbers_are_whole(job_id)
    assert [e.data["to"] for e in stack.events(job_id) if e.kind == "status"].count("succeeded") == 1
    assert {item.attempt for item in stack.artifacts(job_id).values()} == {2}
    assert b"begins at step 0" in stack.read_stored(stored_log(job_id, 1))


def test_a_worker_that_sleeps_past_its_lease_cannot_change_the_job(stack: Stack) -> None:
    job_id = stack.submit_and_ring("ok", steps=40)
    with stack.housekeeping(), stack.worker("sleeper") as sleeper:
        stack.wait_for(stack.begun(job_id, 5), 20)
        pool = pool_pid(sleeper, stack.child_pid(job_id))
        os.kill(pool, signal.SIGSTOP)
        os.kill(sleeper.pid, signal.SIGSTOP)
        with stack.worker("second"):
            stack.wait_for_status(job_id, "succeeded", seconds=30)
            version = stack.job(job_id).version
            for pid in (pool, sleeper.pid):
                os.kill(pid, signal.SIGCONT)
            time.sleep(2)
    job = stack.job(job_id)
    assert (job.status, job.version, job.attempt) == ("succeeded", version, 2)
    assert stack.numbers_are_whole(job_id)


def test_a_worker_that_is_told_to_end_hands_its_job_over(stack: Stack) -> None:
    job_id = stack.submit_and_ring("ok", steps=80)
    with stack.housekeeping():
        with stack.worker("first") as first:
            stack.wait_for(stack.begun(job_id, 5), 20)
            os.kill(first.pid, signal.SIGTERM)
            assert first.wait(15) == 0
        assert stack.job(job_id).crashes == 0
        assert stack.attempts(job_id)[0].outcome == "handed_over"
        with stack.worker("second"):
            stack.wait_for_status(job_id, "succeeded", seconds=30)
    assert resumed_from(stack, job_id) >= 5


def test_a_broker_that_goes_away_and_comes_back_is_used_again(stack: Stack, valkey: Valkey) -> None:
    with stack.worker(), stack.housekeeping():
        running = stack.submit_and_ring("ok", steps=60)
        stack.wait_for_status(running, "running", seconds=20)
        valkey.stop()
        try:
            waiting = stack.submit_and_ring("ok", steps=1)
            assert stack.job(waiting).rung_at is None
            stack.wait_for_status(waiting, "succeeded", seconds=20)
            unheard = stack.submit_and_ring("ok", steps=1)
            time.sleep(1)
            assert stack.job(unheard).status == "queued"
        finally:
            valkey.start()
        stack.wait_for_status(unheard, "succeeded", seconds=30)
    assert [stack.job(job_id).attempt for job_id in (running, waiting, unheard)] == [1, 1, 1]


def test_a_database_that_goes_away_and_comes_back_loses_nothing(stack: Stack, postgres: Postgres) -> None:
    with stack.worker(), stack.housekeeping():
        job_id = stack.submit_and_ring("ok", steps=60)
        stack.wait_for(stack.begun(job_id, 5), 20)
        with postgres.outage():
            time.sleep(stack.settings.lease_seconds + 1)
        stack.wait_for_status(job_id, "succeeded", seconds=30)
    assert stack.job(job_id).attempt == 1
    assert stack.numbers_are_whole(job_id)
