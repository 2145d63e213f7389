from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.leases import WorkerOffer
from trsp_jobs.models import Artifact, Attempt, Event, Job
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore, open_store
from worker.attempt import Workplace
from worker.ending import Outcome
from worker.supervisor import Supervisor

STUB = (sys.executable, "-S", str(Path(__file__).with_name("stub_child.py")))


def stub_spec(behavior: str, steps: int = 4) -> CompressionSpec:
    """The spec of a job that the stub child works on."""
    calibration = {"set": "python-docs", "sequences": steps}
    return CompressionSpec.from_dict(
        {"model": f"hf:stub/{behavior}", "sparsity": 0.25, "calibration": calibration}
    )


def gone(pid: int) -> bool:
    """Whether a process has ended; its parent may still have to hear of it."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@dataclass
class Bench:
    """A supervisor on real PostgreSQL with the stub child, and everything to look at."""

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtifactStore
    draining: threading.Event = field(default_factory=threading.Event)
    offer: WorkerOffer = WorkerOffer("cpu", 2**40)
    started: list[threading.Thread] = field(default_factory=list)

    def submit(self, behavior: str, steps: int = 4, **options: Any) -> str:
        with db.session_scope(self.sessions) as session:
            spec = stub_spec(behavior, steps)
            return service.submit(session, spec, settings=self.settings, **options).id

    def supervisor(self, name: str = "w1", command: Sequence[str] = STUB) -> Supervisor:
        place = Workplace(self.settings, self.sessions, self.store, command, self.draining.is_set)
        return Supervisor(place, worker_id=name, offer=self.offer)

    def run(self, job_id: str) -> Outcome | None:
        return self.supervisor().run(job_id)

    def start(self, job_id: str, command: Sequence[str] = STUB) -> threading.Thread:
        supervisor = self.supervisor(command=command)
        thread = threading.Thread(target=supervisor.run, args=(job_id,), daemon=True)
        thread.start()
        self.started.append(thread)
        return thread

    def end(self) -> None:
        """Let no supervisor or child outlive the test, however it ended."""
        self.draining.set()
        for thread in self.started:
            thread.join(30)
            assert not thread.is_alive(), "a supervisor is still at work"

    def job(self, job_id: str) -> Job:
        with db.session_scope(self.sessions) as session:
            return service.get_job(session, job_id)

    def events(self, job_id: str) -> list[Event]:
        with db.session_scope(self.sessions) as session:
            return list(service.events_after(session, job_id, 0, 100_000))

    def attempts(self, job_id: str) -> list[Attempt]:
        with db.session_scope(self.sessions) as session:
            return list(service.list_attempts(session, job_id))

    def artifacts(self, job_id: str) -> dict[str, Artifact]:
        with db.session_scope(self.sessions) as session:
            return {item.path: item for item in service.list_artifacts(session, job_id)}

    def wait_for(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.03)
        return found

    def wait_for_status(self, job_id: str, *statuses: str, seconds: float = 60) -> Job:
        self.wait_for(lambda: self.job(job_id).status in statuses, seconds)
        return self.job(job_id)

    def scratch(self, job_id: str) -> Path:
        return self.settings.work_dir / job_id

    def child_pid(self, job_id: str) -> int:
        import json

        record = self.scratch(job_id) / "child.json"
        self.wait_for(record.exists)
        return int(json.loads(record.read_bytes())["pid"])

    def read_stored(self, path: str) -> bytes:
        return b"".join(self.store.open_range(path))

    def cancel(self, job_id: str) -> None:
        with db.session_scope(self.sessions) as session:
            service.cancel(session, job_id)


@pytest.fixture
def worker_settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        broker_url="redis://127.0.0.1:1/0",
        store_url=(tmp_path / "store").as_uri(),
        data_dir=tmp_path / "data",
        lease_seconds=2,
        cancel_grace_seconds=0.5,
        s3_secret_access_key="store-secret",  # type: ignore[arg-type]
    )


@pytest.fixture
def bench(worker_settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Bench]:
    bench = Bench(worker_settings, sessions, open_store(worker_settings.store_url))
    yield bench
    bench.end()
