"""Steps that a table in use bears: no lock is waited for long, and none is held long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op


def add_index(name: str, table: str, columns: Sequence[str | sa.ColumnElement[Any]], **options: Any) -> None:
    """Build an index while the table is written to; one that is there whole is kept.

    What an earlier try left broken is removed first. It must run outside of a transaction.
    """
    if not op.get_context().as_sql and _is_broken(name):
        drop_index(name, table)
    op.create_index(name, table, [*columns], if_not_exists=True, postgresql_concurrently=True, **options)


def drop_index(name: str, table: str) -> None:
    """Remove an index while the table is written to; one that is not there is no error."""
    op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)


def _is_broken(name: str) -> bool:
    query = sa.text("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool(op.get_bind().scalar(query, {"name": name}))
