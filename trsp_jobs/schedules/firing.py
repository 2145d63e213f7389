"""Times become jobs. Any number of callers may do this at once; each time is dealt with once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused
from trsp_jobs import db, key_repository, webhook_repository
from trsp_jobs.callers import Caller
from trsp_jobs.errors import Conflict, QuotaExceeded
from trsp_jobs.inputs.admission import admit
from trsp_jobs.models import Job
from trsp_jobs.schedules import repository
from trsp_jobs.schedules.editing import cron_of, get_schedule
from trsp_jobs.schedules.policy import Decision, Outcome, decide, look
from trsp_jobs.schedules.rows import Fire, Schedule
from trsp_jobs.service.submission import submit
from trsp_jobs.settings import Settings

log = structlog.get_logger(__name__)

_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """A schedule's job spec, tried against what is allowed and there at the moment.

    Attributes:
        spec: The spec with its model pinned; None if it was refused.
        reason: Why it was refused.
        problems: What is wrong with it.
        memory_bytes: Least memory that a worker must have for it; None where nobody estimated it.
    """

    spec: CompressionSpec | None
    reason: str = ""
    problems: Sequence[Mapping[str, Any]] = field(default_factory=list)
    memory_bytes: int | None = None


def judge(sessions: sessionmaker[Session], schedule: Schedule, settings: Settings) -> Judged:
    """Try a schedule's job spec. It may take long, since a model may have to be fetched: nothing is locked."""
    try:
        with db.session_scope(sessions) as session:
            caller = holder_of(session, schedule)
        found = admit(sessions, CompressionSpec.from_dict(schedule.spec), settings, caller)
        return Judged(found.spec, memory_bytes=found.preflight.least_memory_bytes)
    except KeyEnded as error:
        return Judged(None, str(error))
    except InputRefused as error:
        return _refusal(error)
    except db.OUTAGES:
        raise
    except Exception as error:
        log.exception("a schedule's job spec could not be checked", schedule=schedule.id)
        return Judged(None, f"it could not be checked: {type(error).__name__}")


def _refusal(error: InputRefused) -> Judged:
    return Judged(None, str(error), [problem.to_dict() for problem in error.problems])


class KeyEnded(Conflict):
    """The key that a schedule's jobs count for lets nobody in any more."""


def holder_of(session: Session, schedule: Schedule) -> Caller:
    """Return in whose name a schedule's jobs are made: its owner's, on the key that said its terms last.

    Raises:
        KeyEnded: If that key was revoked or has expired.
    """
    ended = None if schedule.key_id is None else key_repository.why_ended(session, schedule.key_id)
    if ended is not None:
        raise KeyEnded(f"the key that it was made with {ended}; change it with another key")
    return Caller(schedule.key_id, schedule.name, schedule.owner, frozenset())


def tick(sessions: sessionmaker[Session], settings: Settings) -> list[Fire]:
    """Deal with every time that has come; the caller rings for the jobs that were made.

    A time's outcome, its job and the schedule's next time are one transaction, which holds only if the
    schedule is as it was judged.

    Returns:
        What came of each time that this call dealt with.
    """
    with db.session_scope(sessions) as session:
        due = repository.due_schedules(session)
    fires = []
    for schedule in due:
        judged = judge(sessions, schedule, settings)
        with db.session_scope(sessions) as session:
            locked = repository.lock_due(session, schedule)
            if locked is not None:
                fires.append(_deal_with(session, locked, judged, settings))
    return fires


def _deal_with(session: Session, schedule: Schedule, judged: Judged, settings: Settings) -> Fire:
    now = repository.now(session)
    due = look(cron_of(schedule), schedule.next_fire_at or now, now, settings.misfire_seconds)
    decision = decide(
        due,
        misfire=schedule.misfire,
        overlap=schedule.overlap,
        unfinished=repository.unfinished_job(session, schedule.id),
    )
    schedule.next_fire_at = due.following
    schedule.version += 1
    return _carry_out(session, schedule, due.latest, decision, judged, settings)


def run_now(
    session: Session,
    schedule_id: str,
    spec: CompressionSpec,
    settings: Settings,
    *,
    version: int,
    memory_bytes: int | None = None,
) -> Fire:
    """Make a job of a schedule at once, suspended or not; its times stay as they are.

    Args:
        session: An open transaction.
        schedule_id: The schedule.
        spec: Its job spec, tried, with its model pinned.
        settings: The operator's.
        version: The schedule's version when its spec was read.
        memory_bytes: Least memory that a worker must have for the job.

    Raises:
        ResourceNotFound: If there is no such schedule.
        Conflict: If a run is not finished and the schedule forbids two, or it was changed meanwhile.
    """
    get_schedule(session, schedule_id)
    schedule = repository.get_schedule(session, schedule_id, lock=True)
    if schedule is None or schedule.version != version:
        raise Conflict("the schedule was changed at this moment; ask again")
    unfinished = repository.unfinished_job(session, schedule_id)
    if schedule.overlap == "forbid" and unfinished is not None:
        raise Conflict(f"{unfinished} of this schedule is not finished; cancel it, or set overlap to allow")
    by_hand = Decision(Outcome.FIRED, "run on request")
    judged = Judged(spec, memory_bytes=memory_bytes)
    return _carry_out(session, schedule, repository.now(session), by_hand, judged, settings, by_hand=True)


def _carry_out(
    session: Session,
    schedule: Schedule,
    fire_at: datetime,
    decision: Decision,
    judged: Judged,
    settings: Settings,
    *,
    by_hand: bool = False,
) -> Fire:
    """Write what comes of a time, and make its job if it is to be made and its spec holds."""
    fire = Fire(schedule_id=schedule.id, fire_at=fire_at, by_hand=by_hand)
    fire.outcome, fire.reason, fire.problems = decision.outcome, decision.reason, []
    if decision.outcome == Outcome.FIRED:
        made = _make_job(session, schedule, judged, settings)
        if isinstance(made, Judged):
            fire.outcome, fire.problems = Outcome.FAILED, [dict(item) for item in made.problems]
            fire.reason = f"no job could be made: {made.reason}"[:_REASON_CHARACTERS]
        else:
            fire.job_id = made.id
    session.add(fire)
    session.flush()
    return fire


def _make_job(session: Session, schedule: Schedule, judged: Judged, settings: Settings) -> Job | Judged:
    """Make the job; where its spec does not hold, or ceased to hold since it was judged, return why."""
    if judged.spec is None:
        return judged
    try:
        with session.begin_nested():
            return submit(
                session,
                judged.spec,
                **_still_there(session, schedule.options),
                schedule_id=schedule.id,
                memory_bytes=judged.memory_bytes,
                caller=holder_of(session, schedule),
                settings=settings,
            )
    except InputRefused as error:
        return _refusal(error)
    except (KeyEnded, QuotaExceeded) as error:
        return Judged(None, str(error))


def _still_there(session: Session, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schedule's options without a webhook that has been deleted: nobody waits for it any more."""
    webhook = options.get("webhook")
    known = webhook is None or webhook_repository.get_webhook(session, webhook) is not None
    return {**options, "webhook": webhook if known else None}
