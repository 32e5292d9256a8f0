"""nnguard."""
