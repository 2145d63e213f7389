"""What one process of a worker holds: settings, database, store. Made after the fork, never shared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore, store_of


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings, and the ways to the database and to the store."""

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtifactStore


def make_runtime(settings: Settings) -> Runtime:
    """Return a runtime; nothing is connected yet."""
    engine = db.make_engine(settings.database_url, pool_size=3)
    return Runtime(settings, db.session_factory(engine), store_of(settings))


@cache
def read_settings() -> Settings:
    """Return the settings of this process, from its environment."""
    return Settings()  # type: ignore[call-arg]
