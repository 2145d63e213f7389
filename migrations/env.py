"""Runs the migrations: from the command line on `TRSP_DATABASE_URL`, or from code on the URL it is given."""

from __future__ import annotations

import os
import time

from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from trsp_jobs import access_models, log_pieces, stored_answers, webhook_models
from trsp_jobs.db import UPGRADE_TRIES
from trsp_jobs.inputs import rows as input_rows
from trsp_jobs.models import Base
from trsp_jobs.schedules import rows as schedule_rows
from trsp_jobs.slots import rows as slot_rows

TABLES = (access_models, input_rows, log_pieces, schedule_rows, slot_rows, stored_answers, webhook_models)
"""Imported so that `Base` knows their tables."""

_LOCK = 7_385_209_174
"""Key of the advisory lock that makes several callers wait for one another."""
LOCK_TIMEOUT = "1s"
"""How long a step waits for a table: behind it, whoever wants the table waits too, each worker among them."""
PAUSE_SECONDS = 1.0
"""Between two tries: time for those who waited behind the last one."""
_LOOK_SECONDS = 0.2


def database_url() -> str:
    """Return the database that is meant.

    Raises:
        SystemExit: If none was given.
    """
    url = context.config.attributes.get("url") or os.environ.get("TRSP_DATABASE_URL")
    if not url:
        raise SystemExit("set TRSP_DATABASE_URL to postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE")
    return str(url)


def migrate() -> None:
    """Run the steps, each in a transaction of its own, while others wait until all are done.

    A step that does not get its locks at once gives way to the jobs that run, and is tried again.

    Raises:
        sqlalchemy.exc.OperationalError: If somebody holds a table through every try.
    """
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        _take_turn(connection)
        for left in reversed(range(context.config.attributes.get("tries", UPGRADE_TRIES))):
            try:
                _run(connection)
                return
            except OperationalError as error:
                if not isinstance(error.orig, LockNotAvailable) or not left:
                    raise
                connection.rollback()
                time.sleep(PAUSE_SECONDS)


def _take_turn(connection: Connection) -> None:
    """Wait until no other process migrates; asking again and again holds nothing up that they wait for."""
    taking = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.scalar(taking, {"key": _LOCK}):
        connection.rollback()
        time.sleep(_LOOK_SECONDS)
    connection.execute(text("SELECT set_config('lock_timeout', :limit, false)"), {"limit": LOCK_TIMEOUT})
    connection.commit()


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def print_sql() -> None:
    """Print the steps as SQL, for `alembic upgrade --sql`."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        transactional_ddl=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
else:
    migrate()
