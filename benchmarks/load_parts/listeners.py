"""Many listeners of one busy job: how late its events reach the last of them, and what the API needs for it.

The listeners are plain sockets in this process. Late is counted from before the commit of an event to the
arrival of its id.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy.orm import Session, sessionmaker

from load_parts.clients import SPEC, client, new_key, quantile
from load_parts.limits import Limit
from load_parts.served import Backend, Served, serving
from trsp_core.progress import Progress
from trsp_jobs import db, service
from trsp_jobs.leases import Claim, JobError

LATEST_SECONDS = 1.0
MOST_BYTES = 100_000_000
PAUSE_SECONDS = 0.5
"""Between two events, as a worker has."""


@dataclass
class Listener:
    """One stream: when each event's id arrived."""

    arrived: dict[int, float] = field(default_factory=dict)

    async def follow(self, served: Served, key: str, job_id: str) -> None:
        """Read the stream to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = (
            f"GET /v1/jobs/{job_id}/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {key}\r\n\r\n"
        )
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"the stream was refused: {status!r}")
        while line := await reader.readline():
            if line.startswith(b"id: "):
                self.arrived[int(line[4:])] = time.monotonic()
            elif line.startswith(b"event: end"):
                break
        writer.close()


def measure(backend: Backend, listeners: int, events: int) -> tuple[dict[str, Any], list[Limit]]:
    """Return how late events were and by how much the API grew, and what both are held to."""
    with serving(backend.database("listeners")) as served:
        found = _measure(served, listeners, events)
    title = f"{listeners} listeners"
    limits = [
        Limit(f"{title}: seconds until an event has reached all", found["latest_seconds"], LATEST_SECONDS),
        Limit(f"{title}: growth of the API's memory, bytes", found["growth_bytes"], MOST_BYTES),
        Limit(f"{title}: events that did not arrive", found["missing"], 0),
    ]
    return found, limits


def _measure(served: Served, count: int, events: int) -> dict[str, Any]:
    sessions = db.session_factory(db.make_engine(served.database_url))
    _, key = new_key(served, "team")
    warm, claim = (_claimed(served, sessions, key) for _ in range(2))
    _work(sessions, warm, 1)
    asyncio.run(_listen(served, key, warm.job_id, 1, threading.Event()))
    begin, told = threading.Event(), {}

    def act() -> None:
        begin.wait()
        told.update(_work(sessions, claim, events))

    before = psutil.Process(served.pid).memory_info().rss
    thread = threading.Thread(target=act)
    thread.start()
    with _watched(served.pid) as seen:
        reached = asyncio.run(_listen(served, key, claim.job_id, count, begin))
    thread.join()
    sessions.kw["bind"].dispose()
    late = [
        item.arrived[number] - at for number, at in told.items() for item in reached if number in item.arrived
    ]
    return {
        "listeners": count,
        "events": events,
        "deliveries": len(late),
        "missing": len(told) * count - len(late),
        "median_seconds": round(quantile(late, 0.5), 4),
        "latest_seconds": round(max(late), 4),
        "rss_bytes": before,
        "growth_bytes": max(seen) - before,
    }


def _claimed(served: Served, sessions: sessionmaker[Session], key: str) -> Claim:
    """Submit a job and take it as a worker would."""
    with client(served, key) as sender:
        job_id = sender.send("POST", "/v1/jobs", SPEC)["id"]
    with db.session_scope(sessions) as session:
        claim = service.claim(session, job_id, owner="benchmark", lease_seconds=600)
    if claim is None:
        raise RuntimeError(f"{job_id} could not be claimed")
    return claim


def _work(sessions: sessionmaker[Session], claim: Claim, events: int) -> dict[int, float]:
    """Report progress again and again, then fail; return when each event was about to be committed."""
    told = {}
    for step in range(events):
        with db.session_scope(sessions) as session:
            progress = Progress("stage1", step, events, step / events, metrics={"loss": 3.0})
            service.record_progress(session, claim, [progress])
            number = service.get_job(session, claim.job_id).last_event
            told[number] = time.monotonic()
        time.sleep(PAUSE_SECONDS)
    with db.session_scope(sessions) as session:
        service.fail(session, claim, JobError("ended", "the benchmark is over"), retryable=False)
    return told


async def _listen(
    served: Served, key: str, job_id: str, count: int, begin: threading.Event
) -> list[Listener]:
    """Open the streams, let the work begin once each has got something, and read them to the end."""
    listeners = [Listener() for _ in range(count)]
    reading = [asyncio.create_task(item.follow(served, key, job_id)) for item in listeners]
    while not all(item.arrived for item in listeners):
        await asyncio.sleep(0.05)
    begin.set()
    await asyncio.gather(*reading)
    return listeners


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Give a list that grows by the process's resident bytes, ten times a second."""
    seen, ended, process = [], threading.Event(), psutil.Process(pid)

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
