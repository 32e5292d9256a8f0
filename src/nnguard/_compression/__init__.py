"""Models to streams and back.

`compress` and `decompress` hand tensors out to workers; `encoding` and `decoding` code one tensor
in whatever process.
"""
