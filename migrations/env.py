"""Runs the migrations: from the command line on `TRSP_DATABASE_URL`, or from code on the URL it is given."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import create_engine, pool, text

from trsp_jobs import access_models, log_pieces, stored_answers, webhook_models
from trsp_jobs.inputs import rows as input_rows
from trsp_jobs.models import Base
from trsp_jobs.schedules import rows as schedule_rows
from trsp_jobs.slots import rows as slot_rows

TABLES = (access_models, input_rows, log_pieces, schedule_rows, slot_rows, stored_answers, webhook_models)
"""Imported so that `Base` knows their tables."""

_LOCK = 7_385_209_174
"""Key of the advisory lock that makes several callers wait for one another."""


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
    """Run the steps in one transaction on a connection of their own."""
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            context.run_migrations()


def print_sql() -> None:
    """Print the steps as SQL, for `alembic upgrade --sql`."""
    context.configure(
        dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
else:
    migrate()
