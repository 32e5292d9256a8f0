"""Fingerprints in licensees' copies, and finding whose copy a suspect is."""
