"""A client with a key, and times of requests that are sent in turn."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any
from urllib.parse import urlencode

from load_parts.served import OPERATORS_KEY, Served
from trsp_jobs import db, service

SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}
SCOPES = ("jobs:read", "jobs:write")
WARM_UP = 10


class Client:
    """One connection that is kept open. Made of the standard library, so that little of a time is its own."""

    def __init__(self, served: Served, key: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the answer's JSON.

        Raises:
            RuntimeError: If it is an error.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            status, content = self._exchange(method, path, data)
        except (ConnectionError, RemoteDisconnected):  # it was idle for longer than the server keeps it
            self._connection.close()
            status, content = self._exchange(method, path, data)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {content[:500]!r}")
        return json.loads(content)

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, data, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def get(self, path: str, query: Mapping[str, Any]) -> Any:
        """Read a resource."""
        return self.send("GET", f"{path}?{urlencode(query, doseq=True)}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def client(served: Served, key: str = OPERATORS_KEY) -> Iterator[Client]:
    """Give a client and close it at the end."""
    found = Client(served, key)
    try:
        yield found
    finally:
        found.close()


def new_key(served: Served, owner: str, **quotas: int) -> tuple[str, str]:
    """Make a key that is stored in the database, as callers have; return its id and its text."""
    wanted = {"name": f"key of {owner}", "owner": owner, "scopes": list(SCOPES), **quotas}
    with client(served) as operator:
        made = operator.send("POST", "/v1/keys", wanted)
    return made["id"], made["key"]


def put_worker_online(database_url: str) -> None:
    """Note a worker that is there and idle, so that waiting jobs have a place in the queue to be told."""
    engine = db.make_engine(database_url)
    with db.session_scope(db.session_factory(engine)) as session:
        service.see_worker(session, service.WorkerFacts("worker", "here", "cpu", 1 << 33), seconds=3600)
    engine.dispose()


def in_turn(acts: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return how long each act took, seconds: they are done in turn, so that what disturbs one disturbs all."""
    for act in acts.values():
        for _ in range(WARM_UP):
            act()
    times: dict[str, list[float]] = {name: [] for name in acts}
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, act in acts.items():
                begun = time.perf_counter()
                act()
                times[name].append(time.perf_counter() - begun)
    finally:
        gc.enable()
    return times


def quantile(times: Sequence[float], share: float) -> float:
    """Return the time that a share of all did not exceed."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compared(times: Mapping[str, Sequence[float]], base: str, other: str) -> dict[str, float]:
    """Return medians and 99th percentiles, milliseconds, and by how much the second exceeds the first."""
    found: dict[str, float] = {}
    for title, share in (("median", 0.5), ("p99", 0.99)):
        low, high = quantile(times[base], share), quantile(times[other], share)
        found |= {
            f"{base}_{title}_ms": round(1000 * low, 2),
            f"{other}_{title}_ms": round(1000 * high, 2),
            f"{title}_ratio": round(high / low, 2),
        }
    return found
