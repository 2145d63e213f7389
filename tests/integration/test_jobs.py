"""Whole jobs: the real worker with the real child on a tiny random model, results read back from S3."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.integration.conftest import Stack
from tests.servers import S3Server
from tests.trsp_core.conftest import save_tiny
from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.settings import Settings
from trsp_jobs.storage import open_store
from worker.ending import Outcome
from worker.supervisor import CHILD_COMMAND

pytestmark = pytest.mark.integration


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    save_tiny(folder / "tiny", "llama")
    return folder


@pytest.fixture
def settings(stack_settings: Settings, models: Path, rclone: S3Server) -> Settings:
    access = rclone.access
    changes = {
        "file_roots": [models],
        "store_url": f"{rclone.store_url}/jobs-{os.getpid()}",
        "s3_endpoint": access.endpoint,
        "s3_access_key_id": access.key_id,
        "s3_secret_access_key": access.secret,
        "lease_seconds": 5,
    }
    return Settings(**{**stack_settings.model_dump(), **changes})


@pytest.fixture
def stack(settings: Settings, rclone: S3Server, sessions: sessionmaker[Session], tmp_path: Path) -> Stack:
    return Stack(settings, sessions, open_store(settings.store_url, rclone.access), folder=tmp_path)


def spec(model: Path, changes: dict[str, Any]) -> CompressionSpec:
    method = {"name": "trsp", "stage1_steps": 2, "stage2_steps": 4, "checkpoint_every": 2}
    whole = {
        "model": str(model),
        "target": {"layers_to_remove": 2},
        "calibration": {"set": "python-docs", "sequences": 6, "sequence_length": 32},
        "method": {**method, "batch_sequences": 2},
        "evaluation": {"windows": 3, "window_length": 32},
    }
    return CompressionSpec.from_dict({**whole, **changes})


def submit(stack: Stack, wanted: CompressionSpec) -> str:
    with db.session_scope(stack.sessions) as session:
        return service.submit(session, wanted, settings=stack.settings).id


def test_a_real_job_survives_a_kill_and_is_published(stack: Stack, models: Path) -> None:
    method = {"name": "trsp", "stage1_steps": 20, "stage2_steps": 60, "checkpoint_every": 2}
    job_id = submit(stack, spec(models / "tiny", {"method": {**method, "batch_sequences": 2}}))
    stack.ring(job_id)
    with stack.housekeeping(), stack.worker(app="worker.app"):
        stack.wait_for(lambda: stack.job(job_id).stage in ("stage1", "stage2"), 60)
        os.kill(stack.child_pid(job_id), signal.SIGKILL)
        stack.wait_for_status(job_id, "succeeded", "failed", seconds=90)
    job = stack.job(job_id)
    assert (job.status, job.attempt) == ("succeeded", 2), job.error
    assert job.result is not None
    assert len(job.result["removed_layers"]) == 2
    assert job.result["round_trip_ok"]
    assert stack.numbers_are_whole(job_id)
    artifacts = stack.artifacts(job_id)
    wanted = {
        "report.json",
        "report.html",
        "report.csv",
        "plan.json",
        "manifest.json",
        "log.jsonl",
        "log.txt",
    }
    assert wanted | {"model/config.json"} <= set(artifacts)
    assert not any(path.startswith("checkpoint") for path in artifacts)
    for artifact in artifacts.values():
        content = stack.read_stored(artifact.store_path)
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
    report = json.loads(stack.read_stored(artifacts["report.json"].store_path))
    assert report["plan"]["removed_layers"] == job.result["removed_layers"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"model": "/somewhere/else"}, "/model"),
        ({"calibration": {"set": "text:/etc/passwd", "sequence_length": 32}}, "/calibration/set"),
    ],
)
def test_the_child_refuses_what_the_policy_forbids(
    stack: Stack, models: Path, changes: dict[str, Any], pointer: str
) -> None:
    job_id = submit(stack, spec(models / "tiny", changes))
    assert stack.supervisor(command=CHILD_COMMAND).run(job_id) is Outcome.FAILED
    job = stack.job(job_id)
    assert job.status == "failed"
    assert (job.error or {})["problems"][0]["pointer"] == pointer
