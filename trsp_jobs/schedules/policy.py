"""What becomes of a schedule's times: decided as a value, from the clock and the rules alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain, islice, takewhile
from typing import Literal

from trsp_jobs.schedules.cron import Cron

Misfire = Literal["skip", "run_once"]
Overlap = Literal["forbid", "allow"]
MISFIRES: tuple[str, ...] = ("skip", "run_once")
OVERLAPS: tuple[str, ...] = ("forbid", "allow")

MOST_PASSED = 10_000
"""Times that are looked at in one go: a week of every minute. More of them are missed without a run."""


class Outcome(StrEnum):
    """What came of one time."""

    FIRED = "fired"
    """A job was made."""
    MISSED = "missed"
    """Nobody was there at the time, and the rule is to skip it."""
    OVERLAPPED = "overlapped"
    """The run before was not finished, and the rule forbids two."""
    FAILED = "failed"
    """The job spec is no longer valid; the reason says why."""


@dataclass(frozen=True, slots=True)
class Due:
    """The times of a schedule that have come.

    Attributes:
        latest: The last of them; what happens is said of this one.
        passed: How many they are.
        late: Whether even the latest is longer ago than the grace.
        more: Whether so many have passed that they were not all looked at.
        following: The first time that is not among them; None if there is none.
    """

    latest: datetime
    passed: int
    late: bool
    more: bool
    following: datetime | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a time, and why, one line for a person."""

    outcome: Outcome
    reason: str


def look(cron: Cron, first: datetime, now: datetime, grace_seconds: float) -> Due:
    """Return the times from `first`, which is due, up to `now`.

    Args:
        cron: The schedule's times.
        first: The earliest time that nothing was done about.
        now: The moment of looking, not before `first`.
        grace_seconds: How late a time may be dealt with without counting as missed.
    """
    times = islice(chain([first], cron.after(first)), MOST_PASSED)
    passed = list(takewhile(lambda time: time <= now, times))
    latest = passed[-1]
    following = cron.next(latest)
    more = following is not None and following <= now
    late = more or now - latest > timedelta(seconds=grace_seconds)
    return Due(latest, len(passed), late, more, following)


def decide(due: Due, *, misfire: str, overlap: str, unfinished: str | None) -> Decision:
    """Decide what becomes of the latest time that is due.

    Args:
        due: The times.
        misfire, overlap: The schedule's rules.
        unfinished: An unfinished job of the schedule; None if there is none.
    """
    if due.late and (misfire == "skip" or due.more):
        return Decision(Outcome.MISSED, f"nobody was there at the time; {_runs(due.passed)} missed")
    if overlap == "forbid" and unfinished is not None:
        return Decision(Outcome.OVERLAPPED, f"{unfinished} of this schedule is not finished")
    if due.late:
        return Decision(Outcome.FIRED, f"late, once for {_runs(due.passed)} missed")
    earlier = f"; {_runs(due.passed - 1)} before it missed" if due.passed > 1 else ""
    return Decision(Outcome.FIRED, f"on time{earlier}")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
