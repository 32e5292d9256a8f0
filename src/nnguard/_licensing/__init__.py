"""Licenses, lists of revoked ones, devices, and the rules by which a license holds.

Knows nothing of streams.
"""
