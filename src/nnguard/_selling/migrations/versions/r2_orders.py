"""Products, orders and their seats; the audit log; what a license server needs."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the tables."""
    op.create_index("nnguard_licenses_issued", "nnguard_licenses", ["issued_at", "number"])
    op.create_index("nnguard_licenses_revoked", "nnguard_licenses", ["revoked_at"])
    op.create_index("nnguard_licenses_expires", "nnguard_licenses", ["expires_at"])
    _make_orders()
    _make_audit()
    _make_server()
    op.execute(sa.text("UPDATE nnguard_ledger SET version = 2"))


def _make_orders() -> None:
    op.create_table(
        "nnguard_products",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("stream", sa.String(128), nullable=False, unique=True),
        sa.Column("lock", sa.String(128), nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("tiers", sa.Text, nullable=False),
        sa.Column("signed_by", sa.String(128), nullable=False),
        sa.Column("wrapped_to", sa.String(128), nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "nnguard_orders",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(16), nullable=False, unique=True),
        sa.Column("reference", sa.Text, unique=True),
        sa.Column("product", sa.Text, sa.ForeignKey("nnguard_products.name"), nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("seats", sa.Integer, nullable=False),
        sa.Column("lasts", sa.BigInteger),
        sa.Column("grace", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, index=True),
        sa.Column("cooling", sa.BigInteger, nullable=False),
        sa.Column("warn_only", sa.Boolean, nullable=False),
        sa.Column("named_devices", sa.Boolean, nullable=False),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("cancelled_at", sa.BigInteger, index=True),
        sa.Column("reason", sa.Text, nullable=False),
    )
    order = sa.ForeignKey("nnguard_orders.id")
    op.create_table(
        "nnguard_seats",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(16), nullable=False, unique=True),
        sa.Column("order_id", sa.String(16), order, nullable=False, index=True),
        sa.Column("recipient", sa.String(128), nullable=False),
        sa.Column("request_key", sa.String(128)),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("leases", sa.Integer, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("license_id", sa.String(128), nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("released_at", sa.BigInteger),
        sa.Column("taken_back_at", sa.BigInteger),
        sa.Column("free_at", sa.BigInteger),
    )
    seat, order = sa.ForeignKey("nnguard_seats.id"), sa.ForeignKey("nnguard_orders.id")
    op.create_table(
        "nnguard_activations",
        sa.Column("license_id", sa.String(128), primary_key=True),
        sa.Column("seat_id", sa.String(16), seat, nullable=False, index=True),
        sa.Column("order_id", sa.String(16), order, nullable=False, index=True),
        sa.Column("request_key", sa.String(128)),
        sa.Column("nonce", sa.String(128)),
        sa.UniqueConstraint("request_key", "nonce", name="nnguard_activations_request"),
    )


def _make_audit() -> None:
    op.create_table(
        "nnguard_audit",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False, index=True),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    head = op.create_table(
        "nnguard_audit_head",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"one": 1, "number": 0, "hash": 64 * "0"}])


def _make_server() -> None:
    op.create_table(
        "nnguard_tokens",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(16), nullable=False, unique=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "nnguard_outbox",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("delivered_to", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger, index=True),
        sa.Column("delivered_at", sa.BigInteger),
    )
    op.create_table(
        "nnguard_once",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_hash", sa.String(128), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "nnguard_documents",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
    )
