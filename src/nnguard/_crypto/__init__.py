"""Keys and COSE envelopes; the only place that imports `cryptography`.

Knows nothing of streams.
"""
