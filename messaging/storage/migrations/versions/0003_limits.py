"""Limits: what a person set, who shares them, the permits dealt, the messages of a day."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "limits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rate", sa.Double()),
        sa.Column("per_day", sa.Integer()),
        sa.PrimaryKeyConstraint("key", name=op.f("limits_pkey")),
    )
    op.drop_column("throttles", "rate")
    for name in ("began_at", "slowed_at", "open_until", "trial_until"):
        op.add_column("throttles", sa.Column(name, sa.DateTime(timezone=True)))
    for name in ("slowed_to", "usual_rate", "open_seconds"):
        op.add_column("throttles", sa.Column(name, sa.Double()))
    for name in ("open_reason", "trial_owner"):
        op.add_column("throttles", sa.Column(name, sa.Text()))
    op.add_column(
        "throttles", sa.Column("failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.create_table(
        "permit_holders",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("wishes", postgresql.JSONB(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("permit_holders_pkey")),
    )
    op.create_table(
        "permit_frames",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("frame", sa.BigInteger(), nullable=False),
        sa.Column("permits", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("account", "frame", name=op.f("permit_frames_pkey")),
    )
    op.create_table(
        "sent_minutes",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "minute", name=op.f("sent_minutes_pkey")),
    )
    op.drop_table("senders_status")
    # A row grows by a third when it is dispatched and answered.
    op.execute("ALTER TABLE attempts SET (fillfactor = 45)")
