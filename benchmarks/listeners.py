"""Many listeners of one busy job: how late its events reach the last of them, and what the API needs for it.

The listeners are plain sockets in this process, the API is a process of its own, PostgreSQL is real. Late is
counted from before the commit of an event to the arrival of its id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import psutil
from machine import machine
from served import Served, running, servers
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.progress import Progress
from trsp_jobs import db, service
from trsp_jobs.leases import Claim, JobError

LATEST_SECONDS = 1.0
MOST_BYTES = 100_000_000
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}


@dataclass
class Listener:
    """One stream: when each event's id arrived."""

    arrived: dict[int, float] = field(default_factory=dict)

    async def follow(self, served: Served, job_id: str) -> None:
        """Read the stream to its end."""
        parts = urlsplit(served.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"GET /v1/jobs/{job_id}/events/stream HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
        writer.write(head.encode())
        while line := await reader.readline():
            if line.startswith(b"id: "):
                self.arrived[int(line[4:])] = time.monotonic()
            elif line.startswith(b"event: end"):
                break
        writer.close()


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
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


def work(sessions: sessionmaker[Session], claim: Claim, events: int, pause: float) -> dict[int, float]:
    """Report progress again and again, then fail; return when each event was about to be committed."""
    told = {}
    for step in range(events):
        with db.session_scope(sessions) as session:
            progress = Progress("stage1", step, events, step / events, metrics={"loss": 3.0})
            service.record_progress(session, claim, [progress])
            number = service.get_job(session, claim.job_id).last_event
            told[number] = time.monotonic()
        time.sleep(pause)
    with db.session_scope(sessions) as session:
        service.fail(session, claim, JobError("ended", "the benchmark is over"), retryable=False)
    return told


async def listen(served: Served, job_id: str, count: int, begin: threading.Event) -> list[Listener]:
    """Open the streams, let the work begin once each has got something, and read them to the end."""
    listeners = [Listener() for _ in range(count)]
    reading = [asyncio.create_task(item.follow(served, job_id)) for item in listeners]
    while not all(item.arrived for item in listeners):
        await asyncio.sleep(0.05)
    begin.set()
    await asyncio.gather(*reading)
    return listeners


def claim_job(served: Served, sessions: sessionmaker[Session]) -> Claim:
    """Submit a job and take it as a worker would."""
    job_id = httpx.post(f"{served.url}/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    with db.session_scope(sessions) as session:
        claim = service.claim(session, job_id, owner="benchmark", lease_seconds=600)
    if claim is None:
        raise RuntimeError(f"{job_id} could not be claimed")
    return claim


def measure(served: Served, count: int, events: int, pause: float) -> dict[str, float]:
    """Return how late the events were, and by how much the API grew."""
    sessions = db.session_factory(db.make_engine(served.database_url))
    warm = claim_job(served, sessions)
    work(sessions, warm, 1, 0)
    asyncio.run(listen(served, warm.job_id, 1, threading.Event()))
    claim, begin, told = claim_job(served, sessions), threading.Event(), {}

    def act() -> None:
        begin.wait()
        told.update(work(sessions, claim, events, pause))

    before = psutil.Process(served.pid).memory_info().rss
    thread = threading.Thread(target=act)
    thread.start()
    with watched(served.pid) as seen:
        listeners = asyncio.run(listen(served, claim.job_id, count, begin))
    thread.join()
    late = sorted(item.arrived[number] - at for number, at in told.items() for item in listeners)
    return {
        "listeners": count,
        "events": events,
        "deliveries": len(late),
        "median_seconds": round(late[len(late) // 2], 4),
        "latest_seconds": round(late[-1], 4),
        "growth_bytes": max(seen) - before,
    }


def main() -> None:
    """Print the figures; exit code 1 if an event came too late or the API grew too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument(
        "--pause", type=float, default=0.5, help="seconds between two events, as a worker has"
    )
    given = parser.parse_args()
    with servers() as settings, running(["-m", "api"], settings, "/healthz") as served:
        figures = measure(served, given.listeners, given.events, given.pause)
    limits = {"latest_seconds": LATEST_SECONDS, "growth_bytes": MOST_BYTES}
    print(json.dumps({"machine": machine(), **figures, "limits": limits}, indent=2))
    sys.exit(any(figures[name] > limit for name, limit in limits.items()))


if __name__ == "__main__":
    main()
