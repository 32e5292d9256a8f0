"""Locking a stream: weights that only a content key puts right again.

Knows content keys, not licenses.
"""
