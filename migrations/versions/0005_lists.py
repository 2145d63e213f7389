"""Every order of the lists of jobs has an index for each owner and each status."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ENDED = "COALESCE(finished_at, 'infinity'::timestamp with time zone)"
_MODEL = "(spec ->> 'model')"
_INDEXES: dict[str, list[Any]] = {
    "ix_jobs_status_priority_id": ["status", "priority", "id"],
    "ix_jobs_status_finished_at_id": ["status", sa.text(_ENDED), "id"],
    "ix_jobs_owner_created_at_id": ["owner", "created_at", "id"],
    "ix_jobs_owner_priority_id": ["owner", "priority", "id"],
    "ix_jobs_owner_finished_at_id": ["owner", sa.text(_ENDED), "id"],
    "ix_jobs_owner_status_created_at_id": ["owner", "status", "created_at", "id"],
    "ix_jobs_owner_model_created_at_id": ["owner", sa.text(_MODEL), "created_at", "id"],
}
_SCHEDULED = sa.text("schedule_id IS NOT NULL")


def upgrade() -> None:
    """Take the step."""
    for name, columns in _INDEXES.items():
        op.create_index(name, "jobs", columns)
    op.create_index(
        "ix_jobs_schedule_created_at_id",
        "jobs",
        ["schedule_id", "created_at", "id"],
        postgresql_where=_SCHEDULED,
    )
    op.drop_index("ix_jobs_owner_id", table_name="jobs")
    op.drop_index("ix_jobs_schedule", table_name="jobs", postgresql_where=_SCHEDULED)


def downgrade() -> None:
    """Take it back."""
    op.create_index("ix_jobs_schedule", "jobs", ["schedule_id", "id"], postgresql_where=_SCHEDULED)
    op.create_index("ix_jobs_owner_id", "jobs", ["owner", "id"])
    op.drop_index("ix_jobs_schedule_created_at_id", table_name="jobs", postgresql_where=_SCHEDULED)
    for name in _INDEXES:
        op.drop_index(name, table_name="jobs")
