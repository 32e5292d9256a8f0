"""Rows of a ledger, by what they are of, in a transaction. Needs SQLAlchemy."""
