"""More than one channel: legs of a campaign, quotas of providers, accounts that say how they are."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_CHANNELS = "channel IN ('email', 'whatsapp')"
_KINDS = (
    "kind IN ('delivered', 'bounced', 'complained', 'opened', 'clicked', 'unsubscribed', 'requeued', "
    "'resolved', 'paused', 'resumed', 'cancelled', 'paced', 'fell_back')"
)
_STATES = (
    "state IN ('connected', 'disconnected', 'paused', 'initializing', 'scan QR', 'authenticated', 'ready', "
    "'authentication failed', 'logged out', 'banned', 'worker gone')"
)


def upgrade() -> None:
    """Apply this revision."""
    for table, name, words in (("suppressions", "channel", _CHANNELS), ("events", "kind", _KINDS)):
        constraint = op.f(f"{table}_{name}_check")
        op.drop_constraint(constraint, table)
        op.create_check_constraint(constraint, table, words)
    op.add_column("batches", sa.Column("leg", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "attempts", sa.Column("unreachable", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_index(
        op.f("attempts_unreachable_idx"), "attempts", ["campaign_id"], postgresql_where=sa.text("unreachable")
    )
    op.add_column("limits", sa.Column("quota_rate", sa.Double()))
    op.add_column("limits", sa.Column("quota_per_day", sa.Integer()))
    op.create_table(
        "senders_status",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("paused_until", sa.DateTime(timezone=True)),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(_STATES, name=op.f("senders_status_state_check")),
        sa.PrimaryKeyConstraint("owner", name=op.f("senders_status_pkey")),
    )
    op.create_table(
        "service_windows",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "phone", name=op.f("service_windows_pkey")),
    )
    op.create_table(
        "numbers_on_whatsapp",
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("registered", sa.Boolean(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("phone", name=op.f("numbers_on_whatsapp_pkey")),
    )
