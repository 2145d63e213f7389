"""The states of a job and the ways between them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from trsp_jobs.errors import IllegalTransition


class Status(StrEnum):
    """Where a job is. The algorithm's own stage is another field."""

    QUEUED = "queued"
    """Stored and waiting for a worker, for the first time or again."""
    STARTING = "starting"
    """Claimed by a worker; the child process has not reported yet."""
    RUNNING = "running"
    """The child process works."""
    FINALIZING = "finalizing"
    """The work is done; its files are on their way to the store."""
    CANCELING = "canceling"
    """Somebody asked it to stop; the worker has not confirmed yet."""
    SUCCEEDED = "succeeded"
    """The result is published. Nothing changes it any more."""
    FAILED = "failed"
    """The input was refused, the work failed, or the attempts are used up; `error` says why."""
    CANCELED = "canceled"
    """Stopped on request."""
    TIMED_OUT = "timed_out"
    """A deadline passed, in the queue or while running."""


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.TIMED_OUT})
ACTIVE = frozenset({Status.STARTING, Status.RUNNING, Status.FINALIZING, Status.CANCELING})
"""A worker holds a lease on the job."""
RETRYABLE = frozenset({Status.FAILED, Status.CANCELED, Status.TIMED_OUT})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.STARTING, Status.CANCELED, Status.TIMED_OUT}),
    Status.STARTING: frozenset(
        {
            Status.RUNNING,
            Status.FINALIZING,
            Status.QUEUED,
            Status.CANCELING,
            Status.FAILED,
            Status.TIMED_OUT,
        }
    ),
    Status.RUNNING: frozenset(
        {Status.FINALIZING, Status.QUEUED, Status.CANCELING, Status.FAILED, Status.TIMED_OUT}
    ),
    Status.FINALIZING: frozenset({Status.SUCCEEDED, Status.QUEUED, Status.CANCELING, Status.FAILED}),
    Status.CANCELING: frozenset({Status.CANCELED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.CANCELED: frozenset({Status.QUEUED}),
    Status.TIMED_OUT: frozenset({Status.QUEUED}),
}
"""From each status, the ones that may follow. A job that is canceling ends canceled, whatever happens."""


def check(status: Status, following: Status, verb: str | None = None) -> None:
    """Refuse a change of status that `TRANSITIONS` does not list.

    Args:
        status: The status that the job has.
        following: The status that it is to have.
        verb: What was asked, for the message; the name of `following` unless given.

    Raises:
        IllegalTransition: If the change is not listed.
    """
    if following not in TRANSITIONS[status]:
        raise IllegalTransition(status, verb or following)
