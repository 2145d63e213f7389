"""Typed HTTP client of the service, for the `trsp jobs` commands and for scripts.

>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     job = client.submit({"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"})
...     client.wait(job["id"])
...     client.report(job["id"])["plan"]["removed_layers"]
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from trsp_cli.resources import InputCalls, ScheduleCalls, SlotCalls

PAUSE_SECONDS = 0.5
"""Between two tries, and between two looks."""
FINAL = frozenset({"succeeded", "failed", "canceled", "timed_out"})
Json = dict[str, Any]
Rows = list[Json]
Paths = list[Path]


class ServiceError(Exception):
    """Base of what can go wrong between a client and the service.

    ServiceError
    ├── Unreachable      nothing answers at the address, or it says that it cannot serve now (503)
    ├── Refused          the service refused the request; `problem` is its problem+json
    └── BrokenDownload   a file arrived with another hash than the service promised
    """


class Unreachable(ServiceError):
    """Nothing answers at the address, or it cannot serve now."""


class BrokenDownload(ServiceError):
    """A file arrived with another hash than the service promised."""


class Refused(ServiceError):
    """The service refused the request.

    Attributes:
        status: HTTP status.
        problem: The problem+json object, `errors` with JSON pointers among it.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job; `sequence` counts 1, 2, 3 … without a gap within the job."""

    sequence: int
    kind: str
    attempt: int
    at: str
    data: Json


class Client(ScheduleCalls, SlotCalls, InputCalls):
    """The service at one address. Calls raise `Unreachable` or `Refused`, never a transport's own error."""

    def __init__(
        self, url: str, key: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(30, connect=5)
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def submit(self, job: Mapping[str, Any]) -> Json:
        """Create a job from its JSON spec and return it, queued."""
        return self._json("POST", "/v1/jobs", json=job)

    def validate(self, job: Mapping[str, Any]) -> Json:
        """Return what the job would do, without creating it."""
        return self._json("POST", "/v1/jobs/validate", json=job)

    def get(self, job_id: str) -> Json:
        """Return a job."""
        return self._json("GET", _path(job_id))

    def list(self, **filters: Any) -> Json:
        """Return one page of jobs, newest first: `items` and `next_cursor`.

        Args:
            **filters: Any of `status`, `model`, `label`, `after`, `limit`.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        return self._json("GET", "/v1/jobs", params=given)

    def cancel(self, job_id: str) -> Json:
        """Ask a job to stop; asking again changes nothing."""
        return self._json("POST", _path(job_id, "cancel"))

    def retry(self, job_id: str) -> Json:
        """Queue a failed, timed out or canceled job again; it goes on from its checkpoint."""
        return self._json("POST", _path(job_id, "retry"))

    def report(self, job_id: str) -> Json:
        """Return the report of a job that succeeded."""
        return self._json("GET", _path(job_id, "report"))

    def artifacts(self, job_id: str) -> Rows:
        """Return the files of a job: `path`, `size` in bytes, `sha256`, `media_type`."""
        return [dict(item) for item in self._json("GET", _path(job_id, "artifacts"))["items"]]

    def workers(self) -> Rows:
        """Return the workers that are online."""
        return [dict(item) for item in self._json("GET", "/v1/workers")["items"]]

    def logs(self, job_id: str, *, attempt: int | None = None, offset: int = 0) -> tuple[str, int, bool]:
        """Return a piece of an attempt's log from a byte offset.

        Returns:
            The text, the offset where the next piece starts, and whether nothing more will come.
        """
        params = {"offset": offset} | ({} if attempt is None else {"attempt": attempt})
        response = self._send("GET", _path(job_id, "logs"), params=params)
        return (
            response.text,
            int(response.headers["Log-Next-Offset"]),
            response.headers["Log-Complete"] == "true",
        )

    def follow_logs(
        self, job_id: str, *, attempt: int | None = None, to_the_end: bool = True
    ) -> Iterator[str]:
        """Yield an attempt's log piece by piece, up to what is written or `to_the_end` of the attempt."""
        offset, complete = 0, False
        while not complete:
            text, following, complete = self.logs(job_id, attempt=attempt, offset=offset)
            if text:
                yield text
            elif not to_the_end:
                return
            elif not complete:
                time.sleep(PAUSE_SECONDS)
            offset = following

    def events(self, job_id: str, *, after: int = 0, patience: float = 60) -> Iterator[Event]:
        """Yield a job's events from `after` on as they come, and end after the final one.

        A broken connection is taken up again where it broke: no event is lost or repeated.

        Args:
            patience: Seconds without any connection after which it gives up.

        Raises:
            Unreachable: When `patience` is over.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                for event in self._stream(job_id, after):
                    if event is None:
                        return
                    after, deadline = event.sequence, time.monotonic() + patience
                    yield event
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)

    def wait(self, job_id: str, *, timeout: float | None = None) -> Json:
        """Return the job once it is final.

        Raises:
            TimeoutError: After `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (job := self.get(job_id))["status"] not in FINAL:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is {job['status']} after {timeout:g} seconds")
            time.sleep(PAUSE_SECONDS)
        return job

    def download(self, job_id: str, path: str, target: Path, *, sha256: str) -> None:
        """Write one file of a job to `target`, which appears only when it is whole.

        Raises:
            BrokenDownload: If its hash is not `sha256`.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                found = self._pour(_path(job_id, "artifacts", *PurePosixPath(path).parts), file)
            if found != sha256:
                raise BrokenDownload(f"{path} arrived with SHA-256 {found}, not {sha256}")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def download_all(self, job_id: str, folder: Path, *, only: Iterable[str] | None = None) -> Paths:
        """Write a job's files under `folder`, each checked by its hash, and return their paths.

        Args:
            only: Paths to take; all unless given.
        """
        wanted = None if only is None else set(only)
        written = []
        for item in self.artifacts(job_id):
            if wanted is None or item["path"] in wanted:
                target = inside(folder, item["path"])
                self.download(job_id, item["path"], target, sha256=item["sha256"])
                written.append(target)
        return written

    def ready(self) -> Json:
        """Return what `/readyz` says, ready or not."""
        response = self._send("GET", "/readyz", accept=(200, 503))
        return dict(response.json())

    def version(self) -> Json:
        """Return what `/version` says."""
        return self._json("GET", "/version")

    def _pour(self, path: str, file: Any) -> str:
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", path) as response:
                _raise_for(response)
                for chunk in response.iter_bytes(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return digest.hexdigest()

    def _stream(self, job_id: str, after: int) -> Iterator[Event | None]:
        """Yield events, then None if the service said that the job is over."""
        headers = {"Last-Event-ID": str(after)}
        timeout = httpx.Timeout(30, connect=5, read=60)
        try:
            with self._http.stream(
                "GET", _path(job_id, "events", "stream"), headers=headers, timeout=timeout
            ) as response:
                _raise_for(response)
                for name, data in read_sse(response.iter_lines()):
                    yield None if name == "end" else Event(**data)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _json(self, method: str, path: str, **options: Any) -> Json:
        return dict(self._send(method, path, **options).json())

    def _send(
        self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code not in accept:
            _raise_for(response)
        return response

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.url} does not answer ({error or type(error).__name__}); is the service up?"
        )


def read_sse(lines: Iterable[str]) -> Iterator[tuple[str, Json]]:
    """Read a text/event-stream with JSON data: yield each event's name and data."""
    name, data = "message", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and data:
            yield name, json.loads(data)
        if not line:
            name, data = "message", ""


def inside(folder: Path, path: str) -> Path:
    """Return `folder / path`, refusing a path that would lead out of the folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise BrokenDownload(f"the service names a file outside of its folder: {path!r}")
    return folder.joinpath(*parts.parts)


def _path(job_id: str, *parts: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *(quote(part, safe="") for part in parts)])


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    problem = _problem(response)
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unreachable(f"{problem.get('title')}: {problem.get('detail')}")
    raise Refused(response.status_code, problem)


def _problem(response: httpx.Response) -> Json:
    try:
        return dict(response.json())
    except ValueError:
        return {"title": f"HTTP {response.status_code}", "detail": response.text[:500], "errors": []}
