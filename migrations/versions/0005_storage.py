"""Memory of jobs, what became of files; the indexes of lists, built while jobs run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.online import add_index, drop_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Columns = Sequence[str | sa.ColumnElement[Any]]

_MODEL: sa.ColumnElement[Any] = sa.literal_column("(spec ->> 'model')")
_ENDED: sa.ColumnElement[Any] = sa.literal_column(
    "COALESCE(finished_at, 'infinity'::timestamp with time zone)"
)
_INDEXES: dict[str, Columns] = {
    "ix_jobs_created_at_id": ["created_at", "id"],
    "ix_jobs_priority_id": ["priority", "id"],
    "ix_jobs_finished_at_id": [_ENDED, "id"],
    "ix_jobs_status_created_at_id": ["status", "created_at", "id"],
    "ix_jobs_model_created_at_id": [_MODEL, "created_at", "id"],
    "ix_jobs_status_priority_id": ["status", "priority", "id"],
    "ix_jobs_status_finished_at_id": ["status", _ENDED, "id"],
    "ix_jobs_owner_created_at_id": ["owner", "created_at", "id"],
    "ix_jobs_owner_priority_id": ["owner", "priority", "id"],
    "ix_jobs_owner_finished_at_id": ["owner", _ENDED, "id"],
    "ix_jobs_owner_status_created_at_id": ["owner", "status", "created_at", "id"],
    "ix_jobs_owner_model_created_at_id": ["owner", _MODEL, "created_at", "id"],
    "ix_jobs_key_id_status": ["key_id", "status"],
}
_FORMER: dict[str, Columns] = {"ix_jobs_model": [_MODEL, "id"], "ix_jobs_status_id": ["status", "id"]}


def upgrade() -> None:
    """Take the step: the indexes first, each by itself and again if it broke off, then the rest at once."""
    with op.get_context().autocommit_block():
        for name, columns in _INDEXES.items():
            add_index(name, "jobs", columns)
        add_index(
            "ix_jobs_schedule_created_at_id",
            "jobs",
            ["schedule_id", "created_at", "id"],
            postgresql_where=sa.text("schedule_id IS NOT NULL"),
        )
        for name in _FORMER:
            drop_index(name, "jobs")
    op.create_table(
        "turns",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_turns")),
    )
    op.add_column("artifacts", sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("files_removed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.get_context().autocommit_block():
        for name, columns in _FORMER.items():
            add_index(name, "jobs", columns)
        for name in (*_INDEXES, "ix_jobs_schedule_created_at_id"):
            drop_index(name, "jobs")
    op.drop_column("jobs", "files_removed_at")
    op.drop_column("jobs", "memory_bytes")
    op.drop_column("artifacts", "missing_since")
    op.drop_table("turns")
