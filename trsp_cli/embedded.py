"""The whole service on this machine: PostgreSQL, Valkey, API, housekeeping and workers as child processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from trsp_cli import credentials, processes, runfile, servers
from trsp_cli.client import Client, ServiceError
from trsp_cli.processes import Part, Running
from trsp_core.errors import InputRefused, Problem

DEFAULT_PORT = 8000
LOOPBACK = ("127.0.0.1", "::1", "localhost")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - refused without a key
START_SECONDS = 60.0
WORKER_PATIENCE = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the embedded service is to run.

    Attributes:
        data_dir: Where everything that it keeps lies.
        host: Address that the API listens on; the rest stays on the loopback.
        port: Its port; None takes 8000 or the next free one, 0 any free one.
        workers: Number of workers, each with one job at a time.
        allow_files: Folders whose models and texts jobs may name.
        key: What clients must send, with every right. For the loopback the data folder has one of its own;
            needed for any other host.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int | None = None
    workers: int = 1
    allow_files: tuple[Path, ...] = ()
    key: str | None = None

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.key:
            message = (
                f"is {self.host}, which other machines reach; set TRSP_KEY to a key of your choice first."
            )
            raise InputRefused(Problem("--host", message, self.host, LOOPBACK))
        if self.workers < 1:
            raise InputRefused(
                Problem("--workers", f"is {self.workers}; it must be at least 1.", self.workers)
            )
        missing = [folder for folder in self.allow_files if not folder.is_dir()]
        if missing:
            raise InputRefused(Problem("--allow-files", f"{missing[0]} is no folder.", str(missing[0])))


@dataclass
class Service:
    """The running service. Use `running(config)` to have it started and stopped."""

    config: Config
    url: str
    say: Callable[[str], None]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    parts: list[Running] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    def client(self) -> Client:
        """Return a client of this service."""
        return Client(self.url, self.config.key)

    def add(self, part: Part) -> Running:
        """Start a part and write it down, so that a later start finds it even after a crash."""
        running = Running(part)
        self.parts.append(running)
        self.record()
        return running

    def record(self) -> None:
        """Write the run file."""
        records = tuple(
            runfile.PartRecord(
                item.part.name,
                item.pid,
                processes.created_at(item.pid),
                item.part.address,
                str(item.part.log),
            )
            for item in self.parts
        )
        runfile.write(
            self.config.data_dir, runfile.RunRecord(self.url, self.config.key, os.getpid(), records)
        )

    def keep_alive(self) -> None:
        """Restart parts that end, from now until the service is stopped."""
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._stopping.wait(0.25):
            for item in self.parts:
                if item.revive():
                    self.say(f"{item.part.name} had ended and was started again (process {item.pid})")
                    self.record()

    def stop(self) -> None:
        """Stop all parts, last started first; a second interruption cuts the patience short."""
        self._stopping.set()
        patience: float | None = None
        while self.parts:
            try:
                if self._keeper is not None:
                    self._keeper.join()
                self.parts[-1].stop(patience=patience)
                self.parts.pop()
            except KeyboardInterrupt:
                patience = 0.5
        runfile.remove(self.config.data_dir)


@contextmanager
def running(config: Config, say: Callable[[str], None]) -> Iterator[Service]:
    """Start the whole service, wait until it works, and stop it at the end, however that comes.

    Args:
        config: How it is to run.
        say: Takes one line for a person at each step.

    Raises:
        InputRefused: If the folder or the port is in use, or the embedded servers are not installed.
        PartFailed: If a part does not become ready; the message holds the end of its log.
    """
    servers.require()
    with runfile.hold(config.data_dir), _terminable():
        clean_up(config.data_dir, say)
        service = Service(with_key(config, say), _url(config), say)
        try:
            _start(service)
            service.keep_alive()
            yield service
        finally:
            say("stopping …")
            service.stop()
            say("stopped")


def with_key(config: Config, say: Callable[[str], None]) -> Config:
    """Return the configuration with a key: the one given, else the data folder's own, said when it is made."""
    if config.key:
        return config
    key, is_new = credentials.own_key(config.data_dir)
    if is_new:
        say(f"key {key} (said this once; kept in {config.data_dir / credentials.KEY_FILE})")
    return replace(config, key=key)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, with everything stopped in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.signal(name, interrupt) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def clean_up(data_dir: Path, say: Callable[[str], None]) -> None:
    """End what an earlier run left behind when it was killed. The folder must be held."""
    record = runfile.read(data_dir)
    if record is None:
        return
    say("the last run ended without stopping; cleaning up after it")
    for part in reversed(record.parts):
        is_database = part.name == "postgres"
        stop_signal = signal.SIGINT if is_database else signal.SIGTERM
        if processes.end_leftover(
            part.pid, part.created, stop_signal=stop_signal, patience=10 if is_database else 2
        ):
            say(f"ended {part.name} of the last run (process {part.pid})")
    runfile.remove(data_dir)


def _start(service: Service) -> None:
    config, folder = service.config, service.config.data_dir
    for name in ("logs", "store", "work", "cache", "valkey"):
        (folder / name).mkdir(exist_ok=True)
    service.say("starting PostgreSQL …")
    database, database_url = servers.postgres(folder)
    service.add(database).wait_ready(START_SECONDS)
    servers.prepare_database(database_url)
    service.say("starting Valkey …")
    broker, broker_url = servers.valkey(folder)
    service.add(broker).wait_ready(START_SECONDS)
    environment = service_environment(config, service.url, database_url, broker_url)
    service.say("starting API, housekeeping and workers …")
    started = [service.add(part) for part in (api(service, environment), housekeeping(folder, environment))]
    started += [service.add(worker(service, environment, number)) for number in range(1, config.workers + 1)]
    processes.wait_all(started, START_SECONDS)


def service_environment(config: Config, url: str, database_url: str, broker_url: str) -> dict[str, str]:
    """Return the environment of the project's own processes: the caller's, with their settings."""
    own = {
        "TRSP_DATABASE_URL": database_url,
        "TRSP_BROKER_URL": broker_url,
        "TRSP_STORE_URL": (config.data_dir / "store").as_uri(),
        "TRSP_DATA_DIR": str(config.data_dir),
        "TRSP_FILE_ROOTS": os.pathsep.join(str(folder.resolve()) for folder in config.allow_files),
        "TRSP_HOST": config.host,
        "TRSP_SECRET": os.environ.get("TRSP_SECRET") or credentials.own_secret(config.data_dir),
        "TRSP_PORT": str(httpx.URL(url).port),
        "PYTHONPATH": os.pathsep.join(path for path in (str(_ROOT), os.environ.get("PYTHONPATH")) if path),
        "PYTHONUNBUFFERED": "1",
    }
    if config.host not in WILDCARDS:
        own["TRSP_PUBLIC_URL"] = os.environ.get("TRSP_PUBLIC_URL") or url
    return {**os.environ, **own} | ({"TRSP_API_KEY": config.key} if config.key else {})


_ROOT = Path(__file__).resolve().parent.parent


def api(service: Service, environment: Mapping[str, str]) -> Part:
    """Return the API with the dashboard."""
    folder = service.config.data_dir
    return Part(
        "api",
        processes.python("-m", "api"),
        service.url,
        environment,
        folder,
        folder / "logs" / "api.log",
        lambda: _is_up(service),
    )


def housekeeping(folder: Path, environment: Mapping[str, str]) -> Part:
    """Return the process that takes expired leases back and rings again."""
    log = folder / "logs" / "housekeeping.log"
    return Part(
        "housekeeping",
        processes.python("-m", "worker.housekeeping"),
        "",
        environment,
        folder,
        log,
        lambda: True,
    )


def worker(service: Service, environment: Mapping[str, str], number: int) -> Part:
    """Return one worker: one job at a time. Told to stop, it hands its job over, which takes some seconds."""
    folder, name = service.config.data_dir, f"worker-{number}"
    return Part(
        name,
        processes.python("-m", "worker", "--hostname", f"{name}@%h"),
        "",
        environment,
        folder,
        folder / "logs" / f"{name}.log",
        lambda: _workers_online(service) >= number,
        patience=WORKER_PATIENCE,
    )


def _workers_online(service: Service) -> int:
    """Return how many workers of this run have said that they are there."""
    try:
        with service.client() as client:
            started = [datetime.fromisoformat(item["started_at"]) for item in client.workers()]
    except ServiceError:
        return 0
    return sum(moment >= service.started for moment in started)


def _is_up(service: Service) -> bool:
    try:
        with service.client() as client:
            client.version()
    except ServiceError:
        return False
    return True


def _url(config: Config) -> str:
    """Return the address under which this machine reaches the API."""
    host = LOOPBACK[0] if config.host in WILDCARDS else config.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{_port(config)}"


def _port(config: Config) -> int:
    wanted = DEFAULT_PORT if config.port is None else config.port
    if wanted == 0 or servers.is_free(config.host, wanted):
        return wanted or servers.free_port(config.host)
    if config.port is None:
        return servers.free_port(config.host)
    message = f"is {wanted}, which another program listens on; name another one, or 0 for any free one."
    raise InputRefused(Problem("--port", message, wanted))
