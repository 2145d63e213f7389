"""Where queued jobs stand: how many go before each, whether its key holds it back, and who could take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Select, String, Subquery, any_, bindparam, func, select, true
from sqlalchemy.orm import Session

from trsp_jobs.access_models import ApiKey
from trsp_jobs.key_repository import full_keys
from trsp_jobs.lifecycle import Status
from trsp_jobs.models import Job, WorkerNode

MOST_AHEAD = 1000
"""Jobs ahead of one that waits are counted up to here: a list must not cost what the queue is long."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a queued job waits for.

    Attributes:
        ahead: Jobs that go before it; None for more than `MOST_AHEAD`.
        held_back: Whether its key has as many jobs at work as it may.
        workers, gpu_workers, idle_workers: Workers that are there, those with a GPU, those without work.
        most_memory, most_gpu_memory: Memory that the largest of them, and of those with a GPU, offers a job, bytes;
            None where there is none.
    """

    ahead: int | None
    held_back: bool
    workers: int
    gpu_workers: int
    idle_workers: int
    most_memory: int | None
    most_gpu_memory: int | None


def standings(session: Session, job_ids: Sequence[str]) -> Mapping[str, Standing]:
    """Return where those of the jobs stand that are queued, by their ids: one query whatever their number."""
    return {row[0]: Standing(*row[1:]) for row in session.execute(_STANDINGS, {"job_ids": job_ids})}


def _standings() -> Select[Any]:
    placed, there = _front(), _workers()
    held_back = full_keys().where(ApiKey.id == Job.key_id).exists()
    return (
        select(Job.id, placed.c.place - 1, held_back, *there.c)
        .outerjoin(placed, placed.c.id == Job.id)
        .join(there, true())
        .where(Job.id == any_(bindparam("job_ids", type_=ARRAY(String))), Job.status == Status.QUEUED)
    )


def _front() -> Subquery:
    """The first jobs of the queue with their places, from 1 on: as many as are told apart."""
    order = (Job.priority.desc(), Job.id)
    first = select(Job.id, Job.priority).where(Job.status == Status.QUEUED).order_by(*order)
    front = first.limit(MOST_AHEAD + 1).subquery()
    place = func.row_number().over(order_by=(front.c.priority.desc(), front.c.id))
    return select(front.c.id, place.label("place")).subquery()


def _workers() -> Subquery:
    counted, largest = func.count(), func.max(WorkerNode.memory_bytes)
    return (
        select(
            counted.label("online"),
            counted.filter(WorkerNode.device == "cuda").label("gpu"),
            counted.filter(WorkerNode.current_job.is_(None)).label("idle"),
            largest.label("most"),
            largest.filter(WorkerNode.device == "cuda").label("most_gpu"),
        )
        .where(WorkerNode.gone_after > func.now())
        .subquery()
    )


_STANDINGS = _standings()
