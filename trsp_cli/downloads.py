"""Files of a job brought here: taken up where they broke off, checked by their hash, whole or not there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote

from trsp_cli.transport import BrokenDownload, Refused, Transport, Unreachable

PAUSE_SECONDS = 0.5
"""Before the connection is made again."""
TRIES = 3
"""Most connections in a row that bring nothing."""
NO_SUCH_RANGE = 416

OnBytes = Callable[[str, int], None]
"""Told the file's path and how many of its bytes are here."""


def say_nothing(path: str, done: int) -> None:
    """Tell nobody."""


class HasArtifacts(Protocol):
    """What these calls need of the client."""

    _transport: Transport

    def artifacts(self, job_id: str) -> list[dict[str, Any]]:
        """Return the files of a job."""

    def download(
        self, job_id: str, path: str, target: Path, *, sha256: str, on_bytes: OnBytes = say_nothing
    ) -> None:
        """Write one file of a job."""


class DownloadCalls:
    """The client's calls that write files."""

    def download(
        self: HasArtifacts,
        job_id: str,
        path: str,
        target: Path,
        *,
        sha256: str,
        on_bytes: OnBytes = say_nothing,
    ) -> None:
        """Write one file of a job to `target`, which appears only when it is whole.

        What came of it stays in a hidden file beside it when the connection breaks for good or the process
        ends; the next call goes on from there.

        Raises:
            BrokenDownload: If its hash is not `sha256`; then nothing of it is kept.
            Unreachable: If the service does not answer any more.
        """
        address = "/".join(["/v1/jobs", *(quote(part, safe="") for part in (job_id, "artifacts"))])
        address += "".join(f"/{quote(part, safe='')}" for part in PurePosixPath(path).parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Part(target.with_name(f".{target.name}.{sha256[:16]}.part"), sha256)
        fetch(self._transport, address, part, lambda done: on_bytes(path, done))
        found = part.digest()
        if found != sha256:
            part.file.unlink()
            raise BrokenDownload(f"{path} arrived with SHA-256 {found}, not {sha256}")
        part.file.replace(target)

    def download_all(
        self: HasArtifacts,
        job_id: str,
        folder: Path,
        *,
        only: Iterable[str] | None = None,
        on_bytes: OnBytes = say_nothing,
    ) -> list[Path]:
        """Write a job's files under `folder`, each checked by its hash, and return their paths.

        A file that is there already with the right hash is left as it is.

        Args:
            job_id: The job.
            folder: Where to.
            only: Paths to take; all unless given.
            on_bytes: Told of progress.
        """
        wanted = None if only is None else set(only)
        written = []
        for item in self.artifacts(job_id):
            if wanted is None or item["path"] in wanted:
                target = inside(folder, item["path"])
                if not is_there(target, item["size"], item["sha256"]):
                    self.download(job_id, item["path"], target, sha256=item["sha256"], on_bytes=on_bytes)
                on_bytes(item["path"], item["size"])
                written.append(target)
        return written


@dataclass(frozen=True, slots=True)
class Part:
    """What has come of a file so far. Its name has the hash, so that parts of two files are never mixed."""

    file: Path
    sha256: str

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.stat().st_size if self.file.exists() else 0

    def digest(self) -> str:
        """Return the SHA-256 of what is here."""
        return hash_of(self.file)


def fetch(transport: Transport, address: str, part: Part, on_bytes: Callable[[int], None]) -> None:
    """Bring the rest of a file, over as many connections as it takes while each brings something.

    Raises:
        Unreachable: After `TRIES` connections in a row that brought nothing.
    """
    idle = 0
    while True:
        before = part.size
        try:
            _pour(transport, address, part, on_bytes)
            return
        except Unreachable:
            idle = 0 if part.size > before else idle + 1
            if idle >= TRIES:
                raise
        time.sleep(PAUSE_SECONDS)


def _pour(transport: Transport, address: str, part: Part, on_bytes: Callable[[int], None]) -> None:
    """Append what one connection brings; begin anew where the service does not go on."""
    headers = {"Accept-Encoding": "identity"}
    if start := part.size:
        headers |= {"Range": f"bytes={start}-", "If-Range": f'"{part.sha256}"'}
    try:
        with transport.stream(address, headers=headers) as response:
            goes_on = response.status_code == 206
            with part.file.open("ab" if goes_on else "wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    on_bytes(file.tell())
    except Refused as error:
        if error.status != NO_SUCH_RANGE or not start:
            raise


def is_there(target: Path, size: int, sha256: str) -> bool:
    """Tell whether a file is here with the content that it should have."""
    return target.is_file() and target.stat().st_size == size and hash_of(target) == sha256


def hash_of(file: Path) -> str:
    """Return a file's SHA-256."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def inside(folder: Path, path: str) -> Path:
    """Return `folder / path`, refusing a path that would lead out of the folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or os.sep != "/" or "\0" in path:
        raise BrokenDownload(f"the service names a file outside of its folder: {path!r}")
    return folder.joinpath(*parts.parts)
