"""The embedded data folder: who runs in it, at which address, and how a client finds that."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trsp_core.errors import InputRefused, Problem

RUN_FILE = "run.json"
LOCK_FILE = "up.lock"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A started process: enough to find it again and to know it from another with the same id."""

    name: str
    pid: int
    created: float
    address: str
    log: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What runs on a data folder; written readable by its owner only."""

    url: str
    key: str | None
    pid: int
    parts: tuple[PartRecord, ...] = ()


class AlreadyRunning(InputRefused):
    """Another `trsp up` holds the data folder."""

    code = "already_running"


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return TRSP_DATA_DIR, or the place where the platform keeps a user's data."""
    if given := environment.get("TRSP_DATA_DIR"):
        return Path(given).expanduser().resolve()
    base = environment.get("XDG_DATA_HOME")
    return (Path(base) if base else Path("~/.local/share").expanduser()) / "trsp"


def write(data_dir: Path, record: RunRecord) -> None:
    """Write the run file whole or not at all."""
    path = data_dir / RUN_FILE
    temporary = path.with_name(f".{RUN_FILE}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(record), file)
    temporary.replace(path)


def read(data_dir: Path) -> RunRecord | None:
    """Return what the run file says, or None where there is none that can be read."""
    try:
        data: dict[str, Any] = json.loads((data_dir / RUN_FILE).read_text())
        parts = tuple(PartRecord(**item) for item in data["parts"])
        return RunRecord(url=data["url"], key=data["key"], pid=data["pid"], parts=parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(data_dir: Path) -> None:
    """Take the run file away."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def is_held(data_dir: Path) -> bool:
    """Tell whether a living `trsp up` holds the folder."""
    try:
        with (data_dir / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with it, even by kill -9.

    Raises:
        AlreadyRunning: If another process holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already_running(data_dir) from None
        yield


def _already_running(data_dir: Path) -> AlreadyRunning:
    record = read(data_dir)
    where = f" at {record.url} (process {record.pid})" if record else ""
    message = f"{data_dir} is in use by a running service{where}; stop that one or name another folder."
    return AlreadyRunning(Problem("--data-dir", message, str(data_dir)))
