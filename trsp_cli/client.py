"""Typed HTTP client of the service, for the `trsp jobs` commands and for scripts.

>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     job = client.submit({"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"})
...     client.wait(job["id"])
...     client.report(job["id"])["plan"]["removed_layers"]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from trsp_cli.access_calls import AccessCalls
from trsp_cli.downloads import DownloadCalls, inside
from trsp_cli.resources import InputCalls, ScheduleCalls, SlotCalls
from trsp_cli.transport import BrokenDownload, Json, Refused, ServiceError, Transport, Unreachable

__all__ = ["FINAL", "BrokenDownload", "Client", "Event", "Refused", "ServiceError", "Unreachable", "inside"]

PAUSE_SECONDS = 0.5
"""Between two tries, and between two looks."""
FINAL = frozenset({"succeeded", "failed", "canceled", "timed_out"})
Rows = list[Json]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job; `sequence` counts 1, 2, 3 … without a gap within the job."""

    sequence: int
    kind: str
    attempt: int
    at: str
    data: Json


class Client(AccessCalls, ScheduleCalls, SlotCalls, InputCalls, DownloadCalls):
    """The service at one address. Calls raise `Unreachable` or `Refused`, never a transport's own error."""

    def __init__(
        self, url: str, key: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._transport = Transport(url, key, transport)
        self.url = self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._transport.close()

    def submit(self, job: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Create a job from its JSON spec and return it, queued.

        Args:
            job: The spec, with the service's own fields.
            idempotency_key: Name of this wish: said again within a day, it creates no second job. Without
                one, only what this very call sends again is protected.
        """
        return self._transport.once("/v1/jobs", key=idempotency_key, json=job)

    def clone(
        self, job_id: str, changes: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Json:
        """Create a job like another one, with the fields of `changes` changed; null takes a field away."""
        return self._transport.once(_path(job_id, "clone"), key=idempotency_key, json=changes or {})

    def validate(self, job: Mapping[str, Any]) -> Json:
        """Return what the job would do and take, without creating it."""
        return self._transport.json("POST", "/v1/jobs/validate", json=job)

    def get(self, job_id: str) -> Json:
        """Return a job."""
        return self._transport.json("GET", _path(job_id))

    def list(self, **filters: Any) -> Json:
        """Return one page of jobs, newest first unless sorted otherwise: `items` and `next_cursor`.

        Args:
            **filters: Any of `status`, `model`, `label`, `created_after`, `created_before`, `sort`, `after`,
                `limit`; `status` and `label` may be lists.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        return self._transport.json("GET", "/v1/jobs", params=given)

    def every(self, **filters: Any) -> Iterator[Json]:
        """Yield all jobs that `list` would show, page after page."""
        page = self.list(**filters)
        yield from page["items"]
        while page["next_cursor"]:
            page = self.list(**{**filters, "after": page["next_cursor"]})
            yield from page["items"]

    def compare(self, job_ids: Sequence[str]) -> Json:
        """Return the key figures of several jobs side by side: `jobs`, and `figures` with a value for each."""
        return self._transport.json("GET", "/v1/compare", params={"job": [*job_ids]})

    def cancel(self, job_id: str, *, etag: str | None = None) -> Json:
        """Ask a job to stop; asking again changes nothing.

        Args:
            job_id: The job.
            etag: ETag of the job as the caller saw it; if it has changed since, the request is refused (412).
        """
        return self._transport.json("POST", _path(job_id, "cancel"), headers=_if_match(etag))

    def retry(self, job_id: str, *, from_scratch: bool = False, etag: str | None = None) -> Json:
        """Queue a failed, timed out or canceled job again; it goes on from its checkpoint if not told otherwise.

        `etag` is that of `cancel`.
        """
        body = {"from_scratch": from_scratch}
        return self._transport.once(_path(job_id, "retry"), headers=_if_match(etag), json=body)

    def delete(self, job_id: str, *, etag: str | None = None) -> None:
        """Delete a job that has ended, with its events, logs and files; `etag` is that of `cancel`."""
        self._transport.send("DELETE", _path(job_id), headers=_if_match(etag))

    def etag(self, job_id: str) -> str:
        """Return the ETag that a job has now."""
        return str(self._transport.send("GET", _path(job_id)).headers["ETag"])

    def attempts(self, job_id: str) -> Rows:
        """Return the tries at a job, each with its end and what it left for the next."""
        return [dict(item) for item in self._transport.json("GET", _path(job_id, "attempts"))["items"]]

    def methods(self) -> Rows:
        """Return the registered methods with the JSON Schema of their options."""
        return [dict(item) for item in self._transport.json("GET", "/v1/methods")["items"]]

    def report(self, job_id: str) -> Json:
        """Return the report of a job that succeeded."""
        return self._transport.json("GET", _path(job_id, "report"))

    def artifacts(self, job_id: str) -> Rows:
        """Return the files of a job: `path`, `size` in bytes, `sha256`, `media_type`."""
        return [dict(item) for item in self._transport.json("GET", _path(job_id, "artifacts"))["items"]]

    def links(self, job_id: str, *, paths: Sequence[str] | None = None, seconds: int = 3600) -> Rows:
        """Make links that download a job's files without a key: `path`, `url`, `expires_at`, `sha256`, `size`.

        Args:
            job_id: The job.
            paths: The files; all unless given.
            seconds: How long they download, a week at most.
        """
        body = {"paths": None if paths is None else [*paths], "seconds": seconds}
        return [
            dict(item) for item in self._transport.json("POST", _path(job_id, "links"), json=body)["items"]
        ]

    def workers(self) -> Rows:
        """Return the workers that are online."""
        return [dict(item) for item in self._transport.json("GET", "/v1/workers")["items"]]

    def logs(self, job_id: str, *, attempt: int | None = None, offset: int = 0) -> tuple[str, int, bool]:
        """Return a piece of an attempt's log from a byte offset.

        Returns:
            The text, the offset where the next piece starts, and whether nothing more will come.
        """
        params = {"offset": offset} | ({} if attempt is None else {"attempt": attempt})
        response = self._transport.send("GET", _path(job_id, "logs"), params=params)
        return (
            response.text,
            int(response.headers["Log-Next-Offset"]),
            response.headers["Log-Complete"] == "true",
        )

    def follow_logs(
        self, job_id: str, *, attempt: int | None = None, to_the_end: bool = True
    ) -> Iterator[str]:
        """Yield an attempt's log piece by piece, up to what is written or `to_the_end` of the attempt."""
        if to_the_end:
            yield from self.stream_log(job_id, attempt=attempt)
            return
        text, offset, _ = self.logs(job_id, attempt=attempt)
        while text:
            yield text
            text, offset, _ = self.logs(job_id, attempt=attempt, offset=offset)

    def stream_log(
        self, job_id: str, *, attempt: int | None = None, offset: int = 0, patience: float = 60
    ) -> Iterator[str]:
        """Yield an attempt's log as it is written, and end with the attempt; `patience` is that of `events`."""
        params = {"offset": offset} | ({} if attempt is None else {"attempt": attempt})
        for _, data in self._follow(_path(job_id, "logs", "stream"), "", params, patience):
            yield data["text"]

    def events(self, job_id: str, *, after: int = 0, patience: float = 60) -> Iterator[Event]:
        """Yield a job's events from `after` on as they come, and end after the final one.

        A broken connection is taken up again where it broke: no event is lost or repeated.

        Args:
            patience: Seconds without any connection after which it gives up.

        Raises:
            Unreachable: When `patience` is over.
        """
        for _, data in self._follow(_path(job_id, "events", "stream"), str(after), {}, patience):
            yield Event(**data)

    def events_so_far(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield the events that a job has now, numbered above `after`, without waiting for more."""
        while True:
            page = self._transport.json("GET", _path(job_id, "events"), params={"after": after})["items"]
            yield from (Event(**item) for item in page)
            if not page:
                return
            after = page[-1]["sequence"]

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

    def alive(self) -> Json:
        """Return what `/healthz` says, which is asked without looking at anything else."""
        return self._transport.json("GET", "/healthz")

    def ready(self) -> Json:
        """Return what `/readyz` says, ready or not."""
        response = self._transport.send("GET", "/readyz", accept=(200, 503))
        return dict(response.json())

    def version(self) -> Json:
        """Return what `/version` says."""
        return self._transport.json("GET", "/version")

    def _follow(
        self, path: str, last: str, params: Mapping[str, Any], patience: float
    ) -> Iterator[tuple[str, Json]]:
        """Yield name and data of a stream's events until the one that says that it is over."""
        deadline = time.monotonic() + patience
        while True:
            try:
                for number, name, data in self._transport.events(path, last, params):
                    if name == "end":
                        return
                    last, deadline = number, time.monotonic() + patience
                    yield name, data
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)


def _path(job_id: str, *parts: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *(quote(part, safe="") for part in parts)])


def _if_match(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}
