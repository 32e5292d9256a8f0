"""The worked examples of the specification, printed from two vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2

from nnguard._hiding import extract
from nnguard._hiding.frame import FrameHeader
from nnguard._stream import Stream
from opening import lock_of
from vectors.selling import FULL, LOCK_DOMAIN, NONCE, derive
from vectors.toolbox import DOMAIN, VENDOR, with_checksum

EXAMPLE, LOCK_EXAMPLE = "two_carriers", "lock_first_and_last"
"""The vectors that they are printed from."""


def hexadecimal(data: bytes) -> str:
    return data.hex(" ") if len(data) <= 16 else f"{data[:12].hex(' ')} ... {data[-3:].hex(' ')}"


def annotate(header: FrameHeader) -> list[str]:
    """The bytes of a header and what they mean, a field a line."""
    data = bytes(header)
    lines = [
        (data[:4], "magic; version 4 of the frame"),
        (data[4:5], "kind: signature"),
        (data[5:6], f"layer {header.layer}"),
        (data[6:8], f"header: {len(data)} bytes"),
        (data[8:12], f"record: {header.record_size} bytes"),
    ]
    for unit, width in zip(header.carriers, header.widths, strict=True):
        bits = "1 bit" if width == 1 else f"{width} bits"
        lines.append((number(16 * unit + width - 1), f"carrier: unit {unit}, {bits} in a weight"))
    lines.append((data[-4:], "checksum of the header"))
    assert b"".join(part for part, _ in lines) == data
    return [f"{part.hex(' '):<13}{meaning}" for part, meaning in lines]


def number(value: int) -> bytes:
    """LEB128."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def diagnostic(value: Any, indent: str = "") -> str:
    """Return CBOR diagnostic notation (RFC 8949, section 8), an entry a line."""
    if isinstance(value, cbor2.CBORTag):
        return f"{value.tag}({diagnostic(value.value, indent)})"
    if isinstance(value, dict):
        items = [f"{diagnostic(k)}: {diagnostic(v, indent + '  ')}" for k, v in value.items()]
        return bracketed("{}", items, indent)
    if isinstance(value, list):
        return bracketed("[]", [diagnostic(item, indent + "  ") for item in value], indent)
    if isinstance(value, Embedded):
        return f"<< {diagnostic(cbor2.loads(value), indent)} >>"
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    return json.dumps(value, ensure_ascii=False)


def bracketed(brackets: str, items: list[str], indent: str) -> str:
    lines = ",".join(f"\n{indent}  {item}" for item in items)
    return f"{brackets[0]}{lines}\n{indent}{brackets[1]}" if items else brackets


class Embedded(bytes):
    """A byte string that holds CBOR."""


def example(folder: Path) -> str:
    """The worked examples of the specification, from the vectors in a folder."""
    streams = (
        Stream.from_bytes((folder / f"{name}.nnc").read_bytes()) for name in (EXAMPLE, LOCK_EXAMPLE)
    )
    signature, lock = streams
    return signature_example(signature) + "\n" + lock_example(lock)


def signature_example(stream: Stream) -> str:
    """A signature, byte by byte."""
    taken = extract(stream)
    header, record = taken.header, taken.record
    sizes = [f"{i} {unit.name}: {unit.size}" for i, unit in enumerate(stream)]
    message = cbor2.loads(record)
    aad = DOMAIN + bytes(header)
    to_be_signed = cbor2.dumps(["Signature1", message.value[0], aad, message.value[2]])
    message.value[0] = Embedded(message.value[0])
    public = VENDOR.public_key.parts[0].key.public_bytes_raw()
    digests = [d.hex() for d in taken.original.sha256_of_units()]
    lines = [
        f"`tests/vectors/{EXAMPLE}.nnc`: {stream.size} bytes, in units of (position, name, bytes)",
        "",
        *[f"    {line}" for line in sizes],
        "",
        "The header, at the beginning of what the primary carrier holds:",
        "",
        *[f"    {line}" for line in annotate(header)],
        "",
        f"The record, {len(record)} bytes (`{hexadecimal(record)}`), in diagnostic notation:",
        "",
        *[f"    {line}" for line in diagnostic(message).splitlines()],
        "",
        f"Its checksum is `{with_checksum(record)[-4:].hex(' ')}`. The public key is",
        f"`{public.hex()}`. SHA-256 of the original's units:",
        "",
        *[f"    {digest}" for digest in digests],
        "",
        f"The model digest of these {len(digests)} is the payload. `external_aad` has",
        f"{len(aad)} bytes: `{hexadecimal(aad)}`. The `Sig_structure` has",
        f"{len(to_be_signed)}, and the SHA-256",
        f"`{hashlib.sha256(to_be_signed).hexdigest()}`.",
    ]
    return "\n".join(lines) + "\n"


def lock_example(stream: Stream) -> str:
    """A lock and what is derived from its content key."""
    taken = extract(stream)
    lock = lock_of(taken)
    message = cbor2.loads(taken.record)
    aad = LOCK_DOMAIN + bytes(taken.header)
    structure = lock.envelope.associated_data(aad)
    content = FULL.open(lock.envelope, aad)
    assert content is not None
    message.value[0] = Embedded(message.value[0])
    assert lock.envelope.nonce == NONCE
    (entry,) = cbor2.loads(content)[1]
    keystream = FULL.keystream("scramble", NONCE).read(entry[0], 16)
    derived = {
        "content key": FULL.secret,
        "its kid": FULL.id,
        "record": derive(FULL, b"record", NONCE),
        "keystream scramble": derive(FULL, b"keystream scramble", NONCE),
        "tier below": FULL.below().secret,
    }
    lines = [
        f"`tests/vectors/{LOCK_EXAMPLE}.nnc` is a lock of two indices. Its content key, and what",
        "follows from it and the IV:",
        "",
        *[f"    {name:<20}{value.hex()}" for name, value in derived.items()],
        "",
        f"(Nothing is scrambled here. The keystream of unit {entry[0]} would begin with",
        f"`{keystream.hex()}`.) The record:",
        "",
        *[f"    {line}" for line in diagnostic(message).splitlines()],
        "",
        f"`external_aad` has {len(aad)} bytes: `{hexadecimal(aad)}`. The `Enc_structure` has",
        f"{len(structure)}, and the SHA-256",
        f"`{hashlib.sha256(structure).hexdigest()}`.",
        "The content:",
        "",
        *[f"    {line}" for line in diagnostic(cbor2.loads(content)).splitlines()],
    ]
    return "\n".join(lines) + "\n"


def with_example(page: str, text: str) -> str:
    """The specification with the worked example in its place."""
    start, end = "<!-- example -->\n", "<!-- /example -->"
    before, rest = page.split(start)
    return before + start + text + end + rest.split(end)[1]
