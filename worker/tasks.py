"""The one task: an id comes in, the supervisor does the rest."""

from __future__ import annotations

import time
from functools import cache

import structlog

from trsp_jobs.dispatch import TASK_NAME, CeleryDispatcher
from trsp_jobs.errors import BrokerUnavailable
from worker.app import DRAINING, WORKER_ID, app
from worker.attempt import Workplace
from worker.draining import TermHeld
from worker.offer import make_offer
from worker.runtime import make_runtime, read_settings
from worker.supervisor import CHILD_COMMAND, Supervisor

PASSES = 20
"""How often a ring is passed on; after that housekeeping rings again."""
PASS_SECONDS = 0.2
"""Before a ring is passed on, so that an idle worker hears it rather than this one again."""

log = structlog.get_logger(__name__)


TERM = TermHeld()


def draining() -> bool:
    """Tell whether this worker, or this process of it, is to end."""
    return DRAINING.is_set() or TERM.told


@cache
def supervisor() -> Supervisor:
    """Return this process's supervisor."""
    runtime = make_runtime(read_settings())
    place = Workplace(runtime.settings, runtime.sessions, runtime.store, CHILD_COMMAND, draining)
    return Supervisor(place, worker_id=WORKER_ID, offer=make_offer(runtime.settings))


@cache
def bell() -> CeleryDispatcher:
    """Return this process's way to ring for others."""
    settings = read_settings()
    return CeleryDispatcher(settings.broker_url, queue=settings.queue)


def run_job(job_id: str, passed: int = 0) -> None:
    """Answer a ring: work until no job is left that this worker can do, then leave the others their ring.

    Args:
        job_id: The job that was rung.
        passed: How often workers that could not do it have passed the ring on.
    """
    worked = False
    with TERM.hold():
        while supervisor().run(job_id) is not None:
            worked = True
    left = supervisor().left_to_others()
    if left is not None and passed < PASSES:
        pass_on(left, 0 if worked else passed + 1)


def pass_on(job_id: str, passed: int) -> None:
    """Ring for a job that an idle worker can do and this one cannot."""
    time.sleep(PASS_SECONDS)
    try:
        bell().ring(job_id, passed=passed)
    except BrokerUnavailable as error:
        log.warning("the ring was not passed on; housekeeping rings again", job=job_id, error=str(error))


app.task(run_job, name=TASK_NAME)
