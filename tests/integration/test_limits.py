"""The real child on a tiny model: canceled, too slow, short of memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_core.conftest import save_tiny
from tests.worker.conftest import Bench, gone
from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.models import Job
from trsp_jobs.settings import Settings
from trsp_jobs.storage import open_store
from worker.supervisor import CHILD_COMMAND

pytestmark = pytest.mark.integration

FREE_SECONDS = 5
"""A canceled job's process is gone by then."""


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    """Settings as they are unless an operator changes them."""
    save_tiny(tmp_path / "models" / "tiny", "llama")
    return Settings(
        database_url=postgres_url,
        broker_url="redis://127.0.0.1:1/0",
        store_url=(tmp_path / "store").as_uri(),
        data_dir=tmp_path / "data",
        file_roots=[tmp_path / "models"],
    )


@pytest.fixture
def bench(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Bench]:
    bench = Bench(settings, sessions, open_store(settings.store_url))
    yield bench
    bench.end()


def submit(bench: Bench, **options: float) -> str:
    """Submit a job that would take hours in stage 2."""
    spec = CompressionSpec.from_dict(
        {
            "model": str(bench.settings.file_roots[0] / "tiny"),
            "target": {"layers_to_remove": 2},
            "calibration": {"set": "python-docs", "sequences": 6, "sequence_length": 32},
            "method": {"name": "trsp", "stage1_steps": 2, "stage2_steps": 1_000_000, "batch_sequences": 2},
            "evaluation": {"windows": 3, "window_length": 32},
        }
    )
    with db.session_scope(bench.sessions) as session:
        return service.submit(session, spec, settings=bench.settings, **options).id  # type: ignore[arg-type]


def seconds_to_free(bench: Bench, job_id: str) -> float:
    """Cancel a job and return how long its process lives on."""
    child = bench.child_pid(job_id)
    began = time.monotonic()
    bench.cancel(job_id)
    bench.wait_for(lambda: gone(child))
    return time.monotonic() - began


def test_a_cancel_frees_the_process_of_a_job_at_work(bench: Bench) -> None:
    job_id = submit(bench)
    thread = bench.start(job_id, CHILD_COMMAND)
    bench.wait_for(lambda: bench.job(job_id).stage == "stage2", 90)
    assert seconds_to_free(bench, job_id) < FREE_SECONDS
    thread.join(30)
    assert bench.job(job_id).status == "canceled"


def test_a_cancel_frees_a_process_that_has_hardly_begun(bench: Bench) -> None:
    job_id = submit(bench)
    thread = bench.start(job_id, CHILD_COMMAND)
    assert seconds_to_free(bench, job_id) < FREE_SECONDS
    thread.join(30)
    assert bench.job(job_id).status == "canceled"


def test_a_cancel_frees_a_process_that_will_not_stop(bench: Bench) -> None:
    job_id = bench.submit("stubborn")
    thread = bench.start(job_id)
    bench.wait_for_status(job_id, "running")
    assert seconds_to_free(bench, job_id) < FREE_SECONDS
    thread.join(30)
    assert bench.job(job_id).status == "canceled"


def test_a_deadline_ends_the_job_and_keeps_its_plan(bench: Bench) -> None:
    job_id = submit(bench, run_deadline=1000)
    thread = bench.start(job_id, CHILD_COMMAND)
    bench.wait_for(
        lambda: (bench.job(job_id).stage_step or 0) > 2 and bench.job(job_id).stage == "stage2", 90
    )
    with db.session_scope(bench.sessions) as session:
        passed = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 999)
        session.execute(update(Job).where(Job.id == job_id).values(started_at=passed))
    thread.join(60)
    job = bench.job(job_id)
    assert (job.status, job.stage, (job.error or {})["code"]) == ("timed_out", "stage2", "timed_out")
    assert "longer run_deadline" in (job.error or {})["suggestion"]
    assert {"plan.json", "log.txt"} <= set(bench.artifacts(job_id))
    assert bench.attempts(job_id)[0].checkpoint is not None


@pytest.mark.parametrize("megabytes", [300, 800])
def test_a_process_that_gets_no_memory_is_named_so_with_what_helps(bench: Bench, megabytes: int) -> None:
    limit = megabytes * 1_000_000
    bench.settings = bench.settings.model_copy(update={"child_memory_bytes": limit, "max_attempts": 1})
    job_id = submit(bench)
    bench.supervisor(command=CHILD_COMMAND).run(job_id)
    job = bench.job(job_id)
    assert (job.status, (job.error or {})["code"]) == ("failed", "out_of_memory")
    assert f"TRSP_CHILD_MEMORY_BYTES={limit}" in (job.error or {})["suggestion"]
    assert "sequence_length" in (job.error or {})["suggestion"]
