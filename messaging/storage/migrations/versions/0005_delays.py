"""Turns that were put off for a reason which is not the recipient's are counted apart."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply this revision."""
    op.add_column(
        "attempts", sa.Column("delays", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
