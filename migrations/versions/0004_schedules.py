"""Schedules, slots, registered models, calibration sets. The index on jobs is made by 0005."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "calibration_sets",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_by", sa.String(length=64), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('text', 'jsonl', 'parquet')", name=op.f("ck_calibration_sets_kind_known")
        ),
        sa.CheckConstraint(
            "(deleted_at IS NULL) = (deleted_by IS NULL)", name=op.f("ck_calibration_sets_deletion_whole")
        ),
        sa.CheckConstraint(
            "erased_at IS NULL OR deleted_at IS NOT NULL",
            name=op.f("ck_calibration_sets_erased_after_deletion"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration_sets")),
    )
    op.create_index(
        "uq_calibration_sets_content",
        "calibration_sets",
        ["owner", "sha256", "kind"],
        unique=True,
        postgresql_where=sa.text("stored_at IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "registered_models",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("reference", sa.String(length=1200), nullable=False),
        sa.Column("revision", sa.String(length=128), nullable=False),
        sa.Column("model_type", sa.String(length=100), nullable=False),
        sa.Column("layers", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column(
            "registered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_registered_models")),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=30), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cron", sa.String(length=100), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("misfire", sa.String(length=8), nullable=False),
        sa.Column("overlap", sa.String(length=6), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("spec", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("options", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("next_fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("misfire IN ('skip', 'run_once')", name=op.f("ck_schedules_misfire_known")),
        sa.CheckConstraint("overlap IN ('forbid', 'allow')", name=op.f("ck_schedules_overlap_known")),
        sa.CheckConstraint(
            "NOT suspended OR next_fire_at IS NULL", name=op.f("ck_schedules_suspended_rests")
        ),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_schedules_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_index(op.f("ix_schedules_owner"), "schedules", ["owner"], unique=False)
    op.create_index(
        "ix_schedules_due",
        "schedules",
        ["next_fire_at"],
        unique=False,
        postgresql_where=sa.text("next_fire_at IS NOT NULL"),
    )
    op.create_table(
        "slots",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_slots")),
    )
    op.create_table(
        "calibration_uses",
        sa.Column("set_id", sa.String(length=30), nullable=False),
        sa.Column("job_id", sa.String(length=30), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["set_id"], ["calibration_sets.id"], name=op.f("fk_calibration_uses_set_id")),
        sa.PrimaryKeyConstraint("set_id", "job_id", name=op.f("pk_calibration_uses")),
    )
    op.create_table(
        "publications",
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.String(length=30), nullable=False),
        sa.Column("figures", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_publications_job_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["slot"], ["slots.name"], name=op.f("fk_publications_slot"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slot", "place", name=op.f("pk_publications")),
    )
    op.create_index(op.f("ix_publications_job_id"), "publications", ["job_id"], unique=False)
    op.create_table(
        "schedule_fires",
        sa.Column("schedule_id", sa.String(length=30), nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.String(length=30), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("problems", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('fired', 'missed', 'overlapped', 'failed')",
            name=op.f("ck_schedule_fires_outcome_known"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_schedule_fires_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_fires_schedule_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name=op.f("pk_schedule_fires")),
    )
    op.create_index(op.f("ix_schedule_fires_job_id"), "schedule_fires", ["job_id"], unique=False)
    op.create_table(
        "slot_decisions",
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("decision", sa.String(length=12), nullable=False),
        sa.Column("job_id", sa.String(length=30), nullable=False),
        sa.Column("current_job", sa.String(length=30), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("comparison", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("decided_by", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision IN ('published', 'rejected', 'rolled_back')",
            name=op.f("ck_slot_decisions_decision_known"),
        ),
        sa.ForeignKeyConstraint(
            ["slot"], ["slots.name"], name=op.f("fk_slot_decisions_slot"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slot", "number", name=op.f("pk_slot_decisions")),
    )
    op.create_table(
        "token_counts",
        sa.Column("set_id", sa.String(length=30), nullable=False),
        sa.Column("revision", sa.String(length=128), nullable=False),
        sa.Column("field", sa.String(length=200), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("characters", sa.BigInteger(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["set_id"], ["calibration_sets.id"], name=op.f("fk_token_counts_set_id")),
        sa.PrimaryKeyConstraint("set_id", "revision", "field", name=op.f("pk_token_counts")),
    )
    op.add_column("jobs", sa.Column("schedule_id", sa.String(length=30), nullable=True))
    op.add_column(
        "jobs",
        sa.Column("publish", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_column("jobs", "publish")
    op.drop_column("jobs", "schedule_id")
    op.drop_table("token_counts")
    op.drop_table("slot_decisions")
    op.drop_index(op.f("ix_schedule_fires_job_id"), table_name="schedule_fires")
    op.drop_table("schedule_fires")
    op.drop_index(op.f("ix_publications_job_id"), table_name="publications")
    op.drop_table("publications")
    op.drop_table("calibration_uses")
    op.drop_table("slots")
    op.drop_index(
        "ix_schedules_due", table_name="schedules", postgresql_where=sa.text("next_fire_at IS NOT NULL")
    )
    op.drop_index(op.f("ix_schedules_owner"), table_name="schedules")
    op.drop_table("schedules")
    op.drop_table("registered_models")
    op.drop_index(
        "uq_calibration_sets_content",
        table_name="calibration_sets",
        postgresql_where=sa.text("stored_at IS NOT NULL AND deleted_at IS NULL"),
    )
    op.drop_table("calibration_sets")
