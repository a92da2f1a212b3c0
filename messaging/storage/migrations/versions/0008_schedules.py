"""Campaigns that start by themselves: due times, schedules, who sends now, what people are told of."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"

_KINDS = (
    "kind IN ('delivered', 'bounced', 'complained', 'opened', 'clicked', 'unsubscribed', 'sent', 'delayed', "
    "'failed', 'auto-replied', 'challenged', 'drafted', 'approved', 'scheduled', 'started', 'finished', "
    "'requeued', 'resolved', 'paused', 'resumed', 'cancelled', 'paced', 'fell_back')"
)
_ALERTS = "kind IN ('finished', 'paused', 'late', 'skipped', 'approval', 'crashed', 'account paused')"


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    """Apply this revision."""
    constraint = op.f("events_kind_check")
    op.drop_constraint(constraint, "events")
    op.create_check_constraint(constraint, "events", _KINDS)
    op.create_table(
        "schedules",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("state_reason", sa.Text()),
        _time("next_at"),
        _now("created_at"),
        sa.CheckConstraint("state IN ('active', 'paused', 'ended')", name=op.f("schedules_state_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("schedules_pkey")),
        sa.UniqueConstraint("name", name=op.f("schedules_name_key")),
    )
    op.add_column("campaigns", _time("due_at"))
    op.add_column("campaigns", sa.Column("schedule_id", sa.BigInteger()))
    op.add_column("campaigns", _time("scheduled_for"))
    op.add_column("campaigns", _count("starts"))
    op.alter_column("campaigns", "planned_at", nullable=True, server_default=None)
    op.create_foreign_key(
        op.f("campaigns_schedule_id_fkey"),
        "campaigns",
        "schedules",
        ["schedule_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_unique_constraint(
        op.f("campaigns_schedule_id_scheduled_for_key"), "campaigns", ["schedule_id", "scheduled_for"]
    )
    op.create_index(
        op.f("campaigns_unfinished_idx"),
        "campaigns",
        ["state"],
        postgresql_where=sa.text("state NOT IN ('finished', 'cancelled')"),
    )
    op.add_column("batches", sa.Column("time_zone", sa.Text()))
    op.add_column("batches", _time("not_before"))
    op.create_table(
        "campaign_runs",
        _id(),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("flow_run_id", sa.Uuid()),
        _now("started_at"),
        _now("seen_at"),
        _time("ended_at"),
        sa.Column("ended_as", sa.Text()),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("campaign_runs_campaign_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("campaign_runs_pkey")),
    )
    op.create_index(
        op.f("campaign_runs_open_idx"),
        "campaign_runs",
        ["campaign_id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "alerts",
        _id(),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger()),
        sa.Column("account", sa.Text()),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("link", sa.Text()),
        _now("raised_at"),
        _time("told_at"),
        _count("tries"),
        sa.Column("told", JSONB(), server_default="[]", nullable=False),
        sa.CheckConstraint(_ALERTS, name=op.f("alerts_kind_check")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("alerts_campaign_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("alerts_pkey")),
    )
    op.create_index(op.f("alerts_untold_idx"), "alerts", ["id"], postgresql_where=sa.text("told_at IS NULL"))
    op.create_table(
        "installation",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("system_identifier", sa.Text(), nullable=False),
        sa.Column("database_oid", sa.BigInteger(), nullable=False),
        _now("noted_at"),
        sa.CheckConstraint("id = 1", name=op.f("installation_id_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("installation_pkey")),
    )
