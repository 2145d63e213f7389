"""What a worker holds while it works on a job, and what it hands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one attempt of a job. Every write of the worker names it.

    Attributes:
        job_id: The job.
        attempt: The attempt's number.
        owner: The lease owner, unique to this claim's worker process.
        spec: The job spec as stored.
        fresh_after: What attempts up to this number left is not gone on from.
    """

    job_id: str
    attempt: int
    owner: str
    spec: Mapping[str, Any]
    fresh_after: int = 0


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """What a worker offers to jobs.

    Attributes:
        device: `cuda` or `cpu`.
        memory_bytes: Memory that a job may take there.
    """

    device: str
    memory_bytes: int

    @property
    def device_classes(self) -> tuple[str, ...]:
        """Device classes of the jobs that it can do."""
        return ("any", "cuda") if self.device == "cuda" else ("any",)


@dataclass(frozen=True, slots=True)
class Orders:
    """What the worker is told when it renews its lease.

    Attributes:
        cancel: Somebody asked the job to stop.
        seconds_left: Seconds until the job's run deadline, negative when it has passed; None without one.
    """

    cancel: bool
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """What a worker saw of a child process that ended.

    Attributes:
        exit_code: As `subprocess` gives it, negative for a signal; None where no child was started.
        peak_rss_bytes: Most memory that the process group held; None where it was not seen.
        checkpoint: What it left for a later attempt: `files`, `bytes`, `written_at`, `host`, and `stored` if it
            was put into the store too; None for nothing.
    """

    exit_code: int | None = None
    peak_rss_bytes: int | None = None
    checkpoint: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed.

    Attributes:
        code: Stable name of the kind of failure.
        message: What happened, for a person.
        problems: One entry for each wrong field of the spec, as `Problem.to_dict` gives them.
        suggestion: What may help.
    """

    code: str
    message: str
    problems: tuple[Mapping[str, Any], ...] = ()
    suggestion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON types."""
        return {**asdict(self), "problems": [dict(problem) for problem in self.problems]}


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file that was put into the store: path within the attempt's folder, bytes, SHA-256, media type."""

    path: str
    size: int
    sha256: str
    media_type: str = field(default="application/octet-stream")
