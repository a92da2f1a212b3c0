"""What comes back: raw mails, readings, links that are signed, opt-outs of one audience."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"

_KINDS = (
    "kind IN ('delivered', 'bounced', 'complained', 'opened', 'clicked', 'unsubscribed', 'sent', 'delayed', "
    "'failed', 'auto-replied', 'challenged', 'requeued', 'resolved', 'paused', 'resumed', 'cancelled', "
    "'paced', 'fell_back')"
)
_CHANNELS = "channel IN ('email', 'whatsapp')"
_VERDICTS = "verdict IN ('takes mail', 'no such domain', 'no mail server', 'takes no mail', 'unknown')"


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _zero(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)


def _empty(name: str) -> sa.Column[Any]:
    return sa.Column(name, JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False)


def upgrade() -> None:
    """Apply this revision."""
    constraint = op.f("events_kind_check")
    op.drop_constraint(constraint, "events")
    op.create_check_constraint(constraint, "events", _KINDS)
    op.add_column("suppressions", sa.Column("lifted_by", sa.Text()))
    op.add_column("suppressions", sa.Column("given_back_at", sa.DateTime(timezone=True)))
    op.create_index(op.f("attempts_token_idx"), "attempts", ["token"])
    op.create_index(
        op.f("events_unmatched_idx"),
        "events",
        ["id"],
        postgresql_where=sa.text("attempt_id IS NULL AND campaign_id IS NULL"),
    )
    op.create_table(
        "audience_opt_outs",
        sa.Column("audience_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        _now("created_at"),
        sa.CheckConstraint(_CHANNELS, name=op.f("audience_opt_outs_channel_check")),
        sa.PrimaryKeyConstraint("audience_id", "channel", "address_key", name=op.f("audience_opt_outs_pkey")),
    )
    op.create_table(
        "returned_mails",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        _empty("findings"),
        _empty("notes"),
        _now("received_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("returned_mails_pkey")),
        sa.UniqueConstraint("sha256", name=op.f("returned_mails_sha256_key")),
    )
    op.create_index(op.f("returned_mails_received_at_idx"), "returned_mails", ["received_at"])
    op.create_table(
        "mailbox_positions",
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("uid_validity", sa.BigInteger(), nullable=False),
        sa.Column("last_uid", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", "folder", name=op.f("mailbox_positions_pkey")),
    )
    op.create_table(
        "feedback_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        _now("started_at"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        _zero("seen"),
        _zero("recorded"),
        _zero("repeated"),
        _zero("unmatched"),
        _zero("suppressed"),
        _zero("set_aside"),
        sa.Column("problem", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("feedback_runs_pkey")),
    )
    op.create_index(op.f("feedback_runs_source_idx"), "feedback_runs", ["source", "id"])
    op.create_table(
        "link_keys",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        _now("created_at"),
        sa.CheckConstraint("id BETWEEN 1 AND 255", name=op.f("link_keys_id_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("link_keys_pkey")),
    )
    op.create_table(
        "sns_topics",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("subscribe_url", sa.Text(), nullable=False),
        _now("asked_at"),
        sa.Column("confirmed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("topic", name=op.f("sns_topics_pkey")),
    )
    op.create_table(
        "mail_domains",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        _now("checked_at"),
        sa.CheckConstraint(_VERDICTS, name=op.f("mail_domains_verdict_check")),
        sa.PrimaryKeyConstraint("domain", name=op.f("mail_domains_pkey")),
    )
    op.alter_column("campaigns", "audience_id", existing_type=sa.BigInteger(), nullable=True)
    op.create_table(
        "reached_people",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", "phone", name=op.f("reached_people_pkey")),
    )
