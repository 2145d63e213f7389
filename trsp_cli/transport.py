"""How the client talks: errors with names, requests that may be sent again, server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

Json = dict[str, Any]

TRIES = 3
"""Most times that a request under an idempotency key is sent."""
FIRST_PAUSE_SECONDS = 0.5
"""Before the second try; it doubles with each."""
_LATER = frozenset({409, 429, 503})


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
        headers: The answer's, `retry-after` where waiting helps.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], headers: Mapping[str, str] = {}) -> None:
        self.status = status
        self.problem = dict(problem)
        self.headers = headers
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


class Transport:
    """Requests to one address. They raise `Unreachable` or `Refused`, never the HTTP library's own errors."""

    def __init__(self, url: str, key: str | None, transport: httpx.BaseTransport | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(30, connect=5)
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=transport)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Json:
        """Send a request and return the object that answers it."""
        return dict(self.send(method, path, **options).json())

    def send(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        """Send a request once.

        Args:
            accept: Statuses that are no error here.
            **options: As `httpx` takes them.
        """
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code not in accept:
            _raise_for(response)
        return response

    def once(
        self, path: str, *, key: str | None = None, headers: Mapping[str, str] = {}, **options: Any
    ) -> Json:
        """POST what must take effect once, again if the answer gets lost, and return the answer.

        Args:
            key: The idempotency key; a new one unless given. Whoever gives one may repeat the call too.
        """
        headers = {**headers, "Idempotency-Key": key or str(uuid4())}
        for pause in (FIRST_PAUSE_SECONDS * 2**number for number in range(TRIES - 1)):
            try:
                return self.json("POST", path, headers=headers, **options)
            except (Unreachable, Refused) as error:
                if not _worth_another_try(error):
                    raise
            time.sleep(pause)
        return self.json("POST", path, headers=headers, **options)

    @contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Give an answer whose content is read as it comes."""
        try:
            with self._http.stream("GET", path, **options) as response:
                _raise_for(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def events(self, path: str, last: str, params: Mapping[str, Any] = {}) -> Iterator[tuple[str, str, Json]]:
        """Yield id, name and data of an event stream's events from after `last` on, until it closes."""
        headers = {"Last-Event-ID": last} if last else {}
        timeout = httpx.Timeout(30, connect=5, read=60)
        with self.stream(path, headers=headers, params=params, timeout=timeout) as response:
            yield from read_events(response.iter_lines())

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.url} does not answer ({error or type(error).__name__}); is the service up?"
        )


def _worth_another_try(error: ServiceError) -> bool:
    """Tell whether the same request may do better: its answer was lost, or it is to come later.

    Where nobody listens, a person hears of it at once.
    """
    if isinstance(error, Refused):
        return error.status in _LATER and "retry-after" in error.headers
    return not isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout))


def read_events(lines: Iterable[str]) -> Iterator[tuple[str, str, Json]]:
    """Read a text/event-stream with JSON data: yield each event's id, name and data."""
    number, name, data = "", "message", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            number = value
        elif field == "data":
            data += value
        elif not line and data:
            yield number, name, json.loads(data)
        if not line:
            name, data = "message", ""


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    problem = _problem(response)
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unreachable(f"{problem.get('title')}: {problem.get('detail')}")
    raise Refused(response.status_code, problem, response.headers)


def _problem(response: httpx.Response) -> Json:
    try:
        return dict(response.json())
    except ValueError:
        return {"title": f"HTTP {response.status_code}", "detail": response.text[:500], "errors": []}
