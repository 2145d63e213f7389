"""Which right a route asks for: one table by tag, so that a new route is covered by what it is filed under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from api.auditing import Change, begin_change
from api.errors import ApiError, request_id
from trsp_jobs.callers import Caller
from trsp_jobs.scopes import Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a tag's routes ask for, to read and to change; None where any valid key will do."""

    read: Scope | None
    write: Scope | None


_JOBS = Rule(Scope.JOBS_READ, Scope.JOBS_WRITE)
_MODELS = Rule(Scope.MODELS_READ, Scope.MODELS_WRITE)
_SCHEDULES = Rule(Scope.SCHEDULES_READ, Scope.SCHEDULES_WRITE)

RULES: Mapping[str, Rule] = {
    "jobs": _JOBS,
    "compare": _JOBS,
    "events": _JOBS,
    "files": _JOBS,
    "links": Rule(None, None),
    "dashboard": _JOBS,
    "schedules": _SCHEDULES,
    "models": _MODELS,
    "slots": _MODELS,
    "calibration-sets": _MODELS,
    "webhooks": Rule(Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE),
    "keys": Rule(Scope.KEYS_ADMIN, Scope.KEYS_ADMIN),
    "audit": Rule(Scope.AUDIT_READ, Scope.AUDIT_READ),
    "usage": Rule(None, None),
    "system": Rule(None, None),
    "session": Rule(None, None),
}


def required_scope(tag: str, method: str) -> Scope | None:
    """Return the right that a tag's routes ask for.

    Raises:
        ApiError: If the tag has no rule: what nobody thought of is refused.
    """
    rule = RULES.get(tag)
    if rule is None:
        raise ApiError("forbidden", f"The tag {tag!r} has no rule in api.access.RULES.")
    return rule.read if method in SAFE_METHODS else rule.write


async def authorize(request: Request) -> None:
    """Refuse a caller whose key lacks the route's right; note who makes a change, for the audit."""
    caller: Caller | None = getattr(request.state, "caller", None)
    route = request.scope["route"]
    tag = next(iter(route.tags), "")
    scope = required_scope(tag, request.method)
    if caller is None:
        return
    if scope is not None and not caller.may(scope):
        raise ApiError("forbidden", f"The key {caller.name!r} lacks the right {scope}.")
    if request.method not in SAFE_METHODS:
        begin_change(_change(request, caller, f"{tag}.{route.name}"))


def _change(request: Request, caller: Caller, action: str) -> Change:
    names = list(request.path_params.values())
    subject = str(names[-1]) if names else request.url.path
    address = request.client.host if request.client else ""
    return Change(caller, action, subject, request_id(request.scope), address)
