"""Where results are kept: a local folder or an S3 bucket behind one class, with the same semantics.

Files are streamed, never held in memory as a whole. A put is seen completely or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, InvalidPathError, NotFoundError
from obstore.store import LocalStore, ObjectStore, S3Store

from trsp_jobs.errors import ArtifactNotFound, StoreUnavailable
from trsp_jobs.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Config

_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_READ_BYTES = 1024 * 1024
_NO_RANGES = "NotPartial"
"""In obstore's message where a server answers a range with the status of a whole file (rclone does)."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was just stored: bytes, and the SHA-256 of the bytes that were sent."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file in the store: its path, its size in bytes, when it was written."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class S3Access:
    """How an S3 bucket is reached; what is None comes from the environment, as with Amazon's own tools."""

    endpoint: str | None = None
    region: str = "us-east-1"
    key_id: str | None = None
    secret: str | None = None


class ArtifactStore:
    """Files by path, `/` between the parts.

    Every method raises `StoreUnavailable` where the store does not answer or does not let it in, and
    `ArtifactNotFound` for a path that it does not hold or that is no proper path.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put_file(self, path: str, local: Path) -> StoredFile:
        """Store a local file, replacing what has its path.

        Returns:
            Size and hash of the bytes that were sent; the store's own size was compared with it.

        Raises:
            StoreUnavailable: Also if the store holds another size than was sent.
        """
        source = _Hashing(local)
        with _translated(path):
            obstore.put(
                self._store,
                _proper(path),
                source,
                use_multipart=local.stat().st_size > _PART_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        stored = self.stat(path).size
        if stored != source.size:
            raise StoreUnavailable(f"the store holds {stored} of the {source.size} bytes sent as {path!r}")
        return StoredFile(source.size, source.digest.hexdigest())

    def open_range(self, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes from `start` up to but without `end`, in pieces; `end` None means the file's end.

        The file is opened before this returns, so that a missing one is told before any byte is sent.
        """
        size = self.stat(path).size
        stop = size if end is None else min(end, size)
        return iter(()) if start >= stop else self._pieces(path, start, stop)

    def _pieces(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """One short request a piece, so that a slow reader runs into no timeout."""
        for begin in range(start, stop, _READ_BYTES):
            end = min(begin + _READ_BYTES, stop)
            try:
                with _translated(path):
                    piece = bytes(obstore.get_range(self._store, path, start=begin, end=end))
            except StoreUnavailable as error:
                if _NO_RANGES not in str(error):
                    raise
                yield from self._cut(path, begin, stop)
                return
            yield piece

    def _cut(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """Read from the file's beginning and leave out what is before `start`, for servers without ranges."""
        position = 0
        with _translated(path):
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=_READ_BYTES):
                wanted = memoryview(chunk)[max(start - position, 0) : max(stop - position, 0)]
                for begin in range(0, len(wanted), _READ_BYTES):
                    yield bytes(wanted[begin : begin + _READ_BYTES])
                position += len(chunk)
                if position >= stop:
                    return

    def stat(self, path: str) -> FileFacts:
        """Return what the store knows of a file."""
        with _translated(path):
            meta = obstore.head(self._store, _proper(path))
        return FileFacts(meta["path"], meta["size"], meta["last_modified"])

    def list(self, prefix: str) -> Iterator[FileFacts]:
        """Return the files in the folder `prefix` and below it, in no particular order."""
        with _translated(prefix):
            for batch in obstore.list(self._store, _proper(prefix)):
                for meta in batch:
                    yield FileFacts(meta["path"], meta["size"], meta["last_modified"])

    def delete(self, prefix: str) -> int:
        """Remove the folder `prefix` with all files in it; return how many there were."""
        paths = [item.path for item in self.list(prefix)]
        self.remove(paths)
        return len(paths)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files by the paths that `list` gave."""
        if paths:
            with _translated(paths[0]):
                obstore.delete(self._store, [*paths])


class _Hashing:
    """The pieces of a file, hashed and counted as they are read: what was hashed is what was sent."""

    def __init__(self, local: Path) -> None:
        self._local = local
        self.digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        self.digest, self.size = hashlib.sha256(), 0
        with self._local.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                self.digest.update(piece)
                self.size += len(piece)
                yield piece


def open_store(url: str, access: S3Access | None = None) -> ArtifactStore:
    """Return the store at `file:///FOLDER`, which is made where it is missing, or `s3://BUCKET/PREFIX`.

    Raises:
        ValueError: If the address is neither.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return ArtifactStore(LocalStore(unquote(parts.path), mkdir=True, automatic_cleanup=True))
    if parts.scheme == "s3" and parts.netloc:
        return ArtifactStore(_s3(parts.netloc, parts.path.strip("/"), access or S3Access()))
    raise ValueError(f"store_url is {url!r}; it must be file:///FOLDER or s3://BUCKET/PREFIX")


def store_of(settings: Settings) -> ArtifactStore:
    """Return the store that the settings name."""
    secret = settings.s3_secret_access_key
    access = S3Access(
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key_id,
        secret.get_secret_value() if secret else None,
    )
    return open_store(settings.store_url, access)


def _s3(bucket: str, prefix: str, access: S3Access) -> S3Store:
    config: S3Config = {"region": access.region}
    if access.endpoint is not None:
        config["endpoint"] = access.endpoint
    if access.key_id is not None:
        config["access_key_id"] = access.key_id
    if access.secret is not None:
        config["secret_access_key"] = access.secret
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options={
            "allow_http": (access.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=15)},
    )


def _proper(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ArtifactNotFound(path)
    return path


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError, InvalidPathError) as error:
        raise ArtifactNotFound(path) from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"the artifact store does not answer: {error}") from error
