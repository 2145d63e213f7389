"""Reading objects under an S3 prefix: what is there, and byte ranges pinned to what was there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trsp_core.errors import TrspError

if TYPE_CHECKING:
    from obstore.store import S3Store

PIECE_BYTES = 8 * 1024 * 1024
_AHEAD = 4
_NO_RANGES = "NotPartial"
"""In obstore's message where a server answers a range with the status of a whole file (rclone does)."""
_NOT_LET_IN = "does not let the credentials in the AWS_* variables in."
_REASONS = (
    ("PreconditionError", 412, "was changed after it was listed."),
    ("UnauthenticatedError", 401, _NOT_LET_IN),
    ("PermissionDeniedError", 403, _NOT_LET_IN),
    ("NotFoundError", 404, "is not there."),
)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was listed: its name under the prefix, its size in bytes and its ETag."""

    name: str
    size: int
    e_tag: str


class Bucket:
    """The objects under a prefix.

    Args:
        bucket, prefix: Where they are.
        error: What is raised, of a message, where the store does not answer, does not let the credentials of
            the environment in, or holds something else than was listed.
    """

    def __init__(self, bucket: str, prefix: str, error: Callable[[str], TrspError]) -> None:
        self._pool = ThreadPoolExecutor(_AHEAD)
        self._error = error
        self._place = f"s3://{bucket}/{prefix}"
        self._ahead: dict[tuple[StoredObject, int], Future[memoryview]] = {}
        self._streams: dict[StoredObject, _Stream] = {}
        with self._told():
            self._store = _store(bucket, prefix)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)

    def objects(self, most: int) -> list[StoredObject]:
        """Return what is there, by name.

        Raises:
            TrspError: The given one; also if there are more than `most`.
        """
        import obstore

        found: list[StoredObject] = []
        with self._told():
            for batch in obstore.list(self._store):
                found += [StoredObject(item["path"], item["size"], _bare(item["e_tag"])) for item in batch]
                if len(found) > most:
                    raise self._error(
                        f"{self._place} holds more than {most} objects; give a model's own prefix."
                    )
        return sorted(found, key=lambda item: item.name)

    def read(self, item: StoredObject, begin: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `begin` up to but without `end`, a few requests ahead of who takes them.

        Requests are cut at multiples of 8 MiB and the latest are kept, so that small neighbours share one.
        """
        if item in self._streams:
            yield from self._streams[item].read(begin, end)
            return
        last = (end - 1) // PIECE_BYTES
        for number in range(begin // PIECE_BYTES, last + 1) if begin < end else ():
            self._look_ahead(item, number, last)
            start = number * PIECE_BYTES
            try:
                piece = self._ahead[item, number].result()
            except _NoRanges:
                self._streams[item] = _Stream(lambda: self._whole(item))
                yield from self._streams[item].read(max(begin, start), end)
                return
            yield piece[max(begin - start, 0) : end - start]

    def _look_ahead(self, item: StoredObject, number: int, last: int) -> None:
        wanted = [(item, n) for n in range(number, min(number + _AHEAD, last + 1))]
        kept = {key: self._ahead[key] for key in wanted if key in self._ahead}
        self._ahead = {key: kept.get(key) or self._pool.submit(self._piece, *key) for key in wanted}

    def _piece(self, item: StoredObject, number: int) -> memoryview:
        begin = number * PIECE_BYTES
        options = {"range": (begin, min(begin + PIECE_BYTES, item.size))}
        with self._told():
            return memoryview(self._get(item, options).bytes())

    def _whole(self, item: StoredObject) -> Iterator[memoryview]:
        with self._told():
            for chunk in self._get(item, {}).stream(min_chunk_size=PIECE_BYTES):
                yield memoryview(chunk)
        raise self._error(f"{self._place}/{item.name} ended before its {item.size} bytes.")

    def _get(self, item: StoredObject, options: dict[str, Any]) -> Any:
        """Begin to read an object that is still the one that was listed."""
        import obstore

        pinned = {**options, "if_match": f'"{item.e_tag}"'} if item.e_tag else options
        answer = obstore.get(self._store, item.name, options=pinned)  # type: ignore[arg-type]
        if _bare(answer.meta["e_tag"]) != item.e_tag or answer.meta["size"] != item.size:
            raise self._error(f"{self._place}/{item.name} was changed after it was listed.")
        return answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say obstore's errors in our words."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            if _NO_RANGES in str(error):
                raise _NoRanges from error
            raise self._error(f"{self._place} {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Say in our words what obstore, whose lists know fewer kinds of error than its reads, was answered."""
    kind, text = type(error).__name__, str(error)
    for name, status, reason in _REASONS:
        if kind == name or f"status code: {status}" in text:
            return reason
    return f"could not be read: {(text.strip().splitlines() or [kind])[0][:300]}"


def _bare(e_tag: str | None) -> str:
    """Return an ETag without its quotes, which some servers leave out of lists."""
    return (e_tag or "").removeprefix("W/").strip('"')


class _NoRanges(Exception):
    """The server gives whole objects only."""


class _Stream:
    """A whole object, read forwards for servers without ranges; a step back begins again."""

    def __init__(self, chunks: Callable[[], Iterator[memoryview]]) -> None:
        self._open = chunks
        self._chunks: Iterator[memoryview] = iter(())
        self._left = memoryview(b"")
        self._position = -1

    def read(self, begin: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `begin` up to but without `end`, skipping what is before them."""
        if not 0 <= self._position <= begin:
            self._chunks, self._left, self._position = self._open(), memoryview(b""), 0
        while self._position < begin:
            self._take(begin)
        while self._position < end:
            yield self._take(end)

    def _take(self, end: int) -> memoryview:
        if not self._left:
            self._left = next(self._chunks)
        piece = self._left[: end - self._position]
        self._left = self._left[len(piece) :]
        self._position += len(piece)
        return piece


def _store(bucket: str, prefix: str) -> S3Store:
    """Open a store as the `AWS_*` variables say, without signing where they hold no credentials."""
    from obstore.store import S3Store

    environment = os.environ
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"skip_signature": not any(map(environment.get, _CREDENTIALS))}
    config["region"] = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,  # type: ignore[arg-type]
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(hours=1),
            "read_timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
    )
