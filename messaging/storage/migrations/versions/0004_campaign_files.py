"""Files that campaigns attach, and what is decided about a campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "campaign_files",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
            name=op.f("campaign_files_campaign_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("campaign_id", "position", name=op.f("campaign_files_pkey")),
    )
    op.add_column("events", sa.Column("campaign_id", sa.BigInteger()))
    op.create_foreign_key(
        op.f("events_campaign_id_fkey"), "events", "campaigns", ["campaign_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(
        "events_campaign_id_idx",
        "events",
        ["campaign_id"],
        postgresql_where=sa.text("campaign_id IS NOT NULL"),
    )
    op.drop_constraint(op.f("events_kind_check"), "events", type_="check")
    op.create_check_constraint(
        op.f("events_kind_check"),
        "events",
        "kind IN ('delivered', 'bounced', 'complained', 'opened', 'clicked', 'unsubscribed', 'requeued', "
        "'resolved', 'paused', 'resumed', 'cancelled', 'paced')",
    )
