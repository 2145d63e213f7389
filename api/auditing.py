"""The audit: a transaction that changes something on a caller's behalf holds the entry that says so.

The route's check of rights notes who does what; whatever transaction then writes takes the note in. No route
has to think of it, and there is neither a change without an entry nor an entry without a change.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, event, insert, select, text
from sqlalchemy.orm import Session

from trsp_jobs.access_models import AuditEntry
from trsp_jobs.callers import Caller

_SUBJECT_CHARACTERS = 200
_AUDIT = AuditEntry.metadata.tables["audit"]
_SAID = ("key_id", "key_name", "owner", "action", "subject", "request_id", "address")
_BEGUN = text("SELECT pg_current_xact_id()")
_WRITTEN = text("pg_current_xact_id_if_assigned() IS NOT NULL")
_RECORD = insert(_AUDIT).from_select(
    _SAID, select(*(bindparam(name, type_=_AUDIT.c[name].type) for name in _SAID)).where(_WRITTEN)
)
"""Writes an entry if the transaction has changed anything."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request that may change something: whose, which route's, of what, under which id, from where."""

    caller: Caller
    action: str
    subject: str
    request_id: str
    address: str


_current: ContextVar[Change | None] = ContextVar("change", default=None)


def begin_change(change: Change) -> None:
    """Note who does what, for the rest of the request."""
    _current.set(change)


def count_as_change(session: Session) -> None:
    """Let a transaction that writes nothing count as one that changes something, so that it is in the audit."""
    session.execute(_BEGUN)


class Audited:
    """Watches one session for what it creates, and writes the audit's entry before it commits."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._change = _current.get()
        self._created: str | None = None
        if self._change is not None:
            event.listen(session, "pending_to_persistent", self._see)

    def _see(self, _: Session, row: Any) -> None:
        """Remember the first row with an id of its own: what the request was to create."""
        if self._created is None and isinstance(getattr(row, "id", None), str):
            self._created = row.id

    def record(self) -> None:
        """Write the entry, if the transaction has changed anything for a caller."""
        if self._change is None:
            return
        self._session.flush()
        self._session.execute(_RECORD, _entry(self._change, self._created))


def _entry(change: Change, created: str | None) -> dict[str, str | None]:
    caller = change.caller
    return {
        "key_id": caller.key_id,
        "key_name": caller.name,
        "owner": caller.owner,
        "action": change.action,
        "subject": (created or change.subject).replace("\0", "")[:_SUBJECT_CHARACTERS],
        "request_id": change.request_id,
        "address": change.address[:45],
    }
