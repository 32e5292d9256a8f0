"""What vectors are made of: fixed keys, small streams, records and places that may be wrong."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import cbor2
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA87PrivateKey
from dilithium_py.ml_dsa import ML_DSA_65, ML_DSA_87

import nnguard
import stock
from nnguard._hiding import candidates
from nnguard._hiding.frame import FrameHeader, frame_record
from nnguard._hiding.tensor import Carrier
from nnguard._records.digest import model_digest
from nnguard._stream import Stream
from nnguard._stream.quantized import QuantizedTensor, decode, encode
from nnguard._stream.units import frame_unit, size_field
from nnguard.errors import FormatError
from one_tensor import capacity, embed_in

SEEDS = {
    "vendor": bytes(range(32)),
    "other": bytes(range(32, 64)),
    "partner": bytes(range(224, 256)),
}
_ED25519 = {name: Ed25519PrivateKey.from_private_bytes(seed) for name, seed in SEEDS.items()}
KEYS = {
    **{name: nnguard.SigningKey(key) for name, key in _ED25519.items()},
    "p256": nnguard.SigningKey(ec.derive_private_key(0x256, ec.SECP256R1())),
    "p384": nnguard.SigningKey(ec.derive_private_key(0x384, ec.SECP384R1())),
    "hybrid_65": nnguard.SigningKey(
        _ED25519["vendor"], MLDSA65PrivateKey.from_seed_bytes(SEEDS["vendor"])
    ),
    "hybrid_87": nnguard.SigningKey(
        _ED25519["vendor"], MLDSA87PrivateKey.from_seed_bytes(SEEDS["vendor"])
    ),
}
VENDOR, OTHER, PARTNER = KEYS["vendor"], KEYS["other"], KEYS["partner"]
P256, P384 = KEYS["p256"], KEYS["p384"]
HYBRID_65, HYBRID_87 = KEYS["hybrid_65"], KEYS["hybrid_87"]
TRUSTED = ("vendor", "partner")
ISSUED = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
CLAIMS = {"issuer": "vendor.example", "name": "small", "version": "1.0"}
DOMAIN = b"nnguard signature v1\0"
LABELS = {"iss": 1, "sub": 2, "iat": 6}

_LEAST = 8 * 64
"""Bits of a tensor that a vector's record may go into."""


@dataclass(frozen=True)
class Made:
    """A file, and what goes with it.

    Attributes:
        data: The stream.
        original: What a reader MUST get back.
        details: What else `vectors.json` says: what an operation is given, and what it answers.
        texts: Files beside it: suffix and text.
        file: Vector that has this stream in its file already, or this folder, if one has.
        files: Instead of a stream, the files of a folder: names and contents.
    """

    data: bytes = b""
    original: bytes | None = None
    details: tuple[tuple[str, Any], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    file: str = ""
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Vector:
    """An entry of `vectors.json`.

    Attributes:
        name: That of its files.
        section: Of the specification, where the rule is.
        expect: The outcome; after a colon, what is wrong, which for a LicenseError and a
            PolicyError is the reason.
        about: What is in the file.
        message: Part of what nnguard says; no other implementation has to.
        operation: `verify`, `detach`, `open` or `unlock`; with `-set` one of a folder; or `judge`.
        make: Makes it.
    """

    name: str
    section: str
    expect: str
    about: str
    message: str
    operation: str
    make: Callable[[], Made]


VECTORS: list[Vector] = []


def vector(
    section: str, expect: str, *, message: str = "", operation: str = "verify"
) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Register a function, whose name and docstring become those of the vector."""

    def register(make: Callable[[], Made]) -> Callable[[], Made]:
        about = " ".join((make.__doc__ or "").split())
        VECTORS.append(Vector(make.__name__, section, expect, about, message, operation, make))
        return make

    return register


# Streams and records that vectors are made of.


def weights(shape: tuple[int, ...], seed: int, scale: float = 0.05) -> stock.Array:
    """Laplace weights, rounded so that the last bits of the C library's logarithm do not matter."""
    drawn = np.random.RandomState(seed).laplace(0, scale, shape)
    return np.asarray(np.round(drawn * 4096) / 4096, np.float32)


@functools.cache
def small(*, dependent: bool = False, seed: int = 1, **options: Any) -> Stream:
    """One tensor that can carry, at position 3, and three that cannot."""
    arrays = {
        "conv.weight": weights((36, 18, 3, 3), seed),
        "conv.bias": weights((36,), seed + 1),
        "fc.weight": weights((10, 20), seed + 2),
        "steps": np.array([7], np.int32),
    }
    data = stock.encode(arrays, qp=-24, dependent=dependent, **options)
    return Stream.from_bytes(data)


@functools.cache
def several(count: int, shape: tuple[int, ...], **options: Any) -> Stream:
    """As many tensors that can carry."""
    arrays = {f"layer{n}.weight": weights(shape, 10 + n) for n in range(count)}
    return Stream.from_bytes(stock.encode(arrays, qp=-24, **options))


def carrier_of(stream: Stream, ending: str = "weight") -> int:
    return next(i for i, unit in enumerate(stream) if unit.name.endswith(ending))


@functools.cache
def far_away(*, whole: bool = False) -> Stream:
    """A tensor of 2^17 weights, nearly all zeros, and a damaged one of as many before it.

    Args:
        whole: A third of 256 weights, all zeros, which a reader looks at first.
    """
    far = np.zeros((128, 1024), np.float32)
    far[:4] = weights((4, 1024), 6)
    arrays = {"far": far} | ({"whole": np.zeros((16, 16), np.float32)} if whole else {})
    stream = Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))
    units = [unit.read() for unit in stream]
    return Stream.from_bytes(b"".join([*units[:2], float_unit((64, 2048), b"\xff"), *units[2:]]))


def sixteen_bits(rows: int) -> Stream:
    """A tensor of 256 columns, nearly all zeros, which a few sixteen-bit numbers do not change."""
    array = np.zeros((rows, 256), np.float32)
    array[:2] = weights((2, 256), 6)
    return Stream.from_bytes(stock.encode({"w": array}, qp=-24, dependent=False))


def position(stream: Stream, name: str) -> int:
    return next(i for i, unit in enumerate(stream) if unit.name == name)


def sign(
    stream: Stream,
    key: nnguard.SigningKey = VENDOR,
    *,
    carriers: int = 1,
    bits: int | tuple[int, ...] = 1,
    **options: Any,
) -> Stream:
    """Sign by a plan that stays as it is, whatever planner nnguard has."""
    cwt = {LABELS.get(label, label): value for label, value in claims_of(**options).items()}
    if "shard" in options:
        cwt["shard"] = options["shard"]
    digests = [digest[:4] for digest in stream.sha256_of_units()]
    units = b"".join(digests) if options.get("localize") else None

    def record(aad: bytes) -> bytes:
        return envelope(stream, aad, key=key, header={15: cwt, "units": units})

    return hide(stream, record, carriers=carriers, bits=bits)


def attach(stream: Stream, payload: bytes, media_type: str = "text/markdown") -> Stream:
    """Attach by a plan that stays as it is."""
    record = cbor2.dumps([media_type, digest_of(stream), payload])
    return hide(stream, lambda _: bytes(record), kind=2)


def signed(stream: Stream, details: dict[str, Any] | None = None, **options: Any) -> Made:
    """Sign with the usual claims, but for the options."""
    described = describe(stream, {"claims": claims_of(**options), **(details or {})})
    return Made(bytes(sign(stream, **options)), bytes(stream), described)


def claims_of(**options: Any) -> dict[str, Any]:
    """The claims of a signature, by the names of section 6.1, as JSON."""
    names = {
        "issuer": "iss",
        "name": "sub",
        "version": "version",
        "release": "release",
        "metadata": "meta",
    }
    claims = {**CLAIMS, **options}
    found = {name: claims[option] for option, name in names.items() if option in claims}
    if "shard" in options:
        digest, *place = options["shard"]
        found["shard"] = [digest.hex(), *place]
    return {**found, "iat": int(ISSUED.timestamp())}


def describe(stream: Stream, details: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Tell what a reader finds in a release of the vendor's."""
    kid, digest = VENDOR.public_key.id.hex(), digest_of(stream).hex()
    return tuple({"kid": kid, "digest": digest, "layers": 1, **details}.items())


def digest_of(
    model: Stream | Mapping[str, Stream], beside: Mapping[str, bytes] | None = None
) -> bytes:
    """The model digest of a stream, or the set digest of streams and of files beside them."""
    if isinstance(model, Stream):
        return model_digest(model.sha256_of_units())
    digests = {name: digest_of(stream) for name, stream in model.items()}
    files = {name: hashlib.sha256(data).digest() for name, data in (beside or {}).items()}
    parts = [b"nnguard set digest v1\0"]
    for each in (digests, files) if files else (digests,):
        parts.append(len(each).to_bytes(4, "big"))
        for name, digest in sorted(each.items()):
            parts += [len(name.encode()).to_bytes(4, "big"), name.encode(), digest]
    return hashlib.sha256(b"".join(parts)).digest()


def sha256_of(model: Mapping[str, Stream]) -> dict[str, str]:
    """SHA-256 of all bytes of the streams of a set."""
    return {name: hashlib.sha256(bytes(stream)).hexdigest() for name, stream in model.items()}


def payload_header() -> dict[Any, Any]:
    """The protected header of a signature, without `alg` and `kid`."""
    claims = {1: CLAIMS["issuer"], 2: CLAIMS["name"], 6: int(ISSUED.timestamp())}
    return {15: claims, 258: -16, 259: 42}


def signed_message(
    key: nnguard.SigningKey, header: dict[Any, Any], payload: bytes, aad: bytes
) -> bytes:
    """A COSE_Sign1, or of a hybrid a COSE_Sign, made by hand."""
    own = [cose_header(key, part) for part in range(len(key.parts))]
    if len(own) == 1:
        protected = cbor2.dumps({**header, **cbor2.loads(own[0])}, canonical=True)
        value = key.sign(cbor2.dumps(["Signature1", protected, aad, payload]))
        return bytes(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, value])))
    protected = cbor2.dumps(header, canonical=True)
    signatures = [
        [mine, {}, sign_part(part, cbor2.dumps(["Signature", protected, mine, aad, payload]))]
        for part, mine in zip(key.parts, own, strict=True)
    ]
    return bytes(cbor2.dumps(cbor2.CBORTag(98, [protected, {}, payload, signatures])))


def cose_header(key: nnguard.SigningKey, part: int) -> bytes:
    """The protected header of one of a key's signatures in a COSE_Sign."""
    header = {1: key.parts[part].algorithm.number, 4: key.public_key.id}
    return bytes(cbor2.dumps(header, canonical=True))


def sign_part(part: Any, data: bytes) -> bytes:
    """Sign with a single key, the same each time: ML-DSA is random in `cryptography`."""
    schemes = {MLDSA65PrivateKey: ML_DSA_65, MLDSA87PrivateKey: ML_DSA_87}
    scheme = next((s for kind, s in schemes.items() if isinstance(part.key, kind)), None)
    if scheme is None:
        return bytes(part.sign(data))
    _, private = scheme.key_derive(part.key.private_bytes_raw())
    return bytes(scheme.sign(private, data, deterministic=True))


def envelope(stream: Stream, aad: bytes, **changes: Any) -> bytes:
    """A signature record made by hand, right but for what is changed.

    Args:
        stream: What is signed.
        aad: `external_aad`.
        changes: `key`: who signs; `header`: entries of the protected header, None to leave one
            out; `protected`: its bytes; `unprotected`, `payload`, `signature`, `tag`: fields of the
            message.
    """
    key = changes.get("key", VENDOR)
    header = {
        1: -19,
        4: key.public_key.id,
        15: {1: CLAIMS["issuer"], 2: CLAIMS["name"], 6: int(ISSUED.timestamp())},
        258: -16,
        259: 42,
        **changes.get("header", {}),
    }
    header = {label: value for label, value in header.items() if value is not None}
    protected = changes.get("protected", cbor2.dumps(header, canonical=True))
    payload = changes.get("payload", digest_of(stream))
    to_be_signed = cbor2.dumps(["Signature1", protected, aad, payload])
    signature = changes.get("signature", key.sign(to_be_signed))
    fields = [protected, changes.get("unprotected", {}), payload, signature]
    tag = changes.get("tag", 18)
    return bytes(cbor2.dumps(fields if tag is None else cbor2.CBORTag(tag, fields)))


def hide(
    stream: Stream,
    make_record: Callable[[bytes], bytes],
    kind: int = 1,
    carriers: int = 1,
    domain: bytes = DOMAIN,
    bits: int | tuple[int, ...] = 1,
) -> Stream:
    """Hide a record that is made once the header is known; `bits` of all carriers, or of each."""
    header = plan(stream, kind, len(make_record(b"")), carriers, bits)
    record = make_record(domain + bytes(header))
    return place(stream, header.carriers, frame_record(header, record), bits=header.widths)


def plan(
    stream: Stream, kind: int, size: int, count: int = 1, bits: int | tuple[int, ...] = 1
) -> FrameHeader:
    """List the first carriers in order, as many as asked for, which is as many as it takes."""
    rooms: dict[int, int] = {}
    widths = (bits,) * count if isinstance(bits, int) else bits
    for at in candidates(stream):
        with contextlib.suppress(FormatError):
            if (room := capacity(decode(stream[at]).indices, widths[len(rooms)])) >= _LEAST:
                rooms[at] = room
        if len(rooms) == count:
            break
    below = Carrier(stream[next(iter(rooms))], keep=True).find_header()
    header = FrameHeader(kind, 1 + below.layer if below else 1, size, tuple(rooms), widths)
    needed = 8 * (len(bytes(header)) + size + 4)
    assert sum([*rooms.values()][:-1]) < needed <= sum(rooms.values()), (rooms, needed)
    return header


def malformed(**changes: Any) -> Made:
    stream = small()
    return Made(bytes(hide(stream, lambda aad: envelope(stream, aad, **changes))))


def tensor_of(stream: Stream, index: int) -> QuantizedTensor:
    return decode(stream[index])


def place(
    stream: Stream,
    carriers: Sequence[int],
    data: bytes,
    padding: int = 0,
    bits: int | tuple[int, ...] = 1,
) -> Stream:
    """Put bytes at places, without asking whether they make sense; `padding` fills the others."""
    rest = np.unpackbits(np.frombuffer(data, np.uint8))
    units = {}
    widths = (bits,) * len(carriers) if isinstance(bits, int) else bits
    for carrier, width in zip(carriers, widths, strict=True):
        tensor = tensor_of(stream, carrier)
        room = capacity(tensor.indices, width)
        here = np.full(room, padding, np.uint8)
        here[: rest[:room].size] = rest[:room]
        units[carrier] = encode(embed_in(tensor, here, width))
        rest = rest[room:]
    assert not rest.size
    return stream.replace(units)


def header_of(stream: Stream) -> FrameHeader:
    """The header for a signature."""
    return plan(stream, 1, len(envelope(stream, b"")))


def frame_of(stream: Stream, header: FrameHeader) -> bytes:
    """What is hidden for a signature under a header."""
    return frame_record(header, envelope(stream, DOMAIN + bytes(header)))


def with_header(
    stream: Stream, header: FrameHeader, *, signed_as: FrameHeader | None = None
) -> Made:
    """A signature under a header of our own; it may be signed as under another."""
    size = len(envelope(stream, b""))
    header = replace(header, record_size=size)
    record = envelope(stream, DOMAIN + bytes(signed_as or header))
    data = frame_record(header, record)
    return Made(bytes(place(stream, header.carriers, data, bits=header.widths)))


def with_carriers(header: FrameHeader, *carriers: int, bits: int = 1) -> FrameHeader:
    """The header with other carriers, of so many bits in a weight."""
    return replace(header, carriers=carriers, widths=(bits,) * len(carriers))


def edit(stream: Stream, index: int, at: int, mask: int = 1) -> bytes:
    """The stream with bits of one byte of a unit flipped; `at` may count from the unit's end."""
    units = [bytearray(unit.read()) for unit in stream]
    units[index][at] ^= mask
    return b"".join(units)


def with_parameters(stream: Stream, index: int, **changes: Any) -> Stream:
    """The same indices under start states or row flags of another encoder."""
    tensor = tensor_of(stream, index)
    parameters = replace(tensor.parameters, **changes)
    assert parameters != tensor.parameters
    return stream.replace({index: encode(replace(tensor, parameters=parameters))})


def with_payload(stream: Stream, index: int, change: Callable[[bytes], bytes]) -> Made:
    """A stream with another payload, whose unit has the size that this takes."""
    units = [unit.read() for unit in stream]
    header, unit = stream[index].tensor, units[index]
    assert header is not None
    start, at = size_field(unit), header.payload_offset
    units[index] = frame_unit(unit[start:at] + change(unit[at:]))
    return Made(b"".join(units))


def with_long_field(stream: Stream, index: int) -> Made:
    """A stream of which one unit has a size field of four bytes where two would do."""
    units = [unit.read() for unit in stream]
    assert units[index][0] < 0x80
    units[index] = ((len(units[index]) + 2) | 1 << 31).to_bytes(4, "big") + units[index][2:]
    return Made(b"".join(units))


def float_unit(shape: tuple[int, int], payload: bytes, unary_length: int = 11) -> bytes:
    """A data unit of profile 1, URQ, with any payload."""
    bits = "00001001" + text_bits("w") + "000" + "110000" + ue(2, 1)
    bits += "".join(ue(dimension, 7) for dimension in shape)
    bits += f"{unary_length - 1:08b}" + ue(0, 1) + "0000" + "1"
    bits += "0" * (-len(bits) % 8)
    header = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return frame_unit(bytes([5 << 2]) + header + payload)


def with_checksum(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "big")


def ue(value: int, order: int) -> str:
    """Exp-Golomb code as a string of bits."""
    zeros = 0
    while value >= 1 << (order + zeros):
        value -= 1 << (order + zeros)
        zeros += 1
    return "0" * zeros + "1" + (f"{value:0{order + zeros}b}" if order + zeros else "")


def text_bits(text: str) -> str:
    return "".join(f"{byte:08b}" for byte in (*text.encode(), 0))
