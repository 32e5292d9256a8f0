"""Vectors that a reader MUST accept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import stock
from nnguard.stream import Stream
from nnguard.stream.coding import encode
from vectors.toolbox import (
    CLAIMS,
    ISSUED,
    OTHER,
    Made,
    attach,
    carrier_of,
    describe,
    envelope,
    hide,
    several,
    sign,
    signed,
    small,
    tensor_of,
    text_bits,
    ue,
    vector,
    weights,
)


@vector("verifies")
def urq() -> Made:
    """Uniform quantization; one carrier."""
    return signed(small())


@vector("verifies")
def tcq() -> Made:
    """Trellis-coded quantization: bins lie four apart, and zeros are few."""
    return signed(small(dependent=True))


@vector("verifies")
def no_parameter_optimization() -> Made:
    """The original carrier was encoded without parameter optimization, which its entry says."""
    return signed(small(parameter_optimization=False))


@vector("verifies")
def no_row_skipping() -> Made:
    """The payload's first bit says that rows are not skipped."""
    return signed(small(row_skipping=False))


@vector("verifies")
def zero_rows() -> Made:
    """Row skipping with rows of zeros, which stay rows of zeros."""
    arrays = {"w": weights((60, 100), 5)}
    arrays["w"][::3] = 0
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("verifies")
def two_carriers() -> Made:
    """A header with two carriers."""
    return signed(several(2, (30, 50), dependent=False), carriers=2)


@vector("verifies")
def many_carriers() -> Made:
    """A long record in several tensors, trellis-coded."""
    metadata = {"card": "All that there is to say. " * 16}
    return signed(several(5, (36, 40)), carriers=5, metadata=metadata)


@vector("verifies")
def second_in_order() -> Made:
    """The tensor nearest to 2,048 weights is all zeros and has no room; the next one carries."""
    arrays = {"empty": np.zeros((40, 50), np.float32), "w": weights((60, 100), 6)}
    arrays["empty"][0, 0] = 1
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("verifies")
def last_in_stream() -> Made:
    """Nine tensors come first in the stream that are further from 2,048 weights."""
    arrays = {f"small{n}": weights((16, 17), 20 + n) for n in range(9)}
    arrays["w"] = weights((60, 100), 6)
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("verifies")
def long_size_field() -> Made:
    """The carrier is larger than 32,767 bytes: a size field of four."""
    arrays = {"w": weights((190, 190), 7)}
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-38, dependent=False)))


@vector("verifies")
def size_field_grows() -> Made:
    """Embedding takes the carrier beyond 32,767 bytes; the original has a size field of two."""
    arrays = {"w.weight": weights((32, 1060), 8)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-38, dependent=False))
    made = signed(stream)
    sizes = [s[carrier_of(s)].size for s in (stream, Stream.from_bytes(made.data))]
    assert sizes[0] < 32768 <= sizes[1], sizes
    return made


@vector("verifies")
def opaque_units() -> Made:
    """Among units that are opaque: scan order above 0, a partial data counter, an unknown type."""
    units = [unit.read() for unit in small()]
    scanned = Stream.from_bytes(
        stock.encode({"s": weights((40, 40), 9)}, qp=-24, scan_order=1, dependent=False)
    )
    partial = bytes([0, 8, 5 << 2 | 1, 9, 1, 2, 3, 4])
    unknown = bytes([0, 6, 33 << 2, 1, 2, 3])
    data = b"".join([*units[:-1], scanned[-1].read(), partial, unknown, units[-1]])
    return signed(Stream.from_bytes(data))


@vector("verifies")
def profile_0() -> Made:
    """`general_profile_idc` 0: shorter headers, no row skipping."""
    old = tensor_of(small(row_skipping=False), 3)
    shape = "".join(ue(n, 7) for n in old.header.shape)
    # FLOAT, with input parameters; name; codebook 0, dq 0; shape, unary length; scan order 0.
    bits = "00001001" + text_bits("w") + "00" + "110000" + ue(4, 1) + shape + f"{10:08b}" + "0000"
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    prefix = bytes([5 << 2]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = replace(old.header, profile=0, shape=old.header.shape)
    unit = encode(replace(old, header=header, prefix=prefix, row_skipping=False))
    model = bytes([0, 7, 1 << 2, 1, 0, 2 << 5, 0])
    return signed(Stream.from_bytes(bytes([0, 4, 0, 0]) + model + unit))


@vector("verifies")
def empty_claims() -> Made:
    """No claims at all: an empty map."""
    stream = small()
    marked = hide(stream, lambda aad: envelope(stream, aad, header={15: {}}))
    claims: dict[str, object] = {
        "issuer": "",
        "name": "",
        "version": "",
        "issued_at": None,
        "metadata": {},
    }
    return Made(bytes(marked), bytes(stream), describe(stream, {"claims": claims}))


@vector("verifies")
def unicode_claims() -> Made:
    """Claims beyond ASCII, and metadata that is sorted by length first."""
    meta = {"zz": "1", "Länge": "2", "a": "\u2713"}
    return signed(small(), metadata=meta, name="modèle réduit")


@vector("verifies")
def shard() -> Made:
    """One of three shards; that the others are there is no matter of this file."""
    digest = bytes(range(32))
    claims = {**CLAIMS, "issued_at": ISSUED.isoformat(), "metadata": {}}
    claims["shard"] = {"set_digest": digest.hex(), "position": 1, "count": 3}
    return signed(small(), {"claims": claims}, shard=[digest, 1, 3])


@vector("verifies")
def localized() -> Made:
    """The record has the first bytes of each unit's digest."""
    return signed(small(), localize=True)


@vector("verifies")
def nested_signature() -> Made:
    """Signed by another key first, then by the vendor: two layers in one carrier."""
    inner = sign(small(), OTHER, issuer="other.example")
    nested = [{"kind": "signature", "kid": OTHER.public_key.id.hex()}]
    return signed(inner, {"layers": 2, "nested": nested})


@vector("verifies")
def nested_malformed() -> Made:
    """What was signed holds a record of kind 1 that is no signature."""
    inner = hide(small(), lambda _: b"no signature")
    return signed(inner, {"layers": 2, "nested": [{"kind": "unreadable", "kid": ""}]})


@vector("verifies")
def signed_attachment() -> Made:
    """A signature on top of an attachment."""
    inner = attach(small(), b"# Model card\n")
    return signed(inner, {"layers": 2, "nested": [{"kind": "attachment", "kid": ""}]})


@vector("detaches", operation="detach")
def attachment() -> Made:
    """An attachment alone; it is not authenticated."""
    stream, payload = small(), b"# Model card\n"
    marked = attach(stream, payload)
    details = (("media_type", "text/markdown"), ("payload", payload.hex()))
    return Made(bytes(marked), bytes(stream), details)
