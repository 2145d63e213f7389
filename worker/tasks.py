"""The one task: an id comes in, the supervisor does the rest."""

from __future__ import annotations

from functools import cache

from trsp_jobs.dispatch import TASK_NAME
from worker.app import DRAINING, WORKER_ID, app
from worker.attempt import Workplace
from worker.runtime import make_runtime, offered_device, read_settings
from worker.supervisor import CHILD_COMMAND, Supervisor


@cache
def supervisor() -> Supervisor:
    """Return this process's supervisor."""
    runtime = make_runtime(read_settings())
    place = Workplace(runtime.settings, runtime.sessions, runtime.store, CHILD_COMMAND, DRAINING.is_set)
    return Supervisor(place, worker_id=WORKER_ID, device=offered_device(runtime.settings))


def run_job(job_id: str) -> None:
    """Answer a ring."""
    supervisor().run(job_id)


app.task(run_job, name=TASK_NAME)
