"""Imports of any file: what was read and decided, more about contacts, members without foreign keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply this revision."""
    for name in ("phone_type", "phone_region", "country", "language", "consent_text"):
        op.add_column("contacts", sa.Column(name, sa.Text()))
    op.add_column("audiences", sa.Column("spec", postgresql.JSONB()))
    op.add_column("imports", sa.Column("state", sa.Text(), server_default="loaded", nullable=False))
    op.add_column("imports", sa.Column("source", sa.Text(), server_default="", nullable=False))
    for name in ("request", "read_as", "warnings", "summary", "contract"):
        op.add_column("imports", sa.Column(name, postgresql.JSONB()))
    for name in ("new_contacts", "without_consent"):
        op.add_column("imports", sa.Column(name, sa.Integer()))
    op.add_column("imports", sa.Column("seconds", sa.Double()))
    # `columns` says which of them became attributes.
    op.drop_column("imports", "attributes")
    op.alter_column("imports", "columns", server_default=sa.text("'[]'::jsonb"))
    for name in ("rows", "imported", "refused", "duplicates"):
        op.alter_column("imports", name, server_default=sa.text("0"))
    op.create_check_constraint(
        op.f("imports_state_check"), "imports", "state IN ('loaded', 'stopped', 'repeated')"
    )
    op.create_index("imports_audience_id_idx", "imports", ["audience_id"])
    for column in ("audience_id", "contact_id", "import_id"):
        op.drop_constraint(op.f(f"audience_members_{column}_fkey"), "audience_members", type_="foreignkey")
    op.drop_index("audience_members_contact_id_idx", "audience_members")
    # Objects merged key by key, the last one wins: `||` over many.
    op.execute("CREATE AGGREGATE jsonb_merged (jsonb) (SFUNC = jsonb_concat, STYPE = jsonb)")
