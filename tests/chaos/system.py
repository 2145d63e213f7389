"""The whole service as a company runs it: API, three workers and housekeeping on PostgreSQL, Valkey and S3."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from tests.api.conftest import KEY, SECRET
from tests.chaos.parts import Keeper, Part
from tests.servers import Postgres, Rclone, Valkey, free_port, wait_for_port
from tests.trsp_core.conftest import save_tiny
from trsp_cli.client import Client
from trsp_jobs import db
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.storage import ArtifactStore, open_store

WORKERS = 3
QUEUE = "trsp"
MOST_ATTEMPTS = 1000
"""No job is used up by kills that were not its own fault."""
_CELERY = ("-m", "celery", "-A", "tests.integration.stub_worker", "worker")
_OPTIONS = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class System:
    """Servers and parts, all on one folder.

    Attributes:
        service_folder: What only the service's own processes name; the servers do not.
    """

    def __init__(self, folder: Path) -> None:
        self.service_folder = folder / "service"
        self.models = folder / "models"
        self.service_folder.mkdir()
        self.postgres = Postgres(folder)
        self.valkey = Valkey(folder / "valkey")
        self.rclone = Rclone(folder / "rclone")
        self.engine: Engine = db.make_engine(self.postgres.tests_url)
        self.sessions: sessionmaker[Session] = db.session_factory(self.engine)
        self._port = free_port()
        self.workers = [
            self._part(f"worker-{n}", *_CELERY, "-n", f"w{n}@%h", *_OPTIONS) for n in range(WORKERS)
        ]
        self.keeper = Keeper(
            [
                self._part("api", "-m", "tests.chaos.doubled", "api"),
                self._part("housekeeping", "-m", "tests.chaos.doubled", "worker.housekeeping"),
                *self.workers,
            ]
        )

    @property
    def work_dir(self) -> Path:
        """Where jobs are worked on."""
        return self.service_folder / "data" / "work"

    @property
    def store(self) -> ArtifactStore:
        """The store that the service uses."""
        facts = self.rclone.facts
        return open_store(facts.store_url, facts.access)

    def stored(self) -> Mapping[str, int]:
        """Return what the whole bucket holds: path, as rows name it, and bytes."""
        facts = self.rclone.facts
        bucket, _, prefix = facts.store_url.removeprefix("s3://").partition("/")
        files = open_store(f"s3://{bucket}", facts.access).list(prefix)
        return {item.path.removeprefix(f"{prefix}/"): item.size for item in files}

    @property
    def environment(self) -> dict[str, str]:
        """What the service's processes are told; times are short, so that minutes show what hours would."""
        access = self.rclone.facts.access
        kept = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ
        }
        own = {
            "DATABASE_URL": self.postgres.tests_url,
            "BROKER_URL": self.valkey.url,
            "STORE_URL": self.rclone.facts.store_url,
            "S3_ENDPOINT": str(access.endpoint),
            "S3_ACCESS_KEY_ID": str(access.key_id),
            "S3_SECRET_ACCESS_KEY": str(access.secret),
            "DATA_DIR": str(self.service_folder / "data"),
            "FILE_ROOTS": str(self.models),
            "QUEUE": QUEUE,
            "SECRET": SECRET,
            "API_KEY": KEY,
            "PORT": str(self._port),
            "LEASE_SECONDS": "5",
            "CANCEL_GRACE_SECONDS": "1",
            "HOUSEKEEPING_SECONDS": "0.5",
            "RING_AGAIN_SECONDS": "1",
            "WORKER_SEEN_SECONDS": "1",
            "MAX_ATTEMPTS": str(MOST_ATTEMPTS),
        }
        return {**kept, **{f"TRSP_{name}": value for name, value in own.items()}, "OMP_NUM_THREADS": "1"}

    def _part(self, name: str, *arguments: str) -> Part:
        return Part(name, arguments, self.environment, self.service_folder / f"{name}.log")

    def client(self) -> Client:
        """Return a client with the operator's key."""
        return Client(f"http://127.0.0.1:{self._port}", KEY)

    def job(self, steps: int) -> dict[str, Any]:
        """Return a job that the stub child works on, one twentieth of a second a step."""
        calibration = {"set": "python-docs", "sequences": steps, "sequence_length": 32}
        return {
            "model": str(self.models / "ok"),
            "target": {"layers_to_remove": 1},
            "calibration": calibration,
        }

    def waiting_rings(self) -> int:
        """Return how many rings the broker holds."""
        bell = CeleryDispatcher(self.valkey.url, queue=QUEUE)
        try:
            return bell.pending()
        finally:
            bell.close()

    def start(self) -> None:
        """Start all parts and wait until the API answers."""
        save_tiny(self.models / "ok", "llama")
        self.keeper.start()
        wait_for_port(self._port, 60)

    def close(self) -> None:
        """Stop the servers."""
        self.engine.dispose()
        for server in (self.rclone, self.valkey, self.postgres):
            server.stop()


@contextmanager
def running(logs: Path | None = None) -> Iterator[System]:
    """Start a system in a new folder; at the end stop what is left of it, and keep its logs if asked to."""
    folder = Path(tempfile.mkdtemp(prefix="trsp-chaos-"))
    folder.chmod(0o755)
    system = System(folder)
    try:
        system.start()
        yield system
    finally:
        system.keeper.stop()
        system.close()
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
            for path in system.service_folder.glob("*.log"):
                shutil.copy(path, logs)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Any, seconds: float) -> bool:
    """Wait for a condition; return whether it came about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
