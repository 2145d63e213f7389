"""What a client sends to create or change a schedule: its times and rules, and a whole job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api.submission import Submission, submission_schema
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.options import option, read, schema
from trsp_jobs.schedules import Terms
from trsp_jobs.schedules.cron import LONGEST, Cron
from trsp_jobs.schedules.policy import MISFIRES, OVERLAPS
from trsp_jobs.schedules.rows import Schedule

MAX_NAME = 100


def _read_name(value: Any, pointer: str) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= MAX_NAME:
        return value
    allowed = f"1 to {MAX_NAME} printable characters"
    raise InvalidSpec(Problem(pointer, f"must be {allowed}.", str(value)[:MAX_NAME], allowed))


def _read_job(value: Any, pointer: str) -> Submission:
    if not isinstance(value, Mapping):
        raise InvalidSpec(Problem(pointer, "must be an object: a job, as POST /v1/jobs takes it.", None))
    try:
        return Submission.from_dict(value)
    except InvalidSpec as error:
        raise InvalidSpec(*inside_job(error.problems, pointer)) from error


def inside_job(problems: tuple[Problem, ...], pointer: str = "/job") -> list[Problem]:
    """Return problems of a job as problems of the schedule that holds it."""
    return [replace(item, pointer=pointer + item.pointer) for item in problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleBody:
    """A schedule as asked for."""

    name: str = option(
        about="What a person calls it.",
        reader=_read_name,
        shape={"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    )
    cron: str = option(
        about="When a job is made: minute, hour, day of month, month, day of week.",
        reader=None,
        shape={"type": "string", "maxLength": LONGEST, "examples": ["0 3 * * MON"]},
    )
    zone: str = option("UTC", about="IANA time zone that the times are read in, such as Europe/Berlin.")
    misfire: str = option(
        "skip",
        about="What becomes of times at which the service was away: skip them, or run once for all of them.",
        choices=MISFIRES,
    )
    overlap: str = option(
        "forbid",
        about="Whether a run may begin while another of this schedule is unfinished.",
        choices=OVERLAPS,
    )
    job: Submission = option(
        about="The job, as POST /v1/jobs takes it. It is checked now, and again each time.",
        reader=_read_job,
        shape=submission_schema(),
    )

    def __post_init__(self) -> None:
        self.times()

    def times(self) -> Cron:
        """Return the cron with its zone.

        Raises:
            InvalidSpec: If one of them cannot be read.
        """
        return Cron(self.cron, self.zone)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScheduleBody:
        """Read the body of `POST /v1/schedules`.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        return read(cls, data, "")

    @classmethod
    def changed(cls, schedule: Schedule, changes: Mapping[str, Any]) -> ScheduleBody:
        """Read the body of a PATCH: what it does not name stays; `job` is replaced as a whole.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        current = {
            "name": schedule.name,
            "cron": schedule.cron,
            "zone": schedule.zone,
            "misfire": schedule.misfire,
            "overlap": schedule.overlap,
            "job": {**schedule.spec, **schedule.options},
        }
        return cls.from_dict({**current, **changes})

    def terms(self) -> Terms:
        """Return what is stored of it."""
        return Terms(
            name=self.name,
            cron=self.times(),
            misfire=self.misfire,
            overlap=self.overlap,
            spec=self.job.spec.to_dict(),
            options=self.job.options.to_dict(),
        )


def schedule_schema() -> dict[str, Any]:
    """Return the JSON Schema of the body."""
    return {**schema(ScheduleBody), "title": "ScheduleRequest", "examples": [EXAMPLE]}


def change_schema() -> dict[str, Any]:
    """Return the JSON Schema of a change: the same fields, none of them required."""
    whole = schema(ScheduleBody)
    return {**whole, "title": "ScheduleChange", "required": [], "minProperties": 1}


EXAMPLE: Mapping[str, Any] = {
    "name": "weekly",
    "cron": "0 3 * * MON",
    "zone": "Europe/Berlin",
    "job": {
        "model": "demo:smollm2-135m",
        "sparsity": 0.25,
        "calibration": "python-docs",
        "publish": {"slot": "smollm2-small", "perplexity": 0.02},
    },
}
