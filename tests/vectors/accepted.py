"""Vectors that a reader MUST accept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import numpy as np

import stock
from nnguard._hiding import extract, plan_record
from nnguard._hiding.frame import frame_record
from nnguard._stream import Stream
from nnguard._stream.quantized import encode
from vectors.toolbox import (
    OTHER,
    Made,
    attach,
    carrier_of,
    describe,
    digest_of,
    envelope,
    far_away,
    hide,
    place,
    plan,
    position,
    several,
    sign,
    signed,
    sixteen_bits,
    small,
    tensor_of,
    text_bits,
    ue,
    vector,
    weights,
    with_long_field,
    with_parameters,
    with_payload,
)


@vector("4", "ok")
def urq() -> Made:
    """Uniform quantization; one carrier."""
    return signed(small())


@vector("4", "ok")
def tcq() -> Made:
    """Trellis-coded quantization: bins lie four apart, and zeros are few."""
    return signed(small(dependent=True))


@vector("2.4.8", "ok")
def no_parameter_optimization() -> Made:
    """All start states are 0: an encoder without parameter optimization."""
    return signed(small(parameter_optimization=False))


@vector("2.4.8", "ok")
def start_states() -> Made:
    """Contexts begin in all nine start states, as another encoder may choose; they stay."""
    stream = small(dependent=True)
    contexts = len(tensor_of(stream, 3).parameters.start_states)
    chosen = bytes(number % 9 for number in range(contexts))
    made = signed(with_parameters(stream, 3, start_states=chosen))
    changed = tensor_of(Stream.from_bytes(made.data), 3)
    assert changed.parameters.start_states == chosen
    return made


@vector("2.4.4", "ok")
def no_row_skipping() -> Made:
    """The bit behind the quantization parameter says that rows are not skipped."""
    return signed(small(row_skipping=False))


@vector("2.4.4", "ok")
def zero_rows() -> Made:
    """Row skipping with rows of zeros, which stay rows of zeros."""
    arrays = {"w": weights((60, 100), 5)}
    arrays["w"][::3] = 0
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("2.4.4", "ok")
def foreign_row_flags() -> Made:
    """Another encoder flagged every other row of zeros, and coded the rest; that stays, too."""
    arrays = {"w": weights((60, 100), 5)}
    arrays["w"][::3] = 0
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True))
    index = carrier_of(stream, "w")
    chosen = bytes(row % 6 == 0 for row in range(60))
    made = signed(with_parameters(stream, index, skipped_rows=chosen))
    changed = tensor_of(Stream.from_bytes(made.data), index)
    assert changed.parameters.skipped_rows == chosen
    return made


@vector("2.4.4", "ok")
def no_row_flagged() -> Made:
    """Rows may be skipped, and two are all zeros, but none is flagged; uniform quantization."""
    arrays = {"w": weights((60, 100), 5)}
    arrays["w"][7:9] = 0
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))
    return signed(with_parameters(stream, carrier_of(stream, "w"), skipped_rows=bytes(60)))


@vector("2.4.5", "ok")
def short_unary() -> Made:
    """One greater-than flag; larger indices have a prefix and a suffix."""
    return signed(small(dependent=True, unary_length_minus1=0))


@vector("3", "ok")
def one_dimension() -> Made:
    """The primary carrier has one dimension; a matrix is further from 2,048 weights."""
    arrays = {"w": weights((60, 100), 6), "scale": np.abs(weights((2000,), 5)) + np.float32(0.1)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, nonweight_qp=-24, dependent=True))
    made = signed(stream)
    (carrier,) = extract(Stream.from_bytes(made.data)).header.carriers
    assert stream[carrier].name == "scale"
    return made


@vector("5", "ok")
def two_carriers() -> Made:
    """A header with two carriers."""
    return signed(several(2, (30, 50), dependent=False), carriers=2)


@vector("5", "ok")
def many_carriers() -> Made:
    """A long record in several tensors, trellis-coded."""
    metadata = {"card": "All that there is to say. " * 16}
    return signed(several(5, (36, 40)), carriers=5, metadata=metadata)


@vector("4", "ok")
def several_bits() -> Made:
    """A weight holds four bits, since there are few; uniform quantization."""
    return dense(4, weights((30, 16), 7), dependent=False)


@vector("4", "ok")
def several_bits_along_the_trellis() -> Made:
    """A weight holds three bits; trellis-coded quantization."""
    return dense(3, weights((42, 15), 8), dependent=True)


@vector("4", "ok")
def as_many_bits_as_possible() -> Made:
    """A weight holds sixteen bits, in a tensor that is mostly zeros."""
    sparse = np.zeros((35, 15), np.float32)
    sparse.flat[:490:5] = np.sign(weights((98,), 9)) / 4
    return dense(16, sparse, dependent=True)


def dense(bits: int, array: np.ndarray[Any, Any], *, dependent: bool) -> Made:
    """A signature in the only tensor that can carry."""
    stream = Stream.from_bytes(stock.encode({"w": array}, qp=-24, dependent=dependent))
    made = signed(stream, bits=bits)
    planned = plan_record(stream, 1, extract(Stream.from_bytes(made.data)).header.record_size)
    assert planned.header.widths == (bits,)
    return made


@vector("5", "ok")
def different_bits() -> Made:
    """Three carriers, whose weights hold 1, 16 and 5 bits; uniform quantization."""
    stream = several(3, (30, 40), dependent=False)
    return signed(stream, carriers=3, bits=(1, 16, 5), metadata={"card": "Much to say. " * 160})


@vector("5", "ok")
def different_bits_along_the_trellis() -> Made:
    """Two carriers, whose weights hold 3 bits and 1; trellis-coded quantization."""
    return signed(several(2, (30, 40)), carriers=2, bits=(3, 1), metadata={"card": "- " * 120})


@vector("5", "ok")
def carrier_far_back() -> Made:
    """Sixteen bits in the tensor at position 16: the number in the header takes two bytes."""
    arrays = {f"bias{n}": weights((20,), n) for n in range(13)} | {"w": weights((30, 40), 6)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))
    made = signed(stream, bits=16, metadata={"card": "Much to say. " * 10})
    assert extract(Stream.from_bytes(made.data)).header.carriers == (16,)
    return made


@vector("8", "ok")
def at_cost_of_sixteen_bits() -> Made:
    """A carrier of 2^16 weights, of which a few hundred hold sixteen bits: four times its cost."""
    return signed(sixteen_bits(256), bits=16)


@vector("5.1", "ok")
def second_in_order() -> Made:
    """The tensor nearest to 2,048 weights is all zeros and has no room; the next one carries."""
    arrays = {"empty": np.zeros((40, 50), np.float32), "w": weights((60, 100), 6)}
    arrays["empty"][0, 0] = 1
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("5.1", "ok")
def second_to_damaged() -> Made:
    """The payload of the tensor nearest to 2,048 weights breaks off: it is passed over."""
    arrays = {"damaged": weights((40, 50), 5), "w": weights((60, 100), 6)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True))
    made = with_payload(stream, position(stream, "damaged"), lambda payload: payload[:-1])
    return signed(Stream.from_bytes(made.data))


@vector("5.1", "ok")
def second_to_long_field() -> Made:
    """The size field of the tensor nearest to 2,048 weights is longer than it need be."""
    arrays = {"foreign": weights((40, 50), 5), "w": weights((60, 100), 6)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True))
    return signed(Stream.from_bytes(with_long_field(stream, position(stream, "foreign")).data))


@vector("3", "ok")
def at_sum_of_weights() -> Made:
    """The tensors up to the one with the header have 2^18 weights in all, which is the limit."""
    return signed(far_away())


@vector("3", "ok")
def last_in_stream() -> Made:
    """Nine tensors come first in the stream that are further from 2,048 weights."""
    arrays = {f"small{n}": weights((16, 17), 20 + n) for n in range(9)}
    arrays["w"] = weights((60, 100), 6)
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=True)))


@vector("2.4.10", "ok")
def long_size_field() -> Made:
    """The carrier is larger than 32,767 bytes: a size field of four."""
    arrays = {"w": weights((190, 190), 7)}
    return signed(Stream.from_bytes(stock.encode(arrays, qp=-38, dependent=False)))


@vector("2.4.10", "ok")
def size_field_grows() -> Made:
    """Embedding takes the carrier beyond 32,767 bytes; the original has a size field of two."""
    arrays = {"w.weight": weights((32, 1060), 8)}
    stream = Stream.from_bytes(stock.encode(arrays, qp=-38, dependent=False))
    made = signed(stream)
    sizes = [s[carrier_of(s)].size for s in (stream, Stream.from_bytes(made.data))]
    assert sizes[0] < 32768 <= sizes[1], sizes
    return made


@vector("2.3", "ok")
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


@vector("2.3", "ok")
def profile_0() -> Made:
    """`general_profile_idc` 0: shorter headers, no row skipping."""
    old = tensor_of(small(row_skipping=False), 3)
    shape = "".join(ue(n, 7) for n in old.header.shape)
    # FLOAT, with input parameters; name; codebook 0, dq 0; shape, unary length; scan order 0.
    bits = "00001001" + text_bits("w") + "00" + "110000" + ue(4, 1) + shape + f"{10:08b}" + "0000"
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    prefix = bytes([5 << 2]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = replace(old.header, profile=0, shape=old.header.shape)
    unit = encode(replace(old, header=header, prefix=prefix))
    model = bytes([0, 7, 1 << 2, 1, 0, 2 << 5, 0])
    return signed(Stream.from_bytes(bytes([0, 4, 0, 0]) + model + unit))


@vector("6.1", "ok")
def empty_claims() -> Made:
    """No claims at all: an empty map."""
    stream = small()
    changed = hide(stream, lambda aad: envelope(stream, aad, header={15: {}}))
    return Made(bytes(changed), bytes(stream), describe(stream, {"claims": {}}))


@vector("6.1", "ok")
def unicode_claims() -> Made:
    """Claims beyond ASCII, and metadata that is sorted by length first."""
    meta = {"zz": "1", "Länge": "2", "a": "\u2713"}
    return signed(small(), metadata=meta, name="modèle réduit")


@vector("6.3", "ok")
def shard() -> Made:
    """One of three shards; that the others are there is no matter of this file."""
    digest = bytes(range(32))
    return signed(small(), shard=[digest, 1, 3])


@vector("6.1", "ok")
def localized() -> Made:
    """The record has the first bytes of each unit's digest."""
    return signed(small(), localize=True)


@vector("7", "ok")
def nested_signature() -> Made:
    """Signed by another key first, then by the vendor: two layers in one carrier."""
    inner = sign(small(), OTHER, issuer="other.example")
    nested = [{"kind": "signature", "kid": OTHER.public_key.id.hex()}]
    return signed(inner, {"layers": 2, "nested": nested})


@vector("7", "ok")
def nested_malformed() -> Made:
    """What was signed holds a record of kind 1 that is no signature."""
    inner = hide(small(), lambda _: b"no signature")
    return signed(inner, {"layers": 2, "nested": [{"kind": "unreadable", "kid": ""}]})


@vector("7", "ok")
def signed_attachment() -> Made:
    """A signature on top of an attachment."""
    inner = attach(small(), b"# Model card\n")
    return signed(inner, {"layers": 2, "nested": [{"kind": "attachment", "kid": ""}]})


@vector("7", "ok")
def signed_attachment_that_denies_what_is_below() -> Made:
    """The layer of the attachment says that it is the last; there is a signature below it."""
    inner = sign(small(), OTHER, issuer="other.example")
    record = bytes(cbor2.dumps(["text/markdown", digest_of(inner), b"# Model card\n"]))
    header = replace(plan(inner, 2, len(record)), layer=1)
    denying = place(inner, header.carriers, frame_record(header, record), bits=header.widths)
    nested = [
        {"kind": "attachment", "kid": ""},
        {"kind": "signature", "kid": OTHER.public_key.id.hex()},
    ]
    return signed(denying, {"layers": 3, "nested": nested})


@vector("6.2", "ok", operation="detach")
def attachment() -> Made:
    """An attachment alone; it is not authenticated."""
    stream, payload = small(), b"# Model card\n"
    changed = attach(stream, payload)
    details = (("media_type", "text/markdown"), ("payload", payload.hex()))
    return Made(bytes(changed), bytes(stream), details)
