from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.progress import Progress
from trsp_jobs import db, log_pieces, service
from trsp_jobs.errors import ArtifactNotFound, IllegalTransition, JobNotFound, LeaseLost, VersionConflict
from trsp_jobs.leases import AttemptEnd, Claim, JobError, PublishedFile, WorkerOffer
from trsp_jobs.lifecycle import Status
from trsp_jobs.log_pieces import LogPiece, Said
from trsp_jobs.models import Artifact, Attempt, Event, Job, WorkerNode

Sessions = sessionmaker[Session]
CRASH = JobError("crashed", "the process ended with code 3")
CPU, GPU = WorkerOffer("cpu", 16 * 2**30), WorkerOffer("cuda", 80 * 2**30)


def progress(step: int, overall: float = 0.1) -> Progress:
    return Progress(stage="stage1", step=step, total=10, overall=overall)


def read(sessions: Sessions, job_id: str) -> Job:
    with db.session_scope(sessions) as session:
        return service.get_job(session, job_id)


def do(sessions: Sessions, action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with db.session_scope(sessions) as session:
        return action(session, *arguments, **options)


def sequence(sessions: Sessions, job_id: str) -> list[int]:
    return [event.sequence for event in do(sessions, service.events_after, job_id, 0)]


def expire(sessions: Sessions, job_id: str) -> None:
    with db.session_scope(sessions) as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(lease_until=func.now() - timedelta(seconds=1))
        )


def test_a_submitted_job_waits_with_its_spec_and_first_event(sessions: Sessions, submit: Any) -> None:
    job_id = submit(labels={"team": "a"}, priority=3, run_deadline=60)
    job = read(sessions, job_id)
    assert (job.status, job.attempt, job.progress, job.version) == ("queued", 0, 0.0, 2)
    assert job.spec["model"] == "demo:smollm2-135m"
    assert (job.labels, job.priority, job.run_deadline) == ({"team": "a"}, 3, 60)
    (event,) = do(sessions, service.events_after, job_id, 0)
    assert (event.sequence, event.kind, event.data["to"]) == (1, "status", "queued")


def test_unknown_ids_are_named(sessions: Sessions) -> None:
    with pytest.raises(JobNotFound, match="job_nothing"):
        do(sessions, service.get_job, "job_nothing")
    with pytest.raises(JobNotFound):
        do(sessions, service.cancel, "job_nothing")
    with pytest.raises(ArtifactNotFound, match=r"model/x"):
        do(sessions, service.get_artifact, "job_nothing", "model/x")


def test_the_whole_way_to_success(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    assert read(sessions, claim.job_id).status == Status.STARTING
    do(sessions, service.record_progress, claim, [progress(1), progress(2, 0.5)])
    running = read(sessions, claim.job_id)
    assert (running.status, running.stage, running.stage_step, running.progress) == (
        "running",
        "stage1",
        2,
        0.5,
    )
    do(sessions, service.begin_finalizing, claim)
    do(sessions, service.begin_finalizing, claim)
    report = {"plan": {"layers": 30, "removed_layers": [3]}, "timings": {"stage1": 2.0, "stage2": 3.0}}
    files = [PublishedFile("model/config.json", 12, "ab" * 32, "application/json")]
    do(sessions, service.succeed, claim, report, files, AttemptEnd(0, 1000))
    job = read(sessions, claim.job_id)
    assert (job.status, job.progress, job.lease_owner) == ("succeeded", 1.0, None)
    assert job.finished_at is not None
    assert job.result is not None
    assert job.result["removed_layers"] == [3]
    assert job.result["seconds"] == 5.0
    artifact = do(sessions, service.get_artifact, claim.job_id, "model/config.json")
    assert artifact.store_path == f"jobs/{claim.job_id}/attempts/1/model/config.json"
    (attempt,) = do(sessions, service.list_attempts, claim.job_id)
    assert (attempt.outcome, attempt.exit_code, attempt.peak_rss_bytes) == ("succeeded", 0, 1000)
    assert sequence(sessions, claim.job_id) == list(range(1, job.last_event + 1))


def test_a_repeated_success_changes_nothing(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    do(sessions, service.begin_finalizing, claim)
    for _ in range(2):
        do(sessions, service.succeed, claim, {}, [PublishedFile("a", 1, "0" * 64)])
    assert len(do(sessions, service.list_artifacts, claim.job_id)) == 1
    assert (
        len([e for e in do(sessions, service.events_after, claim.job_id, 0) if e.data["to"] == "succeeded"])
        == 1
    )


def test_only_one_of_many_claims_a_job(sessions: Sessions, submit: Any) -> None:
    job_id, won, barrier = submit(), [], threading.Barrier(8)

    def claim(number: int) -> None:
        barrier.wait()
        found = do(sessions, service.claim, job_id, owner=f"w{number}", lease_seconds=5)
        if found is not None:
            won.append(found)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read(sessions, job_id).lease_owner == won[0].owner
    assert read(sessions, job_id).attempt == 1


def test_events_written_at_once_have_no_gap(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())

    def write() -> None:
        for step in range(10):
            do(sessions, service.record_progress, claim, [progress(step)])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sequence(sessions, claim.job_id)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 2 + 1 + 40


WRITES: dict[str, Callable[[Session, Claim], Any]] = {
    "heartbeat": lambda session, claim: service.heartbeat(session, claim, lease_seconds=5),
    "orders": service.orders,
    "progress": lambda session, claim: service.record_progress(session, claim, [progress(1)]),
    "explain": lambda session, claim: service.explain(session, claim, "because"),
    "finalizing": service.begin_finalizing,
    "succeed": lambda session, claim: service.succeed(session, claim, {}, []),
    "fail": lambda session, claim: service.fail(session, claim, CRASH, retryable=True),
    "cancel": service.acknowledge_cancel,
    "time_out": service.time_out,
    "hand_over": service.hand_over,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("state", ["reaped", "taken by another", "succeeded by another"])
def test_a_zombie_writes_nothing(
    sessions: Sessions, submit: Any, claimed: Any, write: str, state: str
) -> None:
    zombie = claimed(submit())
    expire(sessions, zombie.job_id)
    do(sessions, service.expire_leases)
    if state != "reaped":
        other = claimed(zombie.job_id, owner="worker-2")
        if state == "succeeded by another":
            do(sessions, service.begin_finalizing, other)
            do(sessions, service.succeed, other, {}, [])
    before = read(sessions, zombie.job_id)
    with pytest.raises(LeaseLost), db.session_scope(sessions) as session:
        WRITES[write](session, zombie)
    after = read(sessions, zombie.job_id)
    assert (after.version, after.status, after.last_event) == (
        before.version,
        before.status,
        before.last_event,
    )


@pytest.mark.parametrize("change", [{"attempt": 2}, {"owner": "worker-9"}, {"job_id": "job_other"}])
def test_each_part_of_the_fence_counts(
    sessions: Sessions, submit: Any, claimed: Any, change: dict[str, Any]
) -> None:
    claim = claimed(submit())
    forged = Claim(**{"job_id": claim.job_id, "attempt": 1, "owner": claim.owner, "spec": {}, **change})
    with pytest.raises(LeaseLost):
        do(sessions, service.heartbeat, forged, lease_seconds=5)
    do(sessions, service.heartbeat, claim, lease_seconds=5)


def test_a_heartbeat_renews_and_tells_the_deadline(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit(run_deadline=100), lease_seconds=1)
    before = read(sessions, claim.job_id)
    orders = do(sessions, service.heartbeat, claim, lease_seconds=50)
    after = read(sessions, claim.job_id)
    assert before.lease_until is not None
    assert after.lease_until is not None
    assert after.lease_until - before.lease_until > timedelta(seconds=40)
    assert after.version == before.version
    assert not orders.cancel
    assert 98 < orders.seconds_left <= 100


def test_crashes_are_retried_until_the_attempts_are_used_up(
    sessions: Sessions, submit: Any, claimed: Any
) -> None:
    job_id = submit()
    for number in (1, 2, 3):
        claim = claimed(job_id)
        assert claim.attempt == number
        do(sessions, service.fail, claim, CRASH, retryable=True, end=AttemptEnd(3))
    job = read(sessions, job_id)
    assert (job.status, job.crashes, job.reason) == ("failed", 3, CRASH.message)
    assert job.error == CRASH.to_dict()
    assert [a.outcome for a in do(sessions, service.list_attempts, job_id)] == ["crashed"] * 3


def test_a_permanent_error_fails_at_once(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    error = JobError("model_refused", "no", ({"pointer": "/model", "message": "no"},), "take another")
    do(sessions, service.fail, claim, error, retryable=False)
    job = read(sessions, claim.job_id)
    assert (job.status, job.crashes) == ("failed", 0)
    assert job.error == error.to_dict()


def test_a_handover_counts_as_no_crash(sessions: Sessions, submit: Any, claimed: Any) -> None:
    job_id = submit()
    for _ in range(5):
        do(sessions, service.hand_over, claimed(job_id))
    job = read(sessions, job_id)
    assert (job.status, job.crashes, job.attempt, job.rung_at) == ("queued", 0, 5, None)


def test_expired_leases_go_back_to_the_queue_and_then_fail(
    sessions: Sessions, submit: Any, claimed: Any
) -> None:
    job_id = submit()
    for expected in ("queued", "queued", "failed"):
        claimed(job_id)
        assert do(sessions, service.expire_leases) == []
        expire(sessions, job_id)
        assert do(sessions, service.expire_leases) == [job_id]
        assert read(sessions, job_id).status == expected
    assert (read(sessions, job_id).error or {})["code"] == "lease_lost"


def test_a_waiting_job_is_canceled_at_once(sessions: Sessions, submit: Any) -> None:
    job_id = submit()
    do(sessions, service.cancel, job_id)
    canceled = read(sessions, job_id)
    assert canceled.status == Status.CANCELED
    do(sessions, service.cancel, job_id)
    assert read(sessions, job_id).version == canceled.version
    assert do(sessions, service.claim, job_id, owner="w", lease_seconds=1) is None


def test_a_running_job_is_asked_to_stop_and_ends_canceled_whatever_happens(
    sessions: Sessions, submit: Any, claimed: Any
) -> None:
    endings: list[Callable[[Session, Claim], Any]] = [
        service.acknowledge_cancel,
        lambda session, claim: service.fail(session, claim, CRASH, retryable=True),
        service.time_out,
        service.hand_over,
    ]
    for ending in endings:
        claim = claimed(submit())
        do(sessions, service.cancel, claim.job_id)
        do(sessions, service.cancel, claim.job_id)
        assert read(sessions, claim.job_id).status == Status.CANCELING
        assert do(sessions, service.heartbeat, claim, lease_seconds=5).cancel
        with pytest.raises(IllegalTransition):
            do(sessions, service.begin_finalizing, claim)
        with pytest.raises(IllegalTransition):
            do(sessions, service.succeed, claim, {}, [])
        do(sessions, ending, claim)
        assert read(sessions, claim.job_id).status == Status.CANCELED


def test_a_canceling_job_whose_worker_died_is_canceled(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    do(sessions, service.cancel, claim.job_id)
    expire(sessions, claim.job_id)
    do(sessions, service.expire_leases)
    assert read(sessions, claim.job_id).status == Status.CANCELED


def test_a_finished_job_cannot_be_canceled(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    do(sessions, service.fail, claim, CRASH, retryable=False)
    with pytest.raises(IllegalTransition, match="failed"):
        do(sessions, service.cancel, claim.job_id)


def test_retry_starts_the_count_anew(sessions: Sessions, submit: Any, claimed: Any) -> None:
    job_id = submit(run_deadline=50)
    do(sessions, service.fail, claimed(job_id), CRASH, retryable=False)
    do(sessions, service.retry, job_id)
    job = read(sessions, job_id)
    assert (job.status, job.crashes, job.error, job.started_at, job.finished_at) == (
        "queued",
        0,
        None,
        None,
        None,
    )
    assert claimed(job_id).attempt == 2
    with pytest.raises(IllegalTransition, match="starting"):
        do(sessions, service.retry, job_id)


def test_time_out_names_the_deadline(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit(run_deadline=7.5))
    do(sessions, service.time_out, claim)
    job = read(sessions, claim.job_id)
    assert job.status == Status.TIMED_OUT
    assert "7.5 seconds" in job.reason


def test_queue_deadlines_end_jobs_that_wait_too_long(sessions: Sessions, submit: Any) -> None:
    patient, hasty = submit(queue_deadline=1000), submit(queue_deadline=10)
    assert do(sessions, service.time_out_queued) == []
    with db.session_scope(sessions) as session:
        session.execute(update(Job).values(queued_at=func.now() - timedelta(seconds=60)))
    assert do(sessions, service.time_out_queued) == [hasty]
    assert read(sessions, hasty).status == Status.TIMED_OUT
    assert read(sessions, patient).status == Status.QUEUED


def test_a_retried_job_may_wait_anew(sessions: Sessions, submit: Any) -> None:
    job_id = submit(queue_deadline=10)
    with db.session_scope(sessions) as session:
        long_ago = func.now() - timedelta(seconds=60)
        session.execute(update(Job).values(created_at=long_ago, queued_at=long_ago))
    assert do(sessions, service.time_out_queued) == [job_id]
    do(sessions, service.retry, job_id)
    assert do(sessions, service.time_out_queued) == []


@pytest.mark.parametrize("ending", ["expired", "failed", "handed over"])
def test_a_worker_is_idle_once_its_job_is_not_at_work_any_more(
    sessions: Sessions, submit: Any, claimed: Any, ending: str
) -> None:
    claim = claimed(submit(), owner="w1/1")
    for name in ("w1", "w2"):
        see(sessions, name)
        do(sessions, service.set_current_job, name, claim.job_id if name == "w1" else submit())
    if ending == "expired":
        expire(sessions, claim.job_id)
        do(sessions, service.expire_leases)
    elif ending == "failed":
        do(sessions, service.fail, claim, CRASH, retryable=False)
    else:
        do(sessions, service.hand_over, claim)
    assert [worker.current_job is None for worker in do(sessions, service.list_workers)] == [True, False]


def test_progress_never_falls(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    for overall in (0.5, 0.2, 0.6):
        do(sessions, service.record_progress, claim, [progress(1, overall)])
        assert read(sessions, claim.job_id).progress == max(0.5, overall)


def test_a_stale_version_changes_nothing(sessions: Sessions, submit: Any) -> None:
    job_id = submit()
    version = read(sessions, job_id).version
    for act in (service.cancel, service.retry, service.remove):
        with pytest.raises(VersionConflict, match="queued now"):
            do(sessions, act, job_id, versions={version - 1, version + 1})
    assert read(sessions, job_id).status == Status.QUEUED
    assert do(sessions, service.cancel, job_id, versions={version}).status == Status.CANCELED


def test_a_retry_from_scratch_forgets_what_was_reached(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    do(sessions, service.record_progress, claim, [progress(1, 0.5)])
    do(sessions, service.fail, claim, CRASH, retryable=False)
    do(sessions, service.retry, claim.job_id)
    assert read(sessions, claim.job_id).progress == 0.5
    again = claimed(claim.job_id)
    assert again.fresh_after == 0
    do(sessions, service.fail, again, CRASH, retryable=False)
    job = do(sessions, service.retry, claim.job_id, from_scratch=True)
    assert (job.progress, job.stage, job.stage_step) == (0, None, None)
    assert claimed(claim.job_id).fresh_after == 2


def test_a_job_is_removed_with_all_that_is_its_own(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit(run_deadline=5))
    do(sessions, service.record_news, claim, [progress(1)], [Said(0, b"text")])
    with pytest.raises(IllegalTransition, match="running"):
        do(sessions, service.remove, claim.job_id)
    do(sessions, service.time_out, claim, [PublishedFile("plan.json", 2, "0" * 64)])
    do(sessions, service.remove, claim.job_id)
    with db.session_scope(sessions) as session:
        for row in (Job, Event, Attempt, Artifact, LogPiece):
            assert session.scalars(select(row)).all() == []
    with pytest.raises(JobNotFound):
        do(sessions, service.remove, claim.job_id)


def test_later_files_take_the_place_of_partial_ones(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit(run_deadline=5))
    left = {"files": 2, "bytes": 10, "written_at": "2026-01-01T00:00:00+00:00", "host": "h"}
    partial = [PublishedFile("plan.json", 2, "0" * 64), PublishedFile("log.jsonl", 2, "0" * 64)]
    do(sessions, service.time_out, claim, partial, AttemptEnd(-9, None, left))
    assert do(sessions, service.list_attempts, claim.job_id)[0].checkpoint == left
    assert len(do(sessions, service.list_artifacts, claim.job_id)) == 2
    do(sessions, service.retry, claim.job_id)
    again = claimed(claim.job_id)
    do(sessions, service.begin_finalizing, again)
    do(sessions, service.succeed, again, {}, [PublishedFile("plan.json", 3, "1" * 64)])
    assert [(item.path, item.attempt) for item in do(sessions, service.list_artifacts, claim.job_id)] == [
        ("plan.json", 2)
    ]


def test_news_of_a_lost_lease_is_not_written(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    stranger = replace(claim, owner="somebody else")
    with pytest.raises(LeaseLost):
        do(sessions, service.record_news, stranger, (), [Said(0, b"text")])
    with db.session_scope(sessions) as session:
        assert log_pieces.size(session, claim.job_id, 1) is None


def test_events_are_read_from_a_number_on(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())
    do(sessions, service.record_progress, claim, [progress(step) for step in range(5)])
    assert [e.sequence for e in do(sessions, service.events_after, claim.job_id, 3, 4)] == [4, 5, 6, 7]
    assert do(sessions, service.events_after, claim.job_id, 100) == []


def see(
    sessions: Sessions, name: str, device: str = "cpu", seconds: float = 60, memory: int = 16 * 2**30
) -> None:
    do(sessions, service.see_worker, service.WorkerFacts(name, "host", device, memory), seconds=seconds)


def test_a_worker_that_began_before_it_was_seen_is_seen_at_work(sessions: Sessions, submit: Any) -> None:
    job_id = submit()
    do(sessions, service.claim, job_id, owner="w1/attempt", lease_seconds=30)
    see(sessions, "w1")
    see(sessions, "w10")
    found = do(sessions, service.list_workers)
    assert {worker.id: worker.current_job for worker in found} == {"w1": job_id, "w10": None}


def test_the_reason_says_what_a_job_waits_for(sessions: Sessions, submit: Any) -> None:
    first, second = submit(), submit()
    gpu = submit(spec={"device": "cuda"})

    def reason(job_id: str) -> str:
        return str(
            do(sessions, lambda session: service.waiting_reason(session, service.get_job(session, job_id)))
        )

    assert reason(first) == "waiting: no worker online"
    see(sessions, "w1")
    assert reason(first) == "waiting: the broker has not taken it yet"
    do(sessions, service.mark_rung, first)
    assert reason(first) == "waiting: next in line"
    assert reason(second) == "waiting: 1 job ahead"
    assert reason(gpu) == "waiting: no GPU worker online"
    see(sessions, "w2", device="cuda")
    assert reason(gpu) == "waiting: 2 jobs ahead"
    with db.session_scope(sessions) as session:
        session.execute(update(WorkerNode).values(current_job=gpu))
    assert reason(first) == "waiting: next in line, every worker is busy"
    do(sessions, service.cancel, first)
    assert reason(first) == "canceled on request before it started"


def test_the_reason_says_that_no_worker_has_memory_enough(sessions: Sessions, submit: Any) -> None:
    large = submit(memory_bytes=int(40.1 * 2**30))
    cuda = submit(memory_bytes=30 * 2**30, spec={"device": "cuda"})

    def reason(job_id: str) -> str:
        return str(
            do(sessions, lambda session: service.waiting_reason(session, service.get_job(session, job_id)))
        )

    see(sessions, "small", memory=8 * 2**30)
    see(sessions, "gpu", device="cuda", memory=24 * 2**30)
    assert reason(large) == "waiting: needs 40.1 GiB, the largest worker has 24.0 GiB"
    see(sessions, "large", memory=64 * 2**30)
    assert reason(large) == "waiting: the broker has not taken it yet"
    assert reason(cuda) == "waiting: needs 30.0 GiB, the largest worker has 24.0 GiB"


def test_a_job_that_needs_more_memory_than_a_worker_has_is_not_picked(
    sessions: Sessions, submit: Any
) -> None:
    large = submit(memory_bytes=CPU.memory_bytes + 1, priority=9)
    assert do(sessions, service.pick, large, CPU) is None
    fitting, unknown = submit(memory_bytes=CPU.memory_bytes), submit()
    assert do(sessions, service.pick, large, CPU) == fitting
    assert do(sessions, service.pick, unknown, CPU) == unknown
    assert do(sessions, service.pick, large, GPU) == large


def test_a_ring_is_passed_on_only_to_an_idle_worker_that_can_do_the_job(
    sessions: Sessions, submit: Any
) -> None:
    large, gpu = submit(memory_bytes=32 * 2**30), submit(spec={"device": "cuda"})

    def left() -> str | None:
        found: str | None = do(sessions, service.left_to_others, CPU)
        return found

    see(sessions, "alike")
    assert left() is None
    see(sessions, "large", memory=32 * 2**30)
    assert left() == large
    see(sessions, "gpu", device="cuda")
    do(sessions, service.cancel, large)
    assert left() == gpu
    do(sessions, service.set_current_job, "gpu", gpu)
    assert left() is None
    assert do(sessions, service.left_to_others, GPU) is None


def test_an_idle_worker_finds_what_waits_for_it(sessions: Sessions, submit: Any) -> None:
    def found(worker: str, offer: WorkerOffer = CPU) -> str | None:
        job_id: str | None = do(sessions, service.work_for_idle, worker, offer)
        return job_id

    large = submit(memory_bytes=CPU.memory_bytes + 1)
    assert found("w1") is None
    see(sessions, "w1")
    assert found("w1") is None
    assert found("w1", GPU) == large
    small = submit()
    assert found("w1") == small
    do(sessions, service.set_current_job, "w1", large)
    assert found("w1") is None


def test_workers_appear_and_are_forgotten(sessions: Sessions) -> None:
    see(sessions, "here")
    see(sessions, "gone", seconds=-1)
    assert [worker.id for worker in do(sessions, service.list_workers)] == ["here"]
    assert do(sessions, service.forget_gone_workers) == 1
    do(sessions, service.forget_worker, "here")
    assert do(sessions, service.list_workers) == []


def test_a_ring_picks_by_priority_then_the_rung_one_then_the_oldest(sessions: Sessions, submit: Any) -> None:
    old, rung = submit(), submit()
    assert do(sessions, service.pick, rung, CPU) == rung
    assert do(sessions, service.pick, "job_of_yesterday", CPU) == old
    urgent = submit(priority=5)
    assert do(sessions, service.pick, rung, CPU) == urgent
    gpu = submit(priority=9, spec={"device": "cuda:1"})
    assert do(sessions, service.pick, gpu, CPU) == urgent
    assert do(sessions, service.pick, old, GPU) == gpu


def test_rings_are_due_for_new_jobs_and_for_as_many_as_the_broker_lost(
    sessions: Sessions, submit: Any
) -> None:
    def due(pending: int, seconds: float = 0) -> list[str]:
        return list(do(sessions, service.due_rings, pending=pending, ring_again_seconds=seconds))

    ids = [submit() for _ in range(3)]
    assert due(pending=0) == sorted(ids)
    for job_id in ids:
        do(sessions, service.mark_rung, job_id)
    assert due(pending=3) == []
    assert due(pending=2) == ids[:1]
    assert due(pending=0) == ids
    assert due(pending=0, seconds=100) == []


def test_nothing_is_kept_of_a_transaction_that_failed(sessions: Sessions, submit: Any, claimed: Any) -> None:
    claim = claimed(submit())

    def write_and_break(session: Session) -> None:
        service.record_progress(session, claim, [progress(1)])
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        do(sessions, write_and_break)
    assert sequence(sessions, claim.job_id) == [1, 2]
    do(sessions, service.record_progress, claim, [progress(1)])
    assert sequence(sessions, claim.job_id) == [1, 2, 3, 4]


def test_the_database_itself_refuses_an_unknown_status(sessions: Sessions, submit: Any) -> None:
    submit()
    with pytest.raises(Exception, match="status_known"), db.session_scope(sessions) as session:
        session.execute(text("UPDATE jobs SET status = 'lunch'"))
