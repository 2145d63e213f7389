"""Hearing from PostgreSQL which job changed. A trigger says it with each event and each piece of a log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection, sql
from sqlalchemy.engine import make_url

from trsp_jobs.db import CONNECT_SECONDS

CHANNEL = "trsp_jobs"
"""The payload of a notice is the job's id. Notices come after the commit, equal ones of a commit once."""


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[AsyncConnection]:
    """Give a connection that hears every notice from now on.

    Raises:
        psycopg.OperationalError: If the database is away; from the connection too, once it breaks.
    """
    address = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await AsyncConnection.connect(
        address,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name="trsp listener",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )
    async with connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield connection
