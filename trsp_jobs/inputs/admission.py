"""Whether a job spec may become a job: its model is named and pinned, its texts are there, the rest holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_core.preflight import Preflight, preflight
from trsp_core.sources import Looked, SourcePolicy, look
from trsp_jobs import db
from trsp_jobs.callers import Caller
from trsp_jobs.inputs import calibration_sets, registered_models
from trsp_jobs.settings import Settings, source_policy


@dataclass(frozen=True, slots=True)
class Admitted:
    """A spec that may become a job, with its model pinned, and what was found out about it."""

    spec: CompressionSpec
    preflight: Preflight


def admit(
    sessions: sessionmaker[Session],
    spec: CompressionSpec,
    settings: Settings,
    caller: Caller,
    looking: Callable[[str, SourcePolicy], Looked] = look,
) -> Admitted:
    """Check a spec against what is allowed and there now. It may take long: a model may have to be fetched.

    Args:
        sessions: The way to the database.
        spec: The job spec.
        settings: The operator's.
        caller: Whose job it will be: it may use its owner's texts and models.
        looking: Finds and inspects the model.

    Raises:
        InputRefused: With every problem found.
    """
    with db.statement_scope(sessions) as session:
        pinned = registered_models.pin(
            session, spec, caller.shared_owners, only_registered=settings.registered_models_only
        )
        uploads = calibration_sets.usable(session, spec, caller.owner)
    found = preflight(pinned.spec, replace(source_policy(settings), uploads=uploads), looking)
    registered_models.check_revision(pinned, found.facts)
    return Admitted(pinned.spec, found)
