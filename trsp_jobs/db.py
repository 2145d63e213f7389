"""The way to the database: engine, session scope, migrations. Commit or roll back once, at the edge."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from psycopg.errors import DeadlockDetected
from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.orm import Session, sessionmaker

OUTAGES = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
"""What SQLAlchemy raises while the database is away, restarts, or is too busy: trying again may help."""

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
UPGRADE_TRIES = 60


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine whose connections are looked at before use and whose statements cannot hang.

    A caller waits at most `CONNECT_SECONDS` for a connection and `STATEMENT_SECONDS` for an answer.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        pool_timeout=CONNECT_SECONDS,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "trsp",
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    )
    event.listen(engine, "checkout", _refuse_ended)
    return engine


def _refuse_ended(connection: Any, *_: Any) -> None:
    """Let the pool replace a connection that the server has ended: then, and only then, something can be read.

    A server says goodbye or closes when it ends a connection, and one that is silent is found by keepalives;
    so this tells what a question to the server would, without the way there and back.

    Raises:
        InvalidatePoolError: For this connection and all that are as old.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        raise exc.InvalidatePoolError


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return a maker of sessions whose objects stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


def is_deadlock(error: exc.DBAPIError) -> bool:
    """Tell whether the database ended a transaction because others waited for it in a circle: try it again."""
    return isinstance(error.orig, DeadlockDetected)


@contextmanager
def session_scope(factory: sessionmaker[Session]) -> Iterator[Session]:
    """Give a session; commit it at the end, or roll it back if an error passes through."""
    with factory() as session, session.begin():
        yield session


@contextmanager
def statement_scope(factory: sessionmaker[Session]) -> Iterator[Session]:
    """Give a session in which each statement is a transaction of its own: for reads, and for single writes.

    It spares the way to the database and back for the transaction's begin and for its end.
    """
    engine = factory.kw["bind"].execution_options(isolation_level="AUTOCOMMIT")
    with factory(bind=engine) as session:
        yield session


def alembic_config(url: str, **attributes: object) -> Config:
    """Return Alembic's configuration for the migrations of this installation."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes.update(attributes, url=url)
    return config


def upgrade(url: str, revision: str = "head", *, tries: int = UPGRADE_TRIES) -> None:
    """Bring the database to a revision, also while jobs run; several callers at once wait for one another.

    Args:
        url: The database.
        revision: The revision.
        tries: How often a step asks for its locks, about two seconds apart, before it gives up.

    Raises:
        sqlalchemy.exc.OperationalError: If it gave up; steps that were done stay.
    """
    command.upgrade(alembic_config(url, tries=tries), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database back to a revision; `base` removes everything."""
    command.downgrade(alembic_config(url), revision)
