"""The supervisor on real PostgreSQL, with a child that misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, update

from tests.servers import Postgres
from tests.worker.conftest import Bench, gone
from trsp_jobs import db, log_pieces, service
from trsp_jobs.logs import held_log, read_stored, stored_log
from trsp_jobs.models import Job
from trsp_jobs.settings import Settings
from trsp_jobs.storage import open_store
from worker.ending import Outcome
from worker.publisher import remove_leftovers
from worker.scratch import Scratch

pytestmark = pytest.mark.integration


def numbers(bench: Bench, job_id: str) -> list[int]:
    return [event.sequence for event in bench.events(job_id)]


def statuses(bench: Bench, job_id: str) -> list[str]:
    return [event.data["to"] for event in bench.events(job_id) if event.kind == "status"]


def test_the_happy_path(bench: Bench) -> None:
    job_id = bench.submit("ok", labels={"team": "a"})
    assert bench.run(job_id) is Outcome.DONE
    job = bench.job(job_id)
    assert (job.status, job.progress, job.stage) == ("succeeded", 1.0, "report")
    assert job.result is not None
    assert job.result["removed_layers"] == [1]
    assert statuses(bench, job_id) == ["queued", "starting", "running", "finalizing", "succeeded"]
    assert numbers(bench, job_id) == list(range(1, job.last_event + 1))
    artifacts = bench.artifacts(job_id)
    assert set(artifacts) == {"log.txt", "model/model.safetensors", "plan.json", "report.json"}
    for artifact in artifacts.values():
        content = bench.read_stored(artifact.store_path)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (artifact.size, artifact.sha256)
    assert bench.read_stored(artifacts["log.txt"].store_path) == b"begins at step 0\n"
    (attempt,) = bench.attempts(job_id)
    assert (attempt.outcome, attempt.exit_code) == ("succeeded", 0)
    assert (attempt.peak_rss_bytes or 0) > 1_000_000
    assert not bench.scratch(job_id).exists()


def test_a_second_ring_finds_nothing(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=1)
    assert bench.run(job_id) is Outcome.DONE
    assert bench.run(job_id) is None
    assert bench.job(job_id).attempt == 1


def test_of_two_supervisors_one_gets_the_job(bench: Bench) -> None:
    job_id, found = bench.submit("ok"), []
    threads = [
        threading.Thread(target=lambda n=name: found.append(bench.supervisor(n).run(job_id)))
        for name in ("w1", "w2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == ["None", "done"]
    assert len(bench.attempts(job_id)) == 1


def test_every_change_of_stage_is_written_and_the_rest_is_thinned(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=30)
    bench.run(job_id)
    progress = [event.data for event in bench.events(job_id) if event.kind == "progress"]
    assert list(dict.fromkeys(data["stage"] for data in progress)) == ["stage1", "stage2", "report"]
    assert len(progress) <= 12


def test_nothing_secret_reaches_the_child(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRSP_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PYTHONSTARTUP", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "hidden-value")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job_id = bench.submit("look_around")
    assert bench.run(job_id) is Outcome.DONE
    text = bench.read_stored(bench.artifacts(job_id)["seen.json"].store_path).decode()
    seen = json.loads(text)
    assert "hidden-value" not in text
    assert "store-secret" not in text
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HF_HOME", "TRSP_DATASETS"}
    allowed |= {"PYTHONPATH", "PYTHONUNBUFFERED", "TRSP_CACHE", "TMPDIR", "THP_MEM_ALLOC_ENABLE"}
    left = {
        name for name in seen["environment"] if not name.startswith(("OMP_", "MKL_", "OPENBLAS_", "CUDA_"))
    }
    assert left <= allowed
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert seen["environment"]["THP_MEM_ALLOC_ENABLE"] == "1"
    assert seen["environment"]["TMPDIR"].startswith(str(bench.settings.work_dir))
    assert seen["sid"] == seen["pid"]
    assert seen["oom"] == "500"
    opened = [name for name in seen["files"] if not name.startswith(("pipe:", "/proc/", "/dev/null"))]
    assert opened == []


def test_a_killed_child_is_retried_and_goes_on_from_its_checkpoint(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=20)
    thread = bench.start(job_id)
    step = bench.scratch(job_id) / "out" / "checkpoint" / "step"
    bench.wait_for(lambda: step.exists() and int(step.read_text()) >= 5)
    os.kill(bench.child_pid(job_id), signal.SIGKILL)
    thread.join()
    job = bench.job(job_id)
    assert (job.status, job.crashes) == ("queued", 1)
    assert (job.error or {})["code"] == "out_of_memory"
    assert bench.run(job_id) is Outcome.DONE
    report = json.loads(bench.read_stored(bench.artifacts(job_id)["report.json"].store_path))
    assert report["resumed_from"] >= 5
    assert numbers(bench, job_id) == list(range(1, bench.job(job_id).last_event + 1))
    assert [attempt.outcome for attempt in bench.attempts(job_id)] == ["crashed", "succeeded"]


def test_a_poison_job_stops_and_every_attempts_log_is_kept(bench: Bench) -> None:
    job_id = bench.submit("crash", steps=2)
    outcomes = [bench.run(job_id) for _ in range(4)]
    assert outcomes == [Outcome.CRASHED] * 3 + [None]
    job = bench.job(job_id)
    assert (job.status, job.attempt) == ("failed", 3)
    assert "code 3" in job.reason
    logs = [bench.read_stored(stored_log(job_id, number)) for number in (1, 2, 3)]
    assert logs == [b"begins at step 0\n", b"begins at step 2\n", b"begins at step 2\n"]
    assert bench.artifacts(job_id) == {}


@pytest.mark.parametrize(
    ("behavior", "status", "code"),
    [
        ("refused", "failed", "model_refused"),
        ("numerical", "failed", "numerical_failure"),
        ("memory", "queued", "out_of_memory"),
        ("killed", "queued", "out_of_memory"),
        ("no_report", "queued", "crashed"),
    ],
)
def test_errors_are_told_apart(bench: Bench, behavior: str, status: str, code: str) -> None:
    job_id = bench.submit(behavior, steps=1)
    bench.run(job_id)
    job = bench.job(job_id)
    assert job.error is not None
    assert (job.status, job.error["code"]) == (status, code)
    if behavior == "refused":
        assert job.error["problems"][0]["pointer"] == "/model"
    else:
        assert job.error["suggestion"] or behavior == "no_report"


def test_cancel_stops_the_child_within_seconds(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=2000)
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    pid = bench.child_pid(job_id)
    began = time.monotonic()
    bench.cancel(job_id)
    bench.wait_for_status(job_id, "canceled", seconds=5)
    assert time.monotonic() - began < 5
    thread.join()
    assert gone(pid)
    assert statuses(bench, job_id)[-2:] == ["canceling", "canceled"]


def test_a_child_that_will_not_stop_is_killed_with_its_family(bench: Bench) -> None:
    for behavior in ("stubborn", "family"):
        job_id = bench.submit(behavior, steps=2000)
        thread = bench.start(job_id)
        bench.wait_for_status(job_id, "running")
        members = [bench.child_pid(job_id)]
        if behavior == "family":
            members.append(int((bench.scratch(job_id) / "out" / "grandchild").read_text()))
        bench.cancel(job_id)
        thread.join(10)
        assert bench.job(job_id).status == "canceled"
        bench.wait_for(lambda members=members: all(gone(pid) for pid in members), 5)


def test_what_a_finished_child_leaves_running_is_killed(bench: Bench) -> None:
    job_id = bench.submit("family", steps=2)
    assert bench.run(job_id) is Outcome.DONE
    grandchild = int(bench.read_stored(bench.artifacts(job_id)["grandchild"].store_path))
    bench.wait_for(lambda: gone(grandchild), 5)


def test_a_run_deadline_ends_the_job(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=2000, run_deadline=1)
    assert bench.run(job_id) is Outcome.TIMED_OUT
    job = bench.job(job_id)
    assert job.status == "timed_out"
    assert "run deadline of 1 seconds" in job.reason


def test_what_was_reached_by_the_deadline_is_kept(bench: Bench) -> None:
    job_id = bench.submit("slow_plan", steps=2000, run_deadline=1)
    assert bench.run(job_id) is Outcome.TIMED_OUT
    files = bench.artifacts(job_id)
    assert set(files) == {"plan.json", "log.txt"}
    assert bench.read_stored(files["plan.json"].store_path) == b"{}"
    (attempt,) = bench.attempts(job_id)
    assert attempt.checkpoint is not None
    assert (attempt.checkpoint["files"], bench.job(job_id).stage) == (1, "stage1")
    with db.session_scope(bench.sessions) as session:
        service.retry(session, job_id)
    thread = bench.start(job_id)
    bench.wait_for(lambda: len(bench.attempts(job_id)) == 2)
    bench.wait_for(lambda: bench.job(job_id).status == "running")
    bench.cancel(job_id)
    thread.join()
    assert b"begins at step 0" not in bench.read_stored(stored_log(job_id, 2))


def test_a_retry_from_scratch_begins_at_the_beginning(bench: Bench) -> None:
    job_id = bench.submit("crash")
    for _ in range(3):
        bench.run(job_id)
    assert bench.read_stored(stored_log(job_id, 3)) == b"begins at step 4\n"
    with db.session_scope(bench.sessions) as session:
        service.retry(session, job_id, from_scratch=True)
    bench.run(job_id)
    bench.run(job_id)
    assert bench.read_stored(stored_log(job_id, 4)) == b"begins at step 0\n"
    assert bench.read_stored(stored_log(job_id, 5)) == b"begins at step 4\n"


def test_output_is_in_the_database_until_it_is_stored(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=40)
    thread = bench.start(job_id)

    def held() -> int | None:
        with db.session_scope(bench.sessions) as session:
            return log_pieces.size(session, job_id, 1)

    assert bench.wait_for(held) == len("begins at step 0\n")
    thread.join()
    assert held() is None
    assert bench.read_stored(stored_log(job_id, 1)) == b"begins at step 0\n"


def test_a_worker_that_shuts_down_hands_the_job_over(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=100)
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    bench.draining.set()
    thread.join(5)
    job = bench.job(job_id)
    assert (job.status, job.crashes) == ("queued", 0)
    assert bench.run(job_id) is None
    bench.draining.clear()
    again = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    bench.cancel(job_id)
    again.join()
    assert b"begins at step 0" not in bench.read_stored(stored_log(job_id, 2))


def test_garbage_and_floods_cannot_hurt(bench: Bench) -> None:
    before = psutil.Process().memory_info().rss
    job_id = bench.submit("garbage")
    assert bench.run(job_id) is Outcome.DONE
    assert psutil.Process().memory_info().rss - before < 80_000_000
    log = bench.artifacts(job_id)["log.txt"]
    assert log.size <= bench.settings.log_limit_bytes + 100
    assert len(bench.events(job_id)) < 50


def test_links_are_not_published(bench: Bench) -> None:
    job_id = bench.submit("links", steps=1)
    assert bench.run(job_id) is Outcome.DONE
    assert set(bench.artifacts(job_id)) == {"log.txt", "model/model.safetensors", "plan.json", "report.json"}


def test_a_supervisor_that_lost_its_lease_kills_its_child_and_writes_nothing(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=2000)
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    pid = bench.child_pid(job_id)
    with db.session_scope(bench.sessions) as session:
        session.execute(update(Job).values(lease_until=func.now()))
    with db.session_scope(bench.sessions) as session:
        service.expire_leases(session)
        other = service.claim(session, job_id, owner="other", lease_seconds=60)
    assert other is not None
    version = bench.job(job_id).version
    thread.join(10)
    assert not thread.is_alive()
    assert gone(pid)
    job = bench.job(job_id)
    assert (job.version, job.attempt, job.lease_owner) == (version, 2, "other")


def test_an_attempt_first_kills_what_an_earlier_one_left(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=3)
    scratch = Scratch(bench.scratch(job_id))
    scratch.prepare({})
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    scratch.record_child(left.pid)
    assert bench.run(job_id) is Outcome.DONE
    assert gone(left.pid)
    left.wait(1)


def test_while_the_database_is_away_the_work_goes_on_and_the_result_is_held(
    bench: Bench, postgres: Postgres
) -> None:
    job_id = bench.submit("ok", steps=30)
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    with postgres.outage():
        time.sleep(bench.settings.lease_seconds + 1)
        bench.wait_for((bench.scratch(job_id) / "out" / "report.json").exists)
        assert thread.is_alive()
    thread.join(60)
    job = bench.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert numbers(bench, job_id) == list(range(1, job.last_event + 1))


def test_while_the_store_is_away_the_job_is_finalizing_and_then_succeeds(
    bench: Bench, tmp_path: Path
) -> None:
    obstacle = tmp_path / "store" / "jobs"
    obstacle.write_bytes(b"a file where a folder must be")
    job_id = bench.submit("ok", steps=2)
    thread = bench.start(job_id)
    bench.wait_for(lambda: "store does not answer" in bench.job(job_id).reason)
    time.sleep(bench.settings.lease_seconds + 0.5)
    with db.session_scope(bench.sessions) as session:
        assert service.expire_leases(session) == []
    assert bench.job(job_id).status == "finalizing"
    obstacle.unlink()
    thread.join(60)
    assert bench.job(job_id).status == "succeeded"
    assert len(bench.artifacts(job_id)) == 4


def test_what_broken_off_attempts_had_stored_is_removed_and_their_logs_stay(
    bench: Bench, tmp_path: Path
) -> None:
    job_id = bench.submit("crash_once", steps=2)
    assert bench.run(job_id) is Outcome.CRASHED
    half = tmp_path / "half"
    half.write_bytes(b"half")
    for path in ("attempts/1/model/model.safetensors", "attempts/2/old.bin"):
        bench.store.put_file(f"jobs/{job_id}/{path}", half)
    assert bench.run(job_id) is Outcome.DONE
    rows = {item.store_path for item in bench.artifacts(job_id).values()}
    assert {item.path for item in bench.store.list(f"jobs/{job_id}")} == rows | {stored_log(job_id, 1)}


def test_files_that_a_row_names_stay_until_the_result_takes_their_place(bench: Bench) -> None:
    job_id = bench.submit("slow_plan", steps=2000, run_deadline=1)
    assert bench.run(job_id) is Outcome.TIMED_OUT
    kept = {item.store_path for item in bench.artifacts(job_id).values()}
    with db.session_scope(bench.sessions) as session:
        rows = service.list_artifacts(session, job_id)
    remove_leftovers(bench.store, job_id, {row.store_path for row in rows})
    assert {item.path for item in bench.store.list(f"jobs/{job_id}")} == kept


def test_a_job_that_waits_for_the_store_can_be_canceled(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "store" / "jobs").write_bytes(b"a file where a folder must be")
    job_id = bench.submit("ok", steps=1)
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "finalizing")
    bench.cancel(job_id)
    thread.join(60)
    assert bench.job(job_id).status == "canceled"
    assert bench.artifacts(job_id) == {}


def test_a_log_can_be_read_while_the_child_runs_and_afterwards(bench: Bench) -> None:
    job_id = bench.submit("ok", steps=20)
    thread = bench.start(job_id)

    def read() -> bytes:
        (attempt,) = bench.attempts(job_id) or [None]
        if attempt is None:
            return b""
        with db.session_scope(bench.sessions) as session:
            held = held_log(session, attempt, 0, 1000)
        return read_stored(bench.store, attempt, 0, 1000) if held is None else held

    assert bench.wait_for(read) == b"begins at step 0\n"
    thread.join()
    assert not bench.scratch(job_id).exists()
    assert read() == b"begins at step 0\n"


def test_a_full_or_broken_disk_is_told_and_tried_again(bench: Bench) -> None:
    bench.settings.data_dir.mkdir()
    bench.settings.work_dir.write_bytes(b"a file where a folder must be")
    job_id = bench.submit("ok")
    assert bench.run(job_id) is Outcome.CRASHED
    job = bench.job(job_id)
    assert (job.status, (job.error or {})["code"]) == ("queued", "worker_failed")


def test_a_limit_on_file_size_holds(bench: Bench, worker_settings: Settings) -> None:
    limited = worker_settings.model_copy(update={"child_file_bytes": 1000})
    tight = Bench(limited, bench.sessions, open_store(limited.store_url))
    job_id = tight.submit("ok", steps=1)
    tight.run(job_id)
    assert tight.job(job_id).status == "queued"
    assert tight.attempts(job_id)[0].exit_code not in (0, None)
