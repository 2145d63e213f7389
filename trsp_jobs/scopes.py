"""What a key may do, as names that a request's route asks for."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One right of a key."""

    JOBS_READ = "jobs:read"
    """See jobs, their events, logs, reports and files."""
    JOBS_WRITE = "jobs:write"
    """Create, try out, cancel, retry, publish and delete jobs."""
    SCHEDULES_READ = "schedules:read"
    """See schedules."""
    SCHEDULES_WRITE = "schedules:write"
    """Create, change, run and delete schedules."""
    MODELS_READ = "models:read"
    """See registered models, slots and calibration texts."""
    MODELS_WRITE = "models:write"
    """Register models, upload calibration texts, delete both."""
    WEBHOOKS_READ = "webhooks:read"
    """See webhooks and their deliveries."""
    WEBHOOKS_WRITE = "webhooks:write"
    """Create, change and delete webhooks, redeliver, rotate secrets."""
    KEYS_ADMIN = "keys:admin"
    """Create, list and revoke keys; none can be given a right that its giver lacks."""
    AUDIT_READ = "audit:read"
    """Read who changed what."""
    OWNERS_ALL = "owners:all"
    """All of the above reach the resources of every owner, not only those of the key's own."""


ALL = frozenset(Scope)
DEFAULT = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.MODELS_READ, Scope.SCHEDULES_READ})
"""What a key may do whose maker names nothing: run jobs and look around."""
