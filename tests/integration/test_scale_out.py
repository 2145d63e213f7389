"""Several of everything on one PostgreSQL, one Valkey and one S3, as if on machines of their own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.api.conftest import KEY, SECRET
from tests.integration.conftest import Stack
from tests.integration.test_worker import pool_pid, resumed_from
from tests.servers import S3Server, free_port, kill_group, wait_for_port
from tests.trsp_core.conftest import save_tiny
from trsp_cli.client import Client
from trsp_jobs import db, service
from trsp_jobs.settings import Settings
from trsp_jobs.storage import open_store

pytestmark = pytest.mark.integration

Running = contextlib.AbstractContextManager[subprocess.Popen[bytes]]
GIB = 2**30


@dataclass
class Fleet(Stack):
    """A stack whose parts run as if on machines of their own."""

    def machine(self, name: str) -> Path:
        """The folder that only this machine has."""
        return self.folder / "machines" / name

    def worker_on(self, name: str, **changes: str) -> Running:
        return self.worker(f"worker-{name}", TRSP_DATA_DIR=str(self.machine(name)), **changes)

    def housekeeping_on(self, name: str) -> Running:
        return self.program(
            f"housekeeping-{name}", "-m", "worker.housekeeping", TRSP_DATA_DIR=str(self.machine(name))
        )

    @contextlib.contextmanager
    def api_on(self, name: str) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
        """Serve from a machine; give a client of it."""
        port = free_port()
        own = {"TRSP_PORT": str(port), "TRSP_SECRET": SECRET, "TRSP_API_KEY": KEY}
        folder = str(self.machine(name))
        with self.program(f"api-{name}", "-m", "api", TRSP_DATA_DIR=folder, **own) as process:
            wait_for_port(port, 60)
            with Client(f"http://127.0.0.1:{port}", KEY) as client:
                yield client, process

    def at(self, name: str) -> Stack:
        """What is to be seen on one machine."""
        settings = self.settings.model_copy(update={"data_dir": self.machine(name)})
        return replace(self, settings=settings)


@pytest.fixture
def fleet(
    request: pytest.FixtureRequest,
    stack_settings: Settings,
    sessions: sessionmaker[Session],
    tmp_path: Path,
) -> Fleet:
    """On an S3 server. The stub child takes the model's name for what it is to do."""
    server: S3Server = request.getfixturevalue(getattr(request, "param", "rclone"))
    save_tiny(tmp_path / "models" / "ok", "llama")
    access = server.access
    changes = {
        "file_roots": [tmp_path / "models"],
        "store_url": f"{server.store_url}/{secrets.token_hex(4)}",
        "s3_endpoint": access.endpoint,
        "s3_access_key_id": access.key_id,
        "s3_secret_access_key": access.secret,
        "ring_again_seconds": 600,
    }
    settings = Settings(**{**stack_settings.model_dump(), **changes})
    return Fleet(settings, sessions, open_store(settings.store_url, access), folder=tmp_path)


def wanted(fleet: Fleet, steps: int) -> dict[str, object]:
    return {
        "model": str(fleet.folder / "models" / "ok"),
        "target": {"layers_to_remove": 2},
        "calibration": {"set": "python-docs", "sequences": steps, "sequence_length": 32},
        "evaluation": {"windows": 3, "window_length": 32},
    }


def test_two_of_everything_share_the_work(fleet: Fleet) -> None:
    with contextlib.ExitStack() as running:
        first, _ = running.enter_context(fleet.api_on("a"))
        second, _ = running.enter_context(fleet.api_on("b"))
        for name in ("a", "b"):
            running.enter_context(fleet.housekeeping_on(name))
            running.enter_context(fleet.worker_on(name))
        fleet.wait_for(lambda: len(second.workers()) == 2, 30)
        ids = [(first, second)[number % 2].submit(wanted(fleet, 20))["id"] for number in range(6)]
        for number, job_id in enumerate(ids):
            other = (second, first)[number % 2]
            assert other.wait(job_id, timeout=60)["status"] == "succeeded"
            events = [event.sequence for event in other.events(job_id)]
            assert events == list(range(1, fleet.job(job_id).last_event + 1))
        owners = [attempt.owner.split("/")[0] for job_id in ids for attempt in fleet.attempts(job_id)]
        assert len(owners) == len(ids)
        assert len(set(owners)) == 2
        files = {item["path"]: item["sha256"] for item in second.artifacts(ids[0])}
        second.download(ids[0], "plan.json", fleet.folder / "plan.json", sha256=files["plan.json"])
        (link,) = first.links(ids[0], paths=["model/model.safetensors"])
        elsewhere = link["url"].replace(first.url, second.url)
        answer = httpx.get(elsewhere, headers={"Range": "bytes=-100"})
        assert (answer.status_code, len(answer.content)) == (206, 100)


@pytest.mark.parametrize("fleet", ["rclone", "moto"], indirect=True)
def test_a_job_that_is_handed_over_goes_on_on_another_machine(fleet: Fleet) -> None:
    job_id = fleet.submit_and_ring("ok", steps=80)
    with fleet.housekeeping_on("b"):
        with fleet.worker_on("a") as first:
            fleet.wait_for(fleet.at("a").begun(job_id, 5), 30)
            os.kill(first.pid, signal.SIGTERM)
            assert first.wait(20) == 0
        with fleet.worker_on("b"):
            fleet.wait_for_status(job_id, "succeeded", seconds=40)
            fleet.wait_for(lambda: not list(fleet.store.list(f"jobs/{job_id}/checkpoints")))
    assert resumed_from(fleet, job_id) >= 5
    assert (fleet.job(job_id).crashes, fleet.job(job_id).attempt) == (0, 2)


def test_a_machine_that_is_gone_with_all_that_ran_on_it_is_replaced(fleet: Fleet) -> None:
    with contextlib.ExitStack() as running:
        first, api = running.enter_context(fleet.api_on("a"))
        second, _ = running.enter_context(fleet.api_on("b"))
        lost = [api, *(running.enter_context(part("a")) for part in (fleet.housekeeping_on, fleet.worker_on))]
        job_id = first.submit(wanted(fleet, 60))["id"]
        fleet.wait_for(fleet.at("a").begun(job_id, 5), 30)
        for process in lost:
            kill_group(process, signal.SIGKILL)
        running.enter_context(fleet.housekeeping_on("b"))
        running.enter_context(fleet.worker_on("b"))
        assert second.wait(job_id, timeout=60)["status"] == "succeeded"
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["lease_lost", "succeeded"]
    assert fleet.numbers_are_whole(job_id)


def test_jobs_go_to_the_workers_that_have_memory_enough(fleet: Fleet) -> None:
    large = [fleet.submit("ok", steps=2, memory_bytes=8 * GIB) for _ in range(3)]

    def reason() -> str:
        with db.session_scope(fleet.sessions) as session:
            return service.waiting_reason(session, fleet.job(large[0]))

    with fleet.worker_on("small", TRSP_WORKER_MEMORY_BYTES=str(GIB)):
        fleet.wait_for(lambda: "largest" in reason(), 30)
        assert reason() == "waiting: needs 8.0 GiB, the largest worker has 1.0 GiB"
        small = fleet.submit_and_ring("ok", steps=2, memory_bytes=GIB // 2)
        for job_id in large:
            fleet.ring(job_id)
        fleet.wait_for_status(small, "succeeded", seconds=30)
        time.sleep(1)
        assert {fleet.job(job_id).status for job_id in large} == {"queued"}
        with fleet.worker_on("large", TRSP_WORKER_MEMORY_BYTES=str(16 * GIB)):
            later = fleet.submit_and_ring("ok", steps=2, memory_bytes=8 * GIB)
            for job_id in (*large, later):
                fleet.wait_for_status(job_id, "succeeded", seconds=30)
    assert {fleet.job(job_id).attempt for job_id in (*large, small, later)} == {1}


def interrupted(fleet: Fleet, worker: subprocess.Popen[bytes], job_id: str, how: str) -> None:
    """Send the signals that an impatient person, or a supervisor of processes, sends."""
    if how == "twice":
        for _ in range(2):
            os.kill(worker.pid, signal.SIGTERM)
            time.sleep(0.2)
        return
    if how == "then quit":
        os.kill(worker.pid, signal.SIGTERM)
        time.sleep(0.3)
        os.kill(worker.pid, signal.SIGQUIT)
        return
    child = fleet.at("a").child_pid(job_id)
    for pid in (child, pool_pid(worker, child), worker.pid):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("how", ["twice", "then quit", "everybody at once"])
def test_a_worker_that_gets_several_signals_loses_nothing(fleet: Fleet, how: str) -> None:
    job_id = fleet.submit_and_ring("ok", steps=80)
    with fleet.housekeeping_on("b"):
        with fleet.worker_on("a") as first:
            fleet.wait_for(fleet.at("a").begun(job_id, 5), 30)
            child = fleet.at("a").child_pid(job_id)
            interrupted(fleet, first, job_id, how)
            first.wait(20)
            assert not psutil.pid_exists(child)
        with fleet.worker_on("b"):
            fleet.wait_for_status(job_id, "succeeded", seconds=40)
    outcomes = [attempt.outcome for attempt in fleet.attempts(job_id)]
    assert outcomes == ["handed_over", "succeeded"]
    assert fleet.job(job_id).crashes == 0
    assert resumed_from(fleet, job_id) >= 5


def test_the_secrets_of_the_service_do_not_reach_a_job(fleet: Fleet) -> None:
    own = {"TRSP_SECRET": SECRET, "TRSP_FORMER_SECRET": f"former-{SECRET}", "TRSP_API_KEY": KEY}
    job_id = fleet.submit_and_ring("look_around")
    with fleet.worker_on("a", **own):
        fleet.wait_for_status(job_id, "succeeded", seconds=30)
    text = fleet.read_stored(fleet.artifacts(job_id)["seen.json"].store_path).decode()
    settings = fleet.settings
    hidden = [SECRET, KEY, settings.database_url, settings.broker_url, "test-secret", "test-key"]
    assert [word for word in hidden if word in text] == []
    names = {name for name in json.loads(text)["environment"] if name.startswith("TRSP_")}
    assert names == {"TRSP_CACHE"}
