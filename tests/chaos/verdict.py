"""What must hold once everything has calmed down; each thing that does not is one line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.chaos.parts import processes_of
from tests.chaos.system import System, wait_until
from trsp_cli.client import Client
from trsp_jobs import db
from trsp_jobs.lifecycle import ACTIVE
from trsp_jobs.logs import stored_log
from trsp_jobs.models import Artifact, Attempt, Job, WorkerNode

CALM_SECONDS = 30
"""How long what is left may take to end or to be cleared away."""
FILES = {"log.txt", "model/model.safetensors", "plan.json", "report.json"}


def problems(system: System, client: Client, ids: Sequence[str]) -> list[str]:
    """Return what is wrong; nothing if all is well. The parts still run."""
    found = chain(
        _wrong_jobs(system, ids),
        *(_wrong_events(client, job_id) for job_id in ids),
        _wrong_files(system),
        _left_at_work(system),
    )
    return list(found)


def _wrong_jobs(system: System, ids: Sequence[str]) -> Iterator[str]:
    with db.session_scope(system.sessions) as session:
        rows = session.scalars(select(Job)).all()
        if {row.id for row in rows} != set(ids):
            yield f"{len(rows)} jobs are stored, {len(ids)} were accepted"
        for row in rows:
            yield from _wrong_job(session, row)


def _wrong_job(session: Session, job: Job) -> Iterator[str]:
    if job.status != "succeeded":
        yield f"{job.id} is {job.status}: {job.reason}"
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job.id)).all()
    if [item.number for item in attempts if item.outcome == "succeeded"] != [job.attempt]:
        yield f"{job.id}: its attempts ended {[(item.number, item.outcome) for item in attempts]}"
    if any(item.finished_at is None for item in attempts):
        yield f"{job.id} has an attempt without an end"
    files = session.scalars(select(Artifact).where(Artifact.job_id == job.id)).all()
    if {item.path for item in files} != FILES or {item.attempt for item in files} != {job.attempt}:
        yield f"{job.id} has published {[(item.attempt, item.path) for item in files]}"


def _wrong_events(client: Client, job_id: str) -> Iterator[str]:
    events = [*client.events_so_far(job_id)]
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        yield f"{job_id}: events are numbered {[event.sequence for event in events]}"
    moves = [event.data["to"] for event in events if event.kind == "status"]
    if moves.count("succeeded") != 1 or moves[-1] != "succeeded":
        yield f"{job_id} went {moves}"


def _wrong_files(system: System) -> Iterator[str]:
    """Compare the bucket with the rows, name by name, size by size and byte by byte."""
    wait_until(lambda: not _strays(system), CALM_SECONDS)
    yield from (f"{path} is stored and no row names it" for path in _strays(system))
    stored = system.stored()
    with db.session_scope(system.sessions) as session:
        rows = session.scalars(select(Artifact)).all()
    for row in rows:
        if stored.get(row.store_path) != row.size:
            yield f"{row.store_path} has {row.size} bytes in its row, {stored.get(row.store_path)} in the store"
        elif hashlib.sha256(b"".join(system.store.open_range(row.store_path))).hexdigest() != row.sha256:
            yield f"{row.store_path} has another content than its row says"


def _strays(system: System) -> list[str]:
    """Return what lies in the bucket without a row: an artifact's, or an attempt's for its log."""
    with db.session_scope(system.sessions) as session:
        named = {row.store_path for row in session.scalars(select(Artifact))}
        named |= {stored_log(row.job_id, row.number) for row in session.scalars(select(Attempt))}
    return sorted(system.stored().keys() - named)


def _left_at_work(system: System) -> Iterator[str]:
    if not wait_until(lambda: not [*processes_of(system.work_dir)], CALM_SECONDS):
        yield f"still at work: {[item.cmdline() for item in processes_of(system.work_dir)]}"
    if not wait_until(lambda: not system.waiting_rings(), CALM_SECONDS):
        yield f"{system.waiting_rings()} rings still wait"
    if not wait_until(lambda: not _busy(system), CALM_SECONDS):
        yield f"still held: {_busy(system)}"


def _busy(system: System) -> Counter[str]:
    """Count jobs under a lease, and workers that say they work on something."""
    with db.session_scope(system.sessions) as session:
        held = session.scalar(
            select(func.count()).where(Job.lease_owner.is_not(None) | Job.status.in_(ACTIVE))
        )
        busy = session.scalar(select(func.count()).where(WorkerNode.current_job.is_not(None)))
    return Counter({"leases": held or 0, "workers": busy or 0}) if held or busy else Counter()


def left_behind(system: System) -> list[str]:
    """Return what still runs of the service after its parts were stopped."""
    wait_until(lambda: not [*processes_of(system.service_folder)], CALM_SECONDS)
    return [f"left running: {item.cmdline()}" for item in processes_of(system.service_folder)]
