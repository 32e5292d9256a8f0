"""Vectors of locks that decrypt, and whose content is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2
import numpy as np

from nnguard._stream import Stream
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
    carrier_of,
    edit,
    hide,
    position,
    several,
    small,
    tensor_of,
    ue,
    vector,
    with_long_field,
    with_parameters,
    with_payload,
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


def with_file(change: Callable[[str, bytes, list[Any]], Any]) -> Made:
    """A lock with another entry for the stream that it opens."""
    return contains(lambda content: [*content[:2], [change(*content[2][0])]])


def flip_last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def raw_content(change: Callable[[bytes], bytes]) -> Made:
    """A lock whose content is encoded in another way."""
    stream = small()
    chosen = {UNIT: spread(stream, UNIT)}
    content = bytes(cbor2.dumps(content_of(stream, chosen, [])))
    return with_key(hide_lock(degrade(stream, chosen, []), change(content)))


# The encoding


@vector("6.4", "UnlockError: bytes after the content", message="malformed", operation="open")
def content_trailing() -> Made:
    """A zero byte, encrypted with the rest."""
    return raw_content(lambda content: content + b"\0")


@vector("6.4", "UnlockError: content of indefinite length", message="malformed", operation="open")
def content_indefinite() -> Made:
    """The outer array is `9f ... ff`."""
    return raw_content(lambda content: b"\x9f" + content[1:] + b"\xff")


@vector("6.4", "UnlockError: content of four fields", message="malformed", operation="open")
def content_four_fields() -> Made:
    """One too many."""
    return contains(lambda content: [*content, []])


@vector("6.4", "UnlockError: digest of 31 bytes", message="malformed", operation="open")
def content_short_digest() -> Made:
    """One byte too few."""
    return with_file(lambda name, digest, units: [name, digest[:31], units])


@vector("6.4", "UnlockError: list of no weights", message="malformed", operation="open")
def content_no_weights() -> Made:
    """A tensor of which nothing was replaced is not listed."""
    return listed(count=0, bits=to_bytes(""))


@vector("6.4", "UnlockError: list of weights ends too early", message="malformed", operation="open")
def content_short_list() -> Made:
    """Bits of twelve weights, where thirteen are counted."""
    return listed(count=13)


@vector("6.4", "UnlockError: list of weights goes on", message="malformed", operation="open")
def content_long_list() -> Made:
    """Bits of twelve weights, where eleven are counted."""
    return listed(count=11)


@vector(
    "6.4", "UnlockError: byte after the alignment of a list", message="malformed", operation="open"
)
def content_byte_after_list() -> Made:
    """A zero byte."""
    stream = small()
    entry = replaced_entry(tensor_of(stream, UNIT), UNIT, spread(stream, UNIT))
    return listed(bits=entry[-1] + b"\0")


@vector("6.4", "UnlockError: order of a code above 32", message="malformed", operation="open")
def content_order() -> Made:
    """33 bits for a gap."""
    return listed(positions=[0], g=33)


@vector("6.4", "UnlockError: index beyond 2^31", message="malformed", operation="open")
def content_large_index() -> Made:
    """2^31 + 1, of which the low 32 bits are 1 - 2^31."""
    return listed(count=1, g=0, v=30, bits=to_bytes(ue(0, 0) + ue(2 * (2**31 + 1) - 1, 30)))


@vector("6.4", "UnlockError: index of -2^31", message="malformed", operation="open")
def content_least_index() -> Made:
    """An int32 holds it, but it is beyond 1 - 2^31."""
    return listed(count=1, g=0, v=30, bits=to_bytes(ue(0, 0) + ue(2**32, 30)))


@vector("6.4", "UnlockError: tensor listed twice", message="twice", operation="open")
def content_twice() -> Made:
    """The same list again."""
    return contains(lambda content: [content[0], 2 * content[1], content[2]])


@vector("6.4", "UnlockError: tensors not sorted", message="out of order", operation="open")
def content_unsorted() -> Made:
    """The second tensor first."""
    stream = several(2, (50, 60), dependent=False)
    chosen = {UNIT: spread(stream, UNIT), UNIT + 1: spread(stream, UNIT + 1)}
    content = content_of(stream, chosen, [])
    return with_key(lock(stream, chosen, content=[content[0], content[1][::-1], content[2]]))


# The streams that it opens


def opening(*units: Any, name: Any = "") -> Made:
    """A lock that changed nothing, and opens a stream of other units."""
    return with_file(lambda _, digest, __: [name, digest, [*units]])


@vector("6.4", "UnlockError: content in the order of version 3", message="mal", operation="open")
def content_other_order() -> Made:
    """Digest, replaced, scrambled."""
    return contains(lambda content: [content[2][0][1], content[1], content[0]])


@vector("6.4", "UnlockError: content without files", message="set of streams", operation="open")
def content_no_files() -> Made:
    """A lock opens something."""
    return contains(lambda content: [*content[:2], []])


@vector("6.4", "UnlockError: file of four fields", message="malformed", operation="open")
def content_file_of_four_fields() -> Made:
    """One too many."""
    return with_file(lambda *fields: [*fields, 0])


@vector("6.4", "UnlockError: name that is no text", message="malformed", operation="open")
def content_name_of_bytes() -> Made:
    """A byte string."""
    return opening([0, 7], name=b"")


@vector("6.4", "UnlockError: name twice", message="malformed", operation="open")
def content_name_twice() -> Made:
    """The same entry again."""
    return contains(lambda content: [*content[:2], 2 * content[2]])


@vector("6.4", "UnlockError: names not sorted", message="malformed", operation="open")
def content_names_unsorted() -> Made:
    """`b.nnc` before `a.nnc`."""
    names = ("b.nnc", "a.nnc")
    return contains(lambda content: [*content[:2], [[n, *content[2][0][1:]] for n in names]])


@vector("6.4", "UnlockError: set of streams in a single one", message="set of", operation="open")
def content_named_file() -> Made:
    """A file of a set, where one stream is to take the trial's place."""
    return opening([0, 7], name="a.nnc")


@vector("6.4", "UnlockError: stream of no units", message="malformed", operation="open")
def content_no_units() -> Made:
    """An empty array."""
    return opening()


@vector("6.4", "UnlockError: empty byte string", message="malformed", operation="open")
def content_empty_units() -> Made:
    """A byte string that holds no unit."""
    return opening([0, 7], b"")


@vector("6.4", "UnlockError: run of no units", message="malformed", operation="open")
def content_run_of_none() -> Made:
    """A count of 0."""
    return opening([0, 7], [0, 0])


@vector("6.4", "UnlockError: run before the first unit", message="malformed", operation="open")
def content_negative_run() -> Made:
    """Position -1."""
    return opening([-1, 7])


@vector("6.4", "UnlockError: run of three numbers", message="malformed", operation="open")
def content_run_of_three() -> Made:
    """One too many."""
    return opening([0, 7, 0])


@vector("6.4", "UnlockError: unit behind the last", message="unit that is not", operation="open")
def names_run_too_long() -> Made:
    """Eight units of seven."""
    return opening([0, 8])


@vector("6.4", "UnlockError: run of 2^32 units", message="unit that is not", operation="open")
def names_huge_run() -> Made:
    """To list them takes more memory than there is."""
    return opening([0, 1 << 32])


@vector("6.4", "UnlockError: run at the largest position", message="unit that", operation="open")
def names_last_position() -> Made:
    """The end is 2^64, which does not fit into 64 bits."""
    return opening([(1 << 64) - 1, 1])


@vector("6.4", "UnlockError: bytes that are no units", message="well-formed", operation="open")
def carries_no_units() -> Made:
    """The size is more than there is."""
    return opening([0, 7], b"\0\x09ab")


@vector("6.4", "UnlockError: unit in two byte strings", message="well-formed", operation="open")
def carries_unit_in_parts() -> Made:
    """Joined they would be one."""
    unit = small()[6].read()
    return opening([0, 6], unit[:5], unit[5:])


@vector("6.4", "UnlockError: no start unit", message="well-formed", operation="open")
def carries_no_start() -> Made:
    """All units but the first."""
    return opening([1, 6])


@vector("6.4", "UnlockError: two start units", message="well-formed", operation="open")
def carries_two_streams() -> Made:
    """The stream, and then the units that it begins with."""
    return opening([0, 7], b"".join(unit.read() for unit in [*small()][:3]))


@vector("6.4", "UnlockError: unit named twice", message="malformed", operation="open")
def carries_unit_twice() -> Made:
    """Otherwise, a small file could open a stream of any size."""
    return opening([0, 7], [6, 1])


@vector("6.4", "UnlockError: other order of units", message="not what was", operation="open")
def carries_other_order() -> Made:
    """The last two change places."""
    return opening([0, 5], [6, 1], [5, 1])


@vector("6.4", "UnlockError: a bit of what is carried", message="not what was", operation="open")
def carries_other_bit() -> Made:
    """The last bit of a unit."""
    return opening([0, 6], flip_last_bit(small()[6].read()))


# What the content names


@vector("6.4", "UnlockError: unit that is not there", message="cannot be locked", operation="open")
def names_no_unit() -> Made:
    """Position 7 of 7 units."""
    return contains(lambda content: [[7], *content[1:]])


@vector("6.4", "UnlockError: unit before the first", message="cannot be locked", operation="open")
def names_negative_unit() -> Made:
    """Position -4, which in some languages is the fourth from the end."""
    return contains(lambda content: [content[0], [[-4, *content[1][0][1:]]], content[2]])


@vector(
    "6.4", "UnlockError: unit that is not eligible", message="cannot be locked", operation="open"
)
def names_integers() -> Made:
    """A tensor of integers."""
    steps = position(small(), "steps")
    return contains(lambda content: [[steps], *content[1:]])


@vector(
    "6.4", "UnlockError: position beyond the tensor", message="weight that is not", operation="open"
)
def names_position() -> Made:
    """The position after the last."""
    stream = small()
    size = tensor_of(stream, UNIT).indices.size
    return listed(positions=[*spread(stream, UNIT), size])


@vector(
    "6.4", "UnlockError: index that its state does not have", message="restored", operation="open"
)
def names_wrong_parity() -> Made:
    """The original index is 2k; listed is 2k - 1, which a careless encoder codes as the same k."""
    stream = small(dependent=True)
    chosen = {UNIT: spread(stream, UNIT)}
    tensor = tensor_of(stream, UNIT)
    indices = tensor.indices.copy()
    flat = indices.reshape(-1)
    at = next(at for at in chosen[UNIT] if not flat[at] % 2)
    flat[at] -= np.sign(flat[at])
    entry = replaced_entry(tensor.with_indices(indices), UNIT, chosen[UNIT])
    content = content_of(stream, chosen, [])
    return with_key(lock(stream, chosen, content=[content[0], [entry], content[2]]))


@vector(
    "6.4",
    "UnlockError: other start states in a locked tensor",
    message="not what",
    operation="open",
)
def locked_start_states() -> Made:
    """They are kept when indices are put back, so that the original is another."""
    stream = small(dependent=True)
    chosen = {UNIT: spread(stream, UNIT)}
    content = cbor2.dumps(content_of(stream, chosen, []))
    contexts = len(tensor_of(stream, UNIT).parameters.start_states)
    degraded = with_parameters(degrade(stream, chosen, []), UNIT, start_states=bytes(contexts))
    return with_key(hide_lock(degraded, content))


@vector(
    "6.4", "UnlockError: locked tensor is damaged", message="cannot be restored", operation="open"
)
def locked_tensor_damaged() -> Made:
    """The payload of a tensor that carries nothing breaks off."""
    stream, unit = scrambled_second()
    return with_key(stream_of(with_payload(stream, unit, lambda payload: payload[:-1])))


@vector("6.4", "UnlockError: size field of a locked tensor", message="cannot be", operation="open")
def locked_long_field() -> Made:
    """Four bytes where two would do, in a tensor that carries nothing."""
    stream, unit = scrambled_second()
    return with_key(stream_of(with_long_field(stream, unit)))


def scrambled_second() -> tuple[Stream, int]:
    """A lock that scrambles a tensor that does not carry its record, and where that is."""
    stream = several(2, (50, 60), dependent=True)
    unit = carrier_of(stream) + 1
    return lock(stream, {}, [unit]), unit


def stream_of(made: Made) -> Stream:
    return Stream.from_bytes(made.data)


@vector(
    "6.4", "UnlockError: digest of another stream", message="not what was locked", operation="open"
)
def content_other_digest() -> Made:
    """The last bit of the digest."""
    return with_file(lambda name, digest, units: [name, flip_last_bit(digest), units])


@vector("6.4", "UnlockError: lock of another stream", message="not what was", operation="open")
def lock_copied() -> Made:
    """Its record, in a stream in which it has the same place: it is authentic there."""
    stream, other = small(), small(seed=50)
    chosen = {UNIT: spread(other, UNIT)}
    content = bytes(cbor2.dumps(content_of(other, chosen, [])))
    return with_key(hide_lock(stream, content))


@vector(
    "6.4", "UnlockError: tensor changed after locking", message="not what was", operation="open"
)
def changed_below_lock() -> Made:
    """One bit of a tensor that carries nothing: the lock's record is right."""
    stream = locked(small())
    return Made(edit(stream, position(stream, "fc.weight"), -5), details=with_key(stream).details)


@vector(
    "6.4", "VerificationError: inner lock of another stream", message="authentic", operation="open"
)
def inner_lock_changed() -> Made:
    """Both have the right keys; the inner record was copied from another lock."""
    stream, other = small(), small(seed=50)
    chosen = {UNIT: spread(other, UNIT)}
    content = cbor2.dumps(content_of(other, chosen, []))
    foreign = seal(bytes(content), b"")
    inner = hide(stream, lambda aad: foreign, kind=3)
    return with_key(locked(inner, key=FULL.below()))
