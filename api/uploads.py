"""A body that is a file: written to disk as it comes, counted and hashed, never held in memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.errors import ApiError
from trsp_jobs.inputs.calibration_sets import ReceivedText

_FLUSH_BYTES = 1 << 20


class _Sink:
    """A file that counts and hashes what is written to it."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb")
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append data."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> str:
        """Close the file and return the SHA-256 of all that was written."""
        self._file.close()
        return self._digest.hexdigest()


@asynccontextmanager
async def received(request: Request, folder: Path, kind: str) -> AsyncIterator[ReceivedText]:
    """Write the request's body to a file that lives as long as the block.

    Raises:
        ApiError: If the body ends before it is whole, or is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    path, sink = Path(name), _Sink(descriptor)
    try:
        try:
            await _pour(request, sink)
        finally:
            sha256 = await run_in_threadpool(sink.close)
        yield ReceivedText(path, kind, sink.size, sha256)
    finally:
        path.unlink(missing_ok=True)


async def _pour(request: Request, sink: _Sink) -> None:
    held = bytearray()
    try:
        async for chunk in request.stream():
            held += chunk
            if len(held) >= _FLUSH_BYTES:
                await run_in_threadpool(sink.write, bytes(held))
                held.clear()
    except ClientDisconnect as error:
        raise ApiError("bad-request", "The body ended before it was whole.") from error
    await run_in_threadpool(sink.write, bytes(held))
