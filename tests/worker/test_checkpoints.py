"""A job that goes on on another machine, from what the first one had put into the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worker.conftest import Bench
from trsp_jobs import db, service
from trsp_jobs.leases import Claim
from worker import checkpoints
from worker.ending import Outcome
from worker.scratch import Scratch

pytestmark = pytest.mark.integration


@pytest.fixture
def first(bench: Bench) -> Bench:
    """A machine that stores checkpoints."""
    bench.settings = bench.settings.model_copy(update={"checkpoint_store": "always"})
    return bench


@pytest.fixture
def second(first: Bench, tmp_path: Path) -> Bench:
    """Another machine: a folder of its own, the same database and store."""
    own = first.settings.model_copy(update={"data_dir": tmp_path / "second"})
    return Bench(own, first.sessions, first.store)


def hand_over(bench: Bench, steps: int = 40, at: int = 5) -> str:
    """Let a machine begin a job and shut down in the middle of it."""
    job_id = bench.submit("ok", steps=steps)
    thread = bench.start(job_id)
    step = bench.scratch(job_id) / "out" / "checkpoint" / "step"
    bench.wait_for(lambda: step.exists() and int(step.read_text()) >= at)
    bench.draining.set()
    thread.join(20)
    assert bench.job(job_id).status == "queued"
    return job_id


def resumed_from(bench: Bench, job_id: str) -> int:
    return int(
        json.loads(bench.read_stored(bench.artifacts(job_id)["report.json"].store_path))["resumed_from"]
    )


def stored(bench: Bench, job_id: str) -> list[str]:
    return [item.path for item in bench.store.list(f"jobs/{job_id}/checkpoints")]


def test_another_machine_goes_on_from_what_was_handed_over(first: Bench, second: Bench) -> None:
    job_id = hand_over(first)
    (attempt,) = first.attempts(job_id)
    assert attempt.outcome == "handed_over"
    assert len((attempt.checkpoint or {})["stored"]) == 64
    assert second.run(job_id) is Outcome.DONE
    assert resumed_from(second, job_id) >= 5
    assert stored(second, job_id) == []
    assert not any("checkpoint" in path for path in second.artifacts(job_id))


def test_after_a_crash_another_machine_goes_on_too(first: Bench, second: Bench) -> None:
    job_id = first.submit("crash_once", steps=20)
    assert first.run(job_id) is Outcome.CRASHED
    assert second.run(job_id) is Outcome.DONE
    assert resumed_from(second, job_id) == 10


def test_what_lies_here_and_is_later_is_not_replaced(first: Bench, second: Bench) -> None:
    job_id = hand_over(first)
    second.draining.clear()
    second.settings = second.settings.model_copy(update={"checkpoint_store": "never"})
    thread = second.start(job_id)
    step = second.scratch(job_id) / "out" / "checkpoint" / "step"
    second.wait_for(lambda: step.exists() and int(step.read_text()) >= 15)
    second.draining.set()
    thread.join(20)
    second.draining.clear()
    assert second.run(job_id) is Outcome.DONE
    assert resumed_from(second, job_id) >= 15


@pytest.mark.parametrize("what", ["out/checkpoint/step", "manifest.json"])
@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_checkpoint_is_not_gone_on_from(
    first: Bench, second: Bench, tmp_path: Path, what: str, gone: bool
) -> None:
    job_id = hand_over(first, steps=12)
    path = f"{checkpoints.folder_of(job_id, 1)}/{what}"
    if gone:
        first.store.delete_files([path])
    else:
        (tmp_path / "other").write_text("11")
        first.store.put_file(path, tmp_path / "other")
    assert second.run(job_id) is Outcome.DONE
    assert resumed_from(second, job_id) == 0


def test_a_job_that_is_to_begin_again_takes_no_stored_checkpoint(first: Bench, second: Bench) -> None:
    job_id = hand_over(first, steps=12)
    first.cancel(job_id)
    with db.session_scope(first.sessions) as session:
        service.retry(session, job_id, from_scratch=True)
    assert second.run(job_id) is Outcome.DONE
    assert resumed_from(second, job_id) == 0


def test_a_later_checkpoint_takes_the_place_of_the_one_before(bench: Bench) -> None:
    scratch = Scratch(bench.settings.work_dir / "job_x")
    for attempt in (1, 2):
        (scratch.out / "checkpoint").mkdir(parents=True, exist_ok=True)
        (scratch.out / "checkpoint" / "step").write_text(str(attempt))
        (scratch.out / "checkpoint" / "step.partial").write_text("half")
        checkpoints.keep(bench.store, scratch, "job_x", attempt)
    folder = checkpoints.folder_of("job_x", 2)
    assert sorted(stored(bench, "job_x")) == [f"{folder}/manifest.json", f"{folder}/out/checkpoint/step"]


def test_a_folder_keeps_them_only_if_it_is_asked_to(bench: Bench) -> None:
    assert not bench.settings.stores_checkpoints
    assert bench.settings.model_copy(update={"store_url": "s3://bucket/x"}).stores_checkpoints
    job_id = hand_over(bench)
    assert stored(bench, job_id) == []
    assert "stored" not in (bench.attempts(job_id)[0].checkpoint or {})


def test_a_claim_of_an_earlier_attempt_number_finds_only_what_it_may_go_on_from(first: Bench) -> None:
    job_id = hand_over(first)
    claim = Claim(job_id, 2, "w", {})
    with db.session_scope(first.sessions) as session:
        found = checkpoints.find(session, claim)
        assert found is not None
        assert (found.attempt, found.folder) == (1, f"jobs/{job_id}/checkpoints/1")
        assert checkpoints.find(session, replace(claim, fresh_after=1)) is None
