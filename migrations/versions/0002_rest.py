"""Live logs and notices, stored answers, what an attempt left. The indexes of lists are made by 0005."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOTIFY = """
CREATE FUNCTION trsp_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('trsp_jobs', NEW.job_id);
    RETURN NULL;
END
$$
"""
_TOLD = ("events", "log_pieces")


def upgrade() -> None:
    """Take the step."""
    op.add_column("jobs", sa.Column("fresh_after", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("cloned_from", sa.String(length=30), nullable=True))
    op.add_column("attempts", sa.Column("checkpoint", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_table(
        "log_pieces",
        sa.Column("job_id", sa.String(length=30), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_log_pieces_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "start", name=op.f("pk_log_pieces")),
    )
    op.create_table(
        "stored_answers",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("location", sa.String(length=500), nullable=True),
        sa.Column("body", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_stored_answers")),
    )
    op.create_index(op.f("ix_stored_answers_at"), "stored_answers", ["at"])
    op.execute(_NOTIFY)
    for table in _TOLD:
        op.execute(
            f"CREATE TRIGGER trsp_notify AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION trsp_notify()"
        )


def downgrade() -> None:
    """Take it back."""
    for table in _TOLD:
        op.execute(f"DROP TRIGGER trsp_notify ON {table}")
    op.execute("DROP FUNCTION trsp_notify()")
    op.drop_table("stored_answers")
    op.drop_table("log_pieces")
    op.drop_column("attempts", "checkpoint")
    op.drop_column("jobs", "cloned_from")
    op.drop_column("jobs", "fresh_after")
