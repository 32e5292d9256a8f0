"""Trust policies: whose signatures a deployment accepts, on what, and how many of them.

Knows nothing of streams: it judges signatures that were verified.
"""
