"""Vectors of locks that open, and of what `verify` says of locks and marks."""

from __future__ import annotations

import functools

import stock
from nnguard._hiding import embed, extract
from nnguard._stream import Stream
from vectors.selling import (
    CONTENT_KEYS,
    FULL,
    LICENSE_ID,
    content_of,
    license_of,
    lock,
    opens,
    replaced_entry,
    spread,
)
from vectors.toolbox import (
    Made,
    carrier_of,
    claims_of,
    describe,
    position,
    several,
    sign,
    signed,
    sixteen_bits,
    small,
    tensor_of,
    vector,
    weights,
)

LOWER = CONTENT_KEYS["lower"]


def large() -> Stream:
    """One tensor with room for several records."""
    return several(1, (120, 140), dependent=False)


def locked(stream: Stream, **options: object) -> Stream:
    unit = carrier_of(stream)
    return lock(stream, {unit: spread(stream, unit)}, **options)


def watermarked(stream: Stream, license_: bytes) -> Stream:
    """The one stream that the specification allows."""
    return embed(stream, license_, kind=4)


@vector("6.4", "ok", operation="open")
def lock_urq() -> Made:
    """Twelve indices of one tensor were replaced; the record is in the same."""
    stream = small()
    return opens(locked(stream), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_tcq() -> Made:
    """The same, trellis-coded."""
    stream = small(dependent=True)
    return opens(locked(stream), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_first_and_last() -> Made:
    """The first and the last index of a tensor, and the order 0 of both codes."""
    stream = large()
    unit = carrier_of(stream)
    tensor = tensor_of(stream, unit)
    positions = [0, tensor.indices.size - 1]
    assert tensor.indices.reshape(-1)[positions].all()
    content = content_of(stream, {unit: positions}, [])
    content[1] = [replaced_entry(tensor, unit, positions, g=0, v=0)]
    return opens(lock(stream, {unit: positions}, content=content), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_scrambled() -> Made:
    """All signs of a tensor that carries nothing are scrambled, trellis-coded."""
    stream = several(2, (50, 60), dependent=True)
    return opens(lock(stream, {}, [carrier_of(stream) + 1]), stream, ["full"])


def with_vectors(*, dependent: bool) -> Stream:
    """A matrix, a vector that could carry, and one that is too small for it."""
    arrays = {"w.weight": weights((50, 60), 5), "scale": weights((300,), 6)}
    arrays["shift"] = weights((30,), 7)
    data = stock.encode(arrays, qp=-24, nonweight_qp=-24, dependent=dependent)
    return Stream.from_bytes(data)


@vector("6.4", "ok", operation="open")
def lock_permuted_urq() -> Made:
    """The integers of two tensors of one dimension have changed places."""
    stream = with_vectors(dependent=False)
    units = [position(stream, name) for name in ("scale", "shift")]
    return opens(lock(stream, {}, units), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_permuted_tcq() -> Made:
    """Trellis-coded: in other states the integers are other indices."""
    stream = with_vectors(dependent=True)
    units = [position(stream, name) for name in ("w.weight", "scale", "shift")]
    return opens(lock(stream, {}, sorted(units)), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_replaced_in_vector() -> Made:
    """Indices of a tensor of one dimension that is permuted, too."""
    stream = with_vectors(dependent=False)
    unit = position(stream, "scale")
    return opens(lock(stream, {unit: spread(stream, unit)}, [unit]), stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_both() -> Made:
    """Replaced in two tensors, one of which is scrambled, too: that is undone first."""
    stream = several(2, (50, 60), dependent=False)
    units = [carrier_of(stream), carrier_of(stream) + 1]
    trial = lock(stream, {unit: spread(stream, unit) for unit in units}, units[:1])
    return opens(trial, stream, ["full"])


@vector("6.4", "ok", operation="open")
def lock_two_carriers() -> Made:
    """The list of carriers is part of what is authenticated."""
    stream = several(2, (20, 40), dependent=False)
    return opens(locked(stream, carriers=2), stream, ["full"])


def much_work() -> tuple[Stream, Stream]:
    """A lock of sixteen bits a weight that costs more than a reader without a key would do."""
    stream = sixteen_bits(257)
    return lock(stream, {}, bits=16), stream


@vector("8", "ok", operation="open")
def lock_of_much_work() -> Made:
    """The carrier costs more than the limit, which does not bind who has the content key."""
    return opens(*much_work(), ["full"])


@vector("8", "ok")
def signature_on_much_work() -> Made:
    """The lock costs more than the limit; the signature over it, which vouches for it, does not."""
    trial, _ = much_work()
    return signed(trial, {"layers": 2, "nested": [{"kind": "lock", "kid": ""}]}, bits=4)


@vector("6.4", "ok", operation="open")
def lock_nothing() -> Made:
    """A lock that changed nothing, of a tier without a name."""
    stream = small()
    return opens(lock(stream, {}, header={"tier": ""}), stream, [""])


@vector("6.4", "ok", operation="open")
def lock_tiers() -> Made:
    """Two locks; the outer one has a key that is derived from the inner one's."""
    stream = small()
    trial = locked(locked(stream), key=LOWER, header={"tier": "lower"})
    return opens(trial, stream, ["lower", "full"])


@vector("6.4", "ok", operation="open")
def lock_lower_tier() -> Made:
    """The same file with the key of the lower tier: its lock alone is opened."""
    inner = locked(small())
    made = opens(locked(inner, key=LOWER), inner, ["lower"], "lower")
    return Made(original=made.original, details=made.details, file="lock_tiers")


@vector("6.4", "ok", operation="open")
def lock_eighth_tier() -> Made:
    """The key of the outer lock is derived seven times; keys between may be missing."""
    stream = small()
    trial = locked(locked(stream), key=FULL.below(7), header={"tier": "eighth"})
    return opens(trial, stream, ["eighth", "full"])


@vector("6.4", "ok", operation="open")
def lock_signatures_between() -> Made:
    """Signed, locked, signed, locked, signed: what is between locks is taken off."""
    release = sign(large())
    inner = sign(locked(release))
    trial = sign(locked(inner, key=LOWER, header={"tier": "lower"}))
    return opens(trial, release, ["lower", "full"])


@vector("7", "ok")
def signed_lock() -> Made:
    """A signed trial of a signed release: what is below the lock is not looked at."""
    trial = locked(sign(small()))
    nested = [{"kind": "lock", "kid": ""}]
    layers = extract(sign(trial)).header.layer
    assert layers > 2
    details = describe(trial, {"claims": claims_of(), "nested": nested, "layers": 2})
    return Made(bytes(sign(trial)), bytes(trial), details)


@vector("6.5", "ok")
def mark() -> Made:
    """A license on top of the signed release that it opens."""
    return with_watermark(sign(small()))


@vector("6.5", "ok")
def mark_on_lock() -> Made:
    """A license of a lower tier, on top of a signed stream that is locked in turn."""
    return with_watermark(sign(locked(large())), nested=[{"kind": "lock", "kid": ""}])


@vector("5.2", "ok")
def mark_of_three_tensors() -> Made:
    """The next larger tensor has far more room than it takes: a smaller one goes first."""
    return with_watermark(of_four())


@functools.cache
def of_four() -> Stream:
    """A signed release of four tensors that carry, of which a mark takes three."""
    shapes = {"first": (45, 45), "small": (16, 17), "large": (60, 70), "last": (44, 50)}
    arrays = {name: weights(shape, 20 + n) for n, (name, shape) in enumerate(shapes.items())}
    return sign(Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False)))


def with_watermark(release: Stream, nested: list[dict[str, str]] | None = None) -> Made:
    license_ = license_of(small(), release)
    original = extract(release).original
    details = {
        "claims": claims_of(),
        "licensed_to": LICENSE_ID.hex(),
        "layers": 1 + len(nested or []),
    }
    details |= {"nested": nested} if nested else {}
    return Made(bytes(watermarked(release, license_)), bytes(original), describe(original, details))


@vector("7", "NoRecordError: the outermost record is a lock", message="not a signature: lock")
def lock_outermost() -> Made:
    """A trial that is not signed."""
    return Made(bytes(locked(sign(small()))))


@vector("6.5", "NoRecordError: no signature below the mark", message="holds no record")
def mark_without_signature() -> Made:
    """A mark on a release that was never signed."""
    release = small()
    return Made(bytes(watermarked(release, license_of(small(), release))))


@vector("6.5", "NoRecordError: mark below the mark", message="license")
def mark_twice() -> Made:
    """Only one mark is taken off."""
    release = sign(large())
    below = watermarked(release, license_of(small(), release))
    return Made(bytes(watermarked(below, license_of(small(), below))))
