from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.servers import process
from tests.worker.conftest import Bench
from trsp_jobs import db, service
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.errors import BrokerUnavailable
from trsp_jobs.settings import Settings
from trsp_jobs.storage import open_store

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass
class Stack(Bench):
    """A bench whose jobs are worked on by real Celery workers and tidied by a real housekeeping process."""

    folder: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        settings = self.settings
        own = {
            "TRSP_DATABASE_URL": settings.database_url,
            "TRSP_BROKER_URL": settings.broker_url,
            "TRSP_STORE_URL": settings.store_url,
            "TRSP_DATA_DIR": str(settings.data_dir),
            "TRSP_LEASE_SECONDS": str(settings.lease_seconds),
            "TRSP_CANCEL_GRACE_SECONDS": str(settings.cancel_grace_seconds),
            "TRSP_HOUSEKEEPING_SECONDS": str(settings.housekeeping_seconds),
            "TRSP_RING_AGAIN_SECONDS": str(settings.ring_again_seconds),
            "TRSP_WORKER_SEEN_SECONDS": str(settings.worker_seen_seconds),
            "TRSP_FILE_ROOTS": os.pathsep.join(map(str, settings.file_roots)),
            "OMP_NUM_THREADS": "1",
        }
        if settings.secret is not None and settings.api_key is not None:
            own["TRSP_SECRET"] = settings.secret.get_secret_value()
            own["TRSP_API_KEY"] = settings.api_key.get_secret_value()
            own["TRSP_PORT"] = str(settings.port)
        secret = settings.s3_secret_access_key
        if secret is not None:
            own["TRSP_S3_ENDPOINT"] = str(settings.s3_endpoint)
            own["TRSP_S3_ACCESS_KEY_ID"] = str(settings.s3_access_key_id)
            own["TRSP_S3_SECRET_ACCESS_KEY"] = secret.get_secret_value()
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, **own}

    @contextlib.contextmanager
    def program(self, name: str, *arguments: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Python program of the project; its output is shown if the test fails.

        `changes` are variables of its environment that it has for itself.
        """
        log = self.folder / f"{name}.log"
        environment = {**self.environment, "PYTHONPATH": str(ROOT), **changes}
        with process([sys.executable, *arguments], log, environment) as running:
            yield running
        sys.stdout.write(f"--- {name}\n{log.read_text()}")

    def worker(
        self, name: str = "worker", app: str = "tests.integration.stub_worker", **changes: str
    ) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return self.program(name, "-m", "celery", "-A", app, "worker", *OPTIONS, **changes)

    def housekeeping(
        self, name: str = "housekeeping"
    ) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return self.program(name, "-m", "worker.housekeeping")

    def submit_and_ring(self, behavior: str, steps: int = 4, **options: object) -> str:
        """Submit as the API does: commit, then ring; a broker that is away changes nothing."""
        job_id = self.submit(behavior, steps, **options)
        self.ring(job_id)
        return job_id

    def ring(self, job_id: str) -> None:
        bell = CeleryDispatcher(self.settings.broker_url, queue=self.settings.queue)
        try:
            bell.ring(job_id)
            self.mark_rung(job_id)
        except BrokerUnavailable:
            return
        finally:
            bell.close()

    def mark_rung(self, job_id: str) -> None:
        with db.session_scope(self.sessions) as session:
            service.mark_rung(session, job_id)

    def numbers_are_whole(self, job_id: str) -> bool:
        numbers = [event.sequence for event in self.events(job_id)]
        return numbers == list(range(1, self.job(job_id).last_event + 1))

    def begun(self, job_id: str, step: int) -> Callable[[], bool]:
        path = self.scratch(job_id) / "out" / "checkpoint" / "step"
        return lambda: path.exists() and int(path.read_text()) >= step


@pytest.fixture
def stack_settings(postgres_url: str, valkey_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        broker_url=valkey_url,
        store_url=(tmp_path / "store").as_uri(),
        data_dir=tmp_path / "data",
        lease_seconds=2,
        cancel_grace_seconds=1,
        housekeeping_seconds=0.5,
        ring_again_seconds=1,
        worker_seen_seconds=1,
    )


@pytest.fixture
def stack(stack_settings: Settings, sessions: sessionmaker[Session], tmp_path: Path) -> Stack:
    return Stack(stack_settings, sessions, open_store(stack_settings.store_url), folder=tmp_path)
