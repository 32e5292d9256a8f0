"""Licenses and wrapped content keys."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    schema = op.create_table(
        "nnguard_ledger", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
    )
    op.create_table(
        "nnguard_licenses",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("license_id", sa.String(128), nullable=False, unique=True),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("recipient", sa.String(128), nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("stream", sa.String(128), nullable=False),
        sa.Column("content_key_id", sa.String(128), nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("armored", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "nnguard_content_keys",
        sa.Column("content_key_id", sa.String(128), primary_key=True),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(schema, [{"version": 1}])
