"""Times by cron in a time zone.

A clock that is set forward skips local times: a job at such a time runs at the first moment after the gap. A
clock that is set back repeats local times: a job at a fixed hour runs the first time only, one with `*` or
`*/N` for its minute or hour runs in both. So does Debian's cron, which cronsim follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from trsp_core.errors import InvalidSpec, Problem, closest

FIELDS = 5
LONGEST = 100
PREVIEWED = 5
_FORM = "five fields: minute, hour, day of month, month, day of week, such as 0 3 * * MON"


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression read in an IANA time zone; both are checked when it is made.

    Raises:
        InvalidSpec: With a problem at `/cron`, at `/zone`, or at both.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        found = (*_zone_problems(self.zone), *_cron_problems(self.expression))
        if found:
            raise InvalidSpec(*found)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the times after a moment, ascending, each once, in UTC.

        Args:
            moment: A time with a zone.
        """
        latest = moment.astimezone(UTC)
        for found in CronSim(self.expression, latest.astimezone(ZoneInfo(self.zone))):
            time = found.astimezone(UTC)
            if time > latest:
                yield time
                latest = time

    def next(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment; None if there is none within 50 years."""
        return next(self.after(moment), None)

    def preview(self, moment: datetime) -> list[datetime]:
        """Return the next `PREVIEWED` times after a moment."""
        return list(islice(self.after(moment), PREVIEWED))


@cache
def _known_zones() -> frozenset[str]:
    """Return the zones of this machine; looking for them reads hundreds of files."""
    return frozenset(available_timezones())


def _zone_problems(zone: str) -> tuple[Problem, ...]:
    known = _known_zones()
    if zone in known:
        return ()
    message = f"is {zone[:80]!r}, which is no IANA time zone; give one such as UTC or Europe/Berlin."
    guess = {name.lower(): name for name in known}.get(closest(zone[:80], map(str.lower, known)) or "")
    return (Problem("/zone", message, zone[:80], "an IANA time zone", guess),)


def _cron_problems(expression: str) -> tuple[Problem, ...]:
    shown = expression[:LONGEST]
    if len(expression) > LONGEST or not expression.isascii() or len(expression.split()) != FIELDS:
        return (Problem("/cron", f"is {shown!r}; it must have {_FORM}.", shown, _FORM),)
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        return (Problem("/cron", f"is {shown!r}; its {wrong} cannot be read: give {_FORM}.", shown, _FORM),)
    if next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
        return (Problem("/cron", f"is {shown!r}, which names no time within 50 years.", shown, _FORM),)
    return ()
