"""The tables of a ledger, as the newest migration leaves them. Needs SQLAlchemy.

`migrations` makes them; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from nnguard._selling.columns import Json, Seconds, Span
from nnguard._selling.entry import LONGEST_ID

__all__ = [
    "ACTIVATIONS",
    "AUDIT",
    "AUDIT_HEAD",
    "CONTENT_KEYS",
    "DOCUMENTS",
    "LICENSES",
    "ONCE",
    "ORDERS",
    "OUTBOX",
    "PRODUCTS",
    "SCHEMA",
    "SEATS",
    "TABLES",
    "TOKENS",
]

TABLES = MetaData()

SCHEMA = Table(
    "nnguard_ledger", TABLES, Column("version", Integer, primary_key=True, autoincrement=False)
)
"""Which version of the tables these are, for every nnguard, also the first."""

LICENSES = Table(
    "nnguard_licenses",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("license_id", String(LONGEST_ID), nullable=False, unique=True),
    Column("product", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("recipient", String(LONGEST_ID), nullable=False),
    Column("tier", Text, nullable=False),
    Column("stream", String(LONGEST_ID), nullable=False),
    Column("content_key_id", String(LONGEST_ID), nullable=False),
    Column("issued_at", BigInteger, nullable=False),  # times: seconds since 1970
    Column("not_before", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("armored", Text, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text, nullable=False),
    Index("nnguard_licenses_issued", "issued_at", "number"),
    Index("nnguard_licenses_revoked", "revoked_at"),
    Index("nnguard_licenses_expires", "expires_at"),
)
CONTENT_KEYS = Table(
    "nnguard_content_keys",
    TABLES,
    Column("content_key_id", String(LONGEST_ID), primary_key=True),
    Column("product", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)
PRODUCTS = Table(
    "nnguard_products",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("stream", String(LONGEST_ID), nullable=False, unique=True),
    Column("lock", String(LONGEST_ID), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("tiers", Json, nullable=False),
    Column("signed_by", String(LONGEST_ID), nullable=False),
    Column("wrapped_to", String(LONGEST_ID), nullable=False),
    Column("added_at", Seconds, nullable=False),
)
ORDERS = Table(
    "nnguard_orders",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("reference", Text, unique=True),  # NULL, of which there may be many, for none
    Column("product", Text, ForeignKey("nnguard_products.name"), nullable=False),
    Column("customer", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("lasts", Span),
    Column("grace", Span, nullable=False),
    Column("expires_at", Seconds, index=True),
    Column("cooling", Span, nullable=False),
    Column("warn_only", Boolean, nullable=False),
    Column("named_devices", Boolean, nullable=False),
    Column("features", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("cancelled_at", Seconds, index=True),
    Column("reason", Text, nullable=False),
)
SEATS = Table(
    "nnguard_seats",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("order_id", String(16), ForeignKey("nnguard_orders.id"), nullable=False, index=True),
    Column("recipient", String(LONGEST_ID), nullable=False),
    Column("request_key", String(LONGEST_ID)),
    Column("device", Json, nullable=False),
    Column("name", Text, nullable=False),
    Column("leases", Integer, nullable=False),
    Column("taken_at", Seconds, nullable=False, index=True),
    Column("license_id", String(LONGEST_ID), nullable=False),
    Column("expires_at", Seconds),
    Column("released_at", Seconds),
    Column("taken_back_at", Seconds),
    Column("free_at", Seconds),
)
ACTIVATIONS = Table(
    "nnguard_activations",
    TABLES,
    Column("license_id", String(LONGEST_ID), primary_key=True),
    Column("seat_id", String(16), ForeignKey("nnguard_seats.id"), nullable=False, index=True),
    Column("order_id", String(16), ForeignKey("nnguard_orders.id"), nullable=False, index=True),
    Column("request_key", String(LONGEST_ID)),
    Column("nonce", String(LONGEST_ID)),
    UniqueConstraint("request_key", "nonce", name="nnguard_activations_request"),
)
AUDIT = Table(
    "nnguard_audit",
    TABLES,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Seconds, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(LONGEST_ID), nullable=False, index=True),
    Column("details", Json, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
AUDIT_HEAD = Table(
    "nnguard_audit_head",
    TABLES,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
TOKENS = Table(
    "nnguard_tokens",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("revoked_at", Seconds),
)
OUTBOX = Table(
    "nnguard_outbox",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("at", Seconds, nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("delivered_to", Json, nullable=False),
    Column("due_at", Seconds, index=True),  # NULL when everybody has heard of it
    Column("delivered_at", Seconds),
)
ONCE = Table(
    "nnguard_once",
    TABLES,
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(LONGEST_ID), nullable=False),
    Column("answer", Text, nullable=False),
    Column("until", Seconds, nullable=False, index=True),
)
DOCUMENTS = Table(
    "nnguard_documents",
    TABLES,
    Column("name", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("kept_at", Seconds, nullable=False),
)
