"""What the routes are given: the process's services and checked path parameters, as Annotated aliases."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import structlog
from fastapi import Depends, Path, Request
from sqlalchemy.orm import Session, sessionmaker

from api.auditing import Audited
from api.errors import ApiError
from trsp_core.config import CompressionSpec
from trsp_core.sources import Lookups
from trsp_jobs import service
from trsp_jobs.callers import Caller
from trsp_jobs.db import OUTAGES, session_scope, statement_scope
from trsp_jobs.dispatch import Dispatcher
from trsp_jobs.download_links import LinkSigner
from trsp_jobs.errors import BrokerUnavailable, JobNotFound, ResourceNotFound
from trsp_jobs.inputs.admission import Admitted, admit
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore

JOB_ID = re.compile(r"job_[0-9a-z]{26}")

log = structlog.get_logger(__name__)


class MissingKey(ValueError):
    """The API is to be started in a way in which nobody could ever come in."""


class Owned(Protocol):
    """What belongs to somebody."""

    @property
    def owner(self) -> str:
        """Whose it is."""


class Bell(Dispatcher, Protocol):
    """A dispatcher that can be asked whether its broker is there."""

    def pending(self) -> int:
        """Return how many rings wait; raises `BrokerUnavailable`."""


@dataclass(frozen=True, slots=True)
class Services:
    """What this process works with, made once at its start.

    Attributes:
        lookups: Models that were looked at, remembered while their files stay the same.
        stopping: Set when the server is told to stop, so that open event streams end.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtifactStore
    dispatcher: Bell
    lookups: Lookups = field(default_factory=Lookups)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def secret(self) -> str:
        """The server's secret.

        Raises:
            MissingKey: If there is none.
        """
        if self.settings.secret is None:
            raise MissingKey(
                "TRSP_SECRET is not set; set it to 32 random characters, such as from `openssl rand -hex 16`."
            )
        return self.settings.secret.get_secret_value()

    @property
    def links(self) -> LinkSigner:
        """What signs links: by the secret, and takes those of the secret before it."""
        former = self.settings.former_secret
        return LinkSigner([*([former.get_secret_value()] if former else []), self.secret])

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Give a session that is committed at its end, with its entry in the audit, before the answer is sent."""
        with session_scope(self.sessions) as session:
            audited = Audited(session)
            yield session
            audited.record()

    def close(self) -> None:
        """Give the connections to the database back."""
        self.sessions.kw["bind"].dispose()

    def admit(self, spec: CompressionSpec, caller: Caller) -> Admitted:
        """Judge a caller's spec without loading anything, and pin its model.

        Raises:
            InputRefused: With every problem found.
        """
        return admit(self.sessions, spec, self.settings, caller, self.lookups.look)

    def ring(self, job_id: str) -> None:
        """Ring the broker for a committed job and note that; what fails here is made good by housekeeping."""
        try:
            self.dispatcher.ring(job_id)
            with statement_scope(self.sessions) as session:
                service.mark_rung(session, job_id)
        except (BrokerUnavailable, *OUTAGES) as error:
            log.warning("the ring was not noted; housekeeping rings again", job_id=job_id, error=str(error))


async def get_services(request: Request) -> Services:
    """Return the services of the application that the request came to."""
    services: Services = request.app.state.services
    return services


async def get_caller(request: Request) -> Caller:
    """Return who sent the request."""
    caller: Caller = request.state.caller
    return caller


ServicesDep = Annotated[Services, Depends(get_services)]
CallerDep = Annotated[Caller, Depends(get_caller)]


def check_job_id(
    job_id: Annotated[str, Path(description="The job's id, `job_…`.")],
    caller: CallerDep,
    services: ServicesDep,
) -> str:
    """Return the id; one that no job has, or that somebody else's has, is no job's."""
    if not JOB_ID.fullmatch(job_id):
        raise JobNotFound(job_id)
    if caller.visible_owner is not None:
        with statement_scope(services.sessions) as session:
            owner = service.owner_of(session, job_id)
        if not caller.sees(owner):
            raise JobNotFound(job_id)
    return job_id


def refuse_foreign(
    services: Services, caller: Caller, kind: str, name: str, find: Callable[[Session], Owned]
) -> None:
    """Refuse what is somebody else's as if it were not there.

    Args:
        kind: What it is, in words.
        name: Its id or name.
        find: Returns it, or raises that it is not there.

    Raises:
        ResourceNotFound: If it is somebody else's.
    """
    if caller.visible_owner is not None:
        with statement_scope(services.sessions) as session:
            owner = find(session).owner
        if not caller.sees(owner):
            raise ResourceNotFound(kind, name)


async def require_json(request: Request) -> None:
    """Refuse a body that does not say that it is JSON."""
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"is {given[:100]!r}" if given else "is missing"
        raise ApiError("unsupported-media-type", f"Content-Type {said}; it must be application/json.")


JobId = Annotated[str, Depends(check_job_id)]
JsonBody = Depends(require_json)
