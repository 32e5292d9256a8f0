"""Vectors of locks that decrypt, and whose content is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2

from vectors.locks import locked
from vectors.selling import (
    FULL,
    UNIT,
    content_of,
    degrade,
    hide_lock,
    lock,
    replaced_entry,
    seal,
    spread,
    to_bytes,
    with_key,
)
from vectors.toolbox import (
    Made,
    edit,
    hide,
    position,
    several,
    small,
    tensor_of,
    ue,
    vector,
)


def listed(**changes: Any) -> Made:
    """A lock whose list of replaced weights is wrong."""
    stream = small()
    positions = changes.pop("positions", spread(stream, UNIT))
    entry = replaced_entry(tensor_of(stream, UNIT), UNIT, positions, **changes)
    return contains(lambda content: [content[0], [entry], content[2]])


def contains(change: Callable[[list[Any]], Any]) -> Made:
    """A lock with another content."""
    stream = small()
    chosen = {UNIT: spread(stream, UNIT)}
    return with_key(lock(stream, chosen, content=change(content_of(stream, chosen, []))))


def raw_content(change: Callable[[bytes], bytes]) -> Made:
    """A lock whose content is encoded in another way."""
    stream = small()
    chosen = {UNIT: spread(stream, UNIT)}
    content = bytes(cbor2.dumps(content_of(stream, chosen, [])))
    return with_key(hide_lock(degrade(stream, chosen, []), change(content)))


# The encoding


@vector("UnlockError: bytes after the content", message="malformed", operation="open")
def content_trailing() -> Made:
    """A zero byte, encrypted with the rest."""
    return raw_content(lambda content: content + b"\0")


@vector("UnlockError: content of indefinite length", message="malformed", operation="open")
def content_indefinite() -> Made:
    """The outer array is `9f ... ff`."""
    return raw_content(lambda content: b"\x9f" + content[1:] + b"\xff")


@vector("UnlockError: content of four fields", message="malformed", operation="open")
def content_four_fields() -> Made:
    """One too many."""
    return contains(lambda content: [*content, []])


@vector("UnlockError: digest of 31 bytes", message="malformed", operation="open")
def content_short_digest() -> Made:
    """One byte too few."""
    return contains(lambda content: [content[0][:31], *content[1:]])


@vector("UnlockError: setting that is neither 0 nor 1", message="malformed", operation="open")
def content_setting() -> Made:
    """2, for a tensor that was scrambled."""
    return contains(lambda content: [*content[:2], [[UNIT, 2]]])


@vector("UnlockError: list of no weights", message="malformed", operation="open")
def content_no_weights() -> Made:
    """A tensor of which nothing was replaced is not listed."""
    return listed(count=0, bits=to_bytes(""))


@vector("UnlockError: list of weights ends too early", message="malformed", operation="open")
def content_short_list() -> Made:
    """Bits of twelve weights, where thirteen are counted."""
    return listed(count=13)


@vector("UnlockError: list of weights goes on", message="malformed", operation="open")
def content_long_list() -> Made:
    """Bits of twelve weights, where eleven are counted."""
    return listed(count=11)


@vector("UnlockError: byte after the alignment of a list", message="malformed", operation="open")
def content_byte_after_list() -> Made:
    """A zero byte."""
    stream = small()
    entry = replaced_entry(tensor_of(stream, UNIT), UNIT, spread(stream, UNIT))
    return listed(bits=entry[-1] + b"\0")


@vector("UnlockError: order of a code above 32", message="malformed", operation="open")
def content_order() -> Made:
    """33 bits for a gap."""
    return listed(positions=[0], g=33)


@vector("UnlockError: index beyond 2^30", message="malformed", operation="open")
def content_large_index() -> Made:
    """2^31 + 1, of which the low 32 bits are 1 - 2^31."""
    return listed(count=1, g=0, v=30, bits=to_bytes(ue(0, 0) + ue(2 * (2**31 + 1) - 1, 30)))


@vector("UnlockError: tensor listed twice", message="twice", operation="open")
def content_twice() -> Made:
    """The same list again."""
    return contains(lambda content: [content[0], 2 * content[1], content[2]])


@vector("UnlockError: tensors not sorted", message="out of order", operation="open")
def content_unsorted() -> Made:
    """The second tensor first."""
    stream = several(2, (50, 60), dependent=False)
    chosen = {UNIT: spread(stream, UNIT), UNIT + 1: spread(stream, UNIT + 1)}
    content = content_of(stream, chosen, [])
    return with_key(lock(stream, chosen, content=[content[0], content[1][::-1], content[2]]))


@vector("UnlockError: two settings of one tensor", message="two settings", operation="open")
def content_two_settings() -> Made:
    """Listed as replaced and as scrambled, encoded otherwise in each."""
    stream = small()
    chosen = {UNIT: spread(stream, UNIT)}
    content = content_of(stream, chosen, [UNIT])
    content[2] = [[UNIT, 0]]
    return with_key(lock(stream, chosen, [UNIT], content=content))


# What the content names


@vector("UnlockError: unit that is not there", message="cannot be locked", operation="open")
def names_no_unit() -> Made:
    """Position 7 of 7 units."""
    return contains(lambda content: [*content[:2], [[7, 1]]])


@vector("UnlockError: unit before the first", message="cannot be locked", operation="open")
def names_negative_unit() -> Made:
    """Position -4, which in some languages is the fourth from the end."""
    return contains(lambda content: [content[0], [[-4, *content[1][0][1:]]], content[2]])


@vector("UnlockError: unit that is not eligible", message="cannot be locked", operation="open")
def names_bias() -> Made:
    """A tensor of one dimension."""
    bias = position(small(), "conv.bias")
    return contains(lambda content: [*content[:2], [[bias, 1]]])


@vector("UnlockError: position beyond the tensor", message="weight that is not", operation="open")
def names_position() -> Made:
    """The position after the last."""
    stream = small()
    size = tensor_of(stream, UNIT).indices.size
    return listed(positions=[*spread(stream, UNIT), size])


@vector("UnlockError: setting of the original is wrong", message="not what was", operation="open")
def names_wrong_setting() -> Made:
    """Encoded without parameter optimization."""
    return listed(fitted=0)


@vector("UnlockError: digest of another stream", message="not what was locked", operation="open")
def content_other_digest() -> Made:
    """The last bit of the digest."""
    return contains(lambda content: [content[0][:-1] + bytes([content[0][-1] ^ 1]), *content[1:]])


@vector("UnlockError: tensor changed after locking", message="not what was", operation="open")
def changed_below_lock() -> Made:
    """One bit of a tensor that carries nothing: the lock's record is right."""
    stream = locked(small())
    return Made(edit(stream, position(stream, "fc.weight"), -5), details=with_key(stream).details)


@vector("VerificationError: inner lock of another stream", message="authentic", operation="open")
def inner_lock_changed() -> Made:
    """Both have the right keys; the inner record was copied from another lock."""
    stream, other = small(), small(seed=50)
    chosen = {UNIT: spread(other, UNIT)}
    content = cbor2.dumps(content_of(other, chosen, []))
    foreign = seal(bytes(content), b"")
    inner = hide(stream, lambda aad: foreign, kind=3)
    return with_key(locked(inner, key=FULL.below()))
