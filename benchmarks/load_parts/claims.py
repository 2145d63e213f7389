"""Sixteen claimers at one queue, as sixteen workers are: how many claims a second, none lost and none doubled.

Each claimer is a process that answers rings with the worker's own code. Every job is rung twice, at two
claimers, as the broker may.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from itertools import chain
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from load_parts.clients import SPEC, new_key
from load_parts.limits import Limit
from load_parts.served import Backend, serving
from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.leases import WorkerOffer
from trsp_jobs.scopes import Scope
from trsp_jobs.settings import Settings
from worker.claiming import claim_next

CLAIMERS = 16
LEAST_A_SECOND = 300
LEASE_SECONDS = 600
RINGS = 2

Claimed = tuple[float, float, list[tuple[str, int]]]


def measure(backend: Backend, jobs: int) -> tuple[dict[str, Any], list[Limit]]:
    """Return the claims a second, of jobs that count for no key, one key, and one with a quota."""
    settings = backend.database("claims")
    with serving(settings) as served:
        keys = {
            "operator's jobs": OPERATOR,
            "jobs of one key": _caller(new_key(served, "team")[0]),
            "jobs of one key with a quota": _caller(new_key(served, "team", max_running=10 * jobs)[0]),
        }
    found = {name: _race(settings, jobs, caller) for name, caller in keys.items()}
    limits = [
        limit
        for name, row in found.items()
        for limit in (
            Limit(f"claims a second, {name}", row["a_second"], LEAST_A_SECOND, least=True),
            Limit(f"claims lost or doubled, {name}", row["lost"] + row["doubled"], 0),
        )
    ]
    return found, limits


def _caller(key_id: str) -> Caller:
    return Caller(key_id, "team", "team", frozenset({Scope.JOBS_WRITE}))


def _race(settings: dict[str, str], jobs: int, caller: Caller) -> dict[str, Any]:
    url = settings["TRSP_DATABASE_URL"]
    sessions = db.session_factory(db.make_engine(url))
    rows = _submit(sessions, settings, jobs, caller)
    parts = _run(url, _rings(rows))
    taken = list(chain.from_iterable(claims for _, _, claims in parts))
    seconds = max(end for _, end, _ in parts) - min(begun for begun, _, _ in parts)
    with db.session_scope(sessions) as session:
        attempts = session.execute(
            text("SELECT count(*), count(DISTINCT job_id) FROM attempts WHERE job_id = ANY(:ids)"),
            {"ids": rows},
        ).one()
    sessions.kw["bind"].dispose()
    once = {job_id for job_id, _ in taken}
    return {
        "claimers": CLAIMERS,
        "jobs": jobs,
        "seconds": round(seconds, 3),
        "a_second": round(len(taken) / seconds, 1),
        "lost": len(set(rows) - once) + (jobs - attempts[1]),
        "doubled": len(taken) - len(once) + (attempts[0] - attempts[1]),
    }


def _submit(
    sessions: sessionmaker[Session], settings: dict[str, str], jobs: int, caller: Caller
) -> list[str]:
    made = Settings(**{name.removeprefix("TRSP_").lower(): value for name, value in settings.items()})
    spec = CompressionSpec.from_dict(SPEC)
    with db.session_scope(sessions) as session:
        found = [service.submit(session, spec, caller=caller, settings=made).id for _ in range(jobs)]
    with sessions.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return found


def _rings(jobs: Sequence[str]) -> list[list[str]]:
    """Return what each claimer hears: every job twice, in an order of chance."""
    heard = [job for job in jobs for _ in range(RINGS)]
    random.Random(0).shuffle(heard)
    return [heard[number::CLAIMERS] for number in range(CLAIMERS)]


def _run(url: str, rings: list[list[str]]) -> list[Claimed]:
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(CLAIMERS), context.Queue()
    processes = [context.Process(target=answer, args=(url, heard, barrier, told)) for heard in rings]
    for process in processes:
        process.start()
    found = [told.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return found


def answer(url: str, rings: Sequence[str], barrier: Barrier, told: Queue[Claimed]) -> None:
    """Answer rings as a worker does; tell when that began and ended, and what was claimed."""
    engine = db.make_engine(url)
    sessions, name = db.session_factory(engine), multiprocessing.current_process().name
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    taken, last = [], 0.0
    barrier.wait(120)
    begun = time.monotonic()
    for rung in rings:
        claim = claim_next(
            sessions,
            rung,
            worker_id=name,
            owner=name,
            offer=WorkerOffer("cpu", 2**40),
            lease_seconds=LEASE_SECONDS,
        )
        if claim is not None:
            taken.append((claim.job_id, claim.attempt))
            last = time.monotonic()
    told.put((begun, last, taken))
    engine.dispose()
