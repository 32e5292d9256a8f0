"""A second reader, written from `docs/SPEC.md` alone: nothing of nnguard is used here.

It shows that the page says all that is needed; `second_coder` codes payloads. Numbers in docstrings
are sections of that page. It reads whole files into memory and is as slow as it likes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from fractions import Fraction
from math import prod
from typing import Any

import cbor2
import numpy as np
import numpy.typing as npt

import second_coder
import second_signatures
from second_signatures import VendorKey, read_message

__all__ = ["Outcome", "Taken", "detach", "verify"]

Indices = npt.NDArray[np.int32]
NEXT = ((0, 7, 1, 6, 2, 5, 3, 4), (2, 5, 3, 4, 0, 7, 1, 6))
"""4: the states that follow an even number and an odd one."""

Bits = npt.NDArray[np.bool_]


class Outcome(Exception):  # noqa: N818 (the specification's word)
    """Why a stream was refused; `name` is one of those of section 1."""

    def __init__(self, name: str, what: str, tensors: tuple[int, ...] = ()) -> None:
        super().__init__(f"{name}: {what}")
        self.name, self.tensors = name, tensors


@dataclass
class Taken:
    """A record taken out of a stream."""

    kind: int
    layer: int
    header: bytes
    record: bytes
    original: list[bytes]


class Fields:
    """2.2, 2.3: the bits of a unit's header."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.at = data[:65536], 8 * start

    def u(self, width: int) -> int:
        end = self.at + width
        if end > 8 * len(self.data):
            raise Outcome("FormatError", "header ends too early")
        window = int.from_bytes(self.data[self.at // 8 : (end + 7) // 8], "big")
        self.at = end
        return window >> -end % 8 & (1 << width) - 1

    def ue(self, k: int) -> int:
        z = 0
        while not self.u(1):
            z += 1
        if k + z > 32:
            raise Outcome("FormatError", "number is too large")
        return ((1 << z) - 1 << k) + self.u(k + z)

    def st(self) -> None:
        text = bytes(iter(lambda: self.u(8), 0))
        try:
            text.decode()
        except UnicodeDecodeError:
            raise Outcome("FormatError", "text is not UTF-8") from None


def split(data: bytes) -> list[bytes]:
    """2.1."""
    units = []
    most = min(max(1 << 15, len(data) // 32), 1 << 20)
    while data:
        width = 4 if data[0] >> 7 else 2
        size = int.from_bytes(data[:width], "big") & (0x7FFFFFFF if width == 4 else 0x7FFF)
        if not width < size <= len(data):
            raise Outcome("FormatError", "unit runs past the end")
        units.append(data[:size])
        data = data[size:]
        if len(units) > most:
            raise Outcome("LimitError", "too many units")
    return units


def eligible(units: list[bytes]) -> dict[int, Carrier]:
    """3: all tensors that may carry, by position, the best primary carrier first."""
    tensors = {at: each for at, each in coded(units).items() if each.size >= 256}
    best = Fraction(2048)
    return dict(sorted(tensors.items(), key=lambda t: max(t[1].size / best, best / t[1].size)))


def coded(units: list[bytes]) -> dict[int, Carrier]:
    """3: all tensors that are eligible, but for the least number of weights."""
    return {
        at: each
        for at, each in quantized(units).items()
        if each.size <= 1 << 28 and each.cost <= max(1 << 18, 8 * len(each.unit))
    }


def quantized(units: list[bytes]) -> dict[int, Carrier]:
    """2.1 to 2.3: all FLOAT tensors that are not opaque, by position."""
    tensors: dict[int, Carrier] = {}
    profile, model = 0, None
    if not units:
        raise Outcome("FormatError", "empty")
    for position, unit in enumerate(units):
        width = 4 if unit[0] >> 7 else 2
        kind, opaque = unit[width] >> 2, unit[width] & 1
        if (kind == 0) != (position == 0) or (
            kind == 0 and (opaque or width > 2 or unit[3:] == b"")
        ):
            raise Outcome("FormatError", "the first unit, and only it, is a start unit")
        if kind == 0:
            profile = unit[3]
        elif kind == 1 and not opaque:
            if model is not None:
                raise Outcome("FormatError", "second model parameter set")
            model = read_model(Fields(unit, width + 1), profile)
        elif kind == 2 and model is not None:
            model = (None, *model[1:])
        elif kind == 5 and not opaque:
            if model is None:
                raise Outcome("FormatError", "no model parameter set")
            tensor = read_tensor(Fields(unit, width + 1), unit, profile, *model)
            if tensor:
                tensors[position] = tensor
    return tensors


def read_model(bits: Fields, profile: int) -> tuple[int | None, int, int]:
    """2.2: density, indexed names, parent signalling."""
    quantized, indexed, parent = bits.u(8) & 3, bits.u(1), 0
    flags = bits.u(7)
    if profile == 1:
        parent = flags >> 3 & 1
        for _ in range((flags >> 6) + bool(flags & 0b110000)):
            bits.st()
    density = bits.u(16) >> 13 if quantized else None
    return density, indexed, parent


def read_tensor(
    bits: Fields, unit: bytes, profile: int, density: int | None, indexed: int, parent: int
) -> Carrier | None:
    """2.3: a FLOAT tensor that is not opaque."""
    kind, several, with_format, with_input = bits.u(5), bits.u(1), bits.u(1), bits.u(1)
    if several or indexed:
        return None
    bits.st()
    if kind > 2 or not with_input or profile > 1:
        return None
    if profile == 1 and bits.u(1):
        _ = bits.ue(1), bits.ue(5), bits.ue(4)
    if (profile == 1 and parent and bits.u(1)) or (kind == 1 and bits.u(1)):
        return None
    dependent = bits.u(1) if kind != 2 else 0
    bits.u(7 if with_format else 0)
    with_shape, with_unary, types = bits.u(1), bits.u(1), bits.u(4)
    if not with_shape or types:
        return None
    if not 1 <= (count := bits.ue(1)) <= 32:
        raise Outcome("FormatError", "dimensions")
    shape = [bits.ue(7) for _ in range(count)]
    unary = bits.u(8) + 1 if with_unary else 10
    if count > 1:
        _ = bits.ue(1) if profile == 1 else 0
        if bits.u(4):
            return None
    rest = 8 - bits.at % 8
    if bits.u(rest) != 1 << rest - 1:
        raise Outcome("FormatError", "alignment")
    if 0 in shape or kind != 1 or density is None:
        return None
    return Carrier(unit, shape, dependent, unary, bits.at // 8, profile, density)


@dataclass
class Carrier:
    """2.4: a FLOAT tensor and its payload."""

    unit: bytes
    shape: list[int]
    dependent: int
    unary: int
    start: int
    profile: int
    density: int

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def cost(self) -> int:
        """3: what decoding takes, in weights."""
        return self.size * max(self.unary, 11) // 11

    @property
    def fields(self) -> dict[str, Any]:
        """What `second_coder` has to know of the header."""
        return {
            "rows": self.shape[0],
            "width": prod(self.shape[1:]),
            "dependent": self.dependent == 1,
            "unary_length": self.unary,
            "qp_bits": 6 + self.density,
            "row_flag": self.profile == 1,
        }

    @property
    def body(self) -> bytes:
        return self.unit[4 if self.unit[0] >> 7 else 2 :]

    def decode(self) -> Indices:
        """Give the indices; keep the rest for `encode`."""
        if sized(self.body) != self.unit:
            raise Outcome("FormatError", "the size field has another form")
        try:
            self.found = decode_payload(self.unit[self.start :], *self.fields.items())
        except second_coder.Damaged:
            raise Outcome("FormatError", "the decoder refuses the payload") from None
        self.qp = self.found.qp
        return np.array(self.found.indices, np.int64).astype(np.int32).reshape(self.shape)

    def integers(self) -> list[int]:
        """2.4.5: what is coded."""
        indices: list[int] = self.decode().reshape(-1).tolist()
        if not self.dependent:
            return indices
        return [(abs(v) + 1) // 2 * (1 if v > 0 else -1) for v in indices]

    def indices_of(self, coded: list[int]) -> list[int]:
        """2.4.5: the indices that are coded so."""
        if not self.dependent:
            return coded
        found, state = [], 0
        for k in coded:
            magnitude = 2 * abs(k) - state % 2 if k else 0
            found.append(magnitude if k > 0 else -magnitude)
            state = NEXT[k % 2][state]
        return found

    def encode(self, indices: Indices, width: int = 0) -> bytes:
        """2.4.10: the whole unit, after `decode`; its step was divided by 2^width."""
        fields = {
            **self.fields,
            "qp": self.qp + width * (1 << self.density),
            "start_states": self.found.start_states,
            "skipped_rows": self.found.skipped_rows,
        }
        payload = encode_payload(tuple(indices.reshape(-1).tolist()), *fields.items())
        return sized(self.body[: len(self.body) - len(self.unit) + self.start] + payload)

    def can_be_marked(self, width: int) -> bool:
        """4, first condition."""
        return self.qp + width * (1 << self.density) < 1 << 5 + self.density

    def extract(self, indices: Indices, width: int) -> tuple[Bits, Indices, bool]:
        """4: the bits, what is left, and whether its magnitudes are right."""
        bits, left, state = [], [], 0
        n, h = 1 << width, 1 << width - 1
        for position, v in enumerate(indices.reshape(-1).tolist()):
            m = b = j = 0
            if v and self.dependent:
                q, odd = state % 2, v % 2
                coded = (abs(v) + 1) // 2
                j = -(-coded // n) if q else (coded + h - odd) // n
                b, m = (coded - h * q) % n, 2 * j - q
            elif v:
                m, b = (abs(v) + h - 1 + position % 2) // n, abs(v) % n
            if v:
                bits.extend(b >> at & 1 == 1 for at in range(width - 1, -1, -1))
            left.append(m if v > 0 else -m)
            state = NEXT[j % 2][state]
        original = np.array(left, np.int64).reshape(indices.shape)
        small = abs(original).max(initial=0) <= (1 << 30 - width) - 4
        right = np.array_equal(original == 0, indices == 0) and small
        return np.array(bits, bool), original.astype(np.int32), bool(right)


@functools.lru_cache(64)
def decode_payload(payload: bytes, *fields: tuple[str, Any]) -> second_coder.Decoded:
    return second_coder.decode_payload(payload, **dict(fields))


@functools.lru_cache(64)
def encode_payload(indices: tuple[int, ...], *fields: tuple[str, Any]) -> bytes:
    return second_coder.encode_payload(indices, **dict(fields))


def sized(body: bytes) -> bytes:
    """2.4.10."""
    if len(body) + 2 < 32768:
        return (len(body) + 2).to_bytes(2, "big") + body
    return (len(body) + 4 + (1 << 31)).to_bytes(4, "big") + body


def to_bytes(bits: Bits) -> bytes:
    """5: whole bytes only."""
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def checked(data: bytes) -> bool:
    return len(data) > 4 and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big")


def read_carriers(data: bytes) -> dict[int, int]:
    """5: positions and `k` of a header's carriers; none where the list is malformed."""
    numbers: list[int] = []
    while data:
        size = next((i + 1 for i, byte in enumerate(data[:6]) if byte < 128), 0)
        if not size or (size > 1 and data[size - 1] == 0):
            return {}
        numbers.append(sum((byte & 127) << 7 * i for i, byte in enumerate(data[:size])))
        data = data[size:]
    carriers = {number // 16: number % 16 + 1 for number in numbers}
    return carriers if len(carriers) == len(numbers) else {}


def read_header(data: bytes) -> tuple[bytes, dict[int, int]] | None:
    """5: the header's bytes, and all carriers with the `k` of each."""
    size = int.from_bytes(data[6:8], "big")
    header, carriers = data[:size], read_carriers(data[12 : max(size - 4, 0)])
    whole = data[:4] == b"\x9eNQ\x04" and len(header) == size and checked(header)
    small = int.from_bytes(header[8:12], "big") <= (1 << 31) - 65536
    return (header, carriers) if whole and header[5] and carriers and small else None


def find_header(tensors: dict[int, Carrier]) -> tuple[bytes, dict[int, int]]:
    """5.1."""
    cost, damaged = 0, False
    for rank, (position, carrier) in enumerate(list(tensors.items())[:8]):
        cost += carrier.cost
        if rank and cost > 1 << 18:
            break
        try:
            indices = carrier.decode()
        except Outcome:
            damaged = damaged or rank == 0
            continue
        beginning = indices.reshape(-1)[: first_places(indices, 32)]
        for width in range(1, 17):
            if not carrier.can_be_marked(width):
                break
            if not to_bytes(carrier.extract(beginning, width)[0]).startswith(b"\x9eNQ\x04"):
                continue
            header = read_header(to_bytes(carrier.extract(indices, width)[0]))
            if header is not None and next(iter(header[1].items())) == (position, width):
                return header
    if damaged:
        raise Outcome("FormatError", "the tensor that would hold a record is damaged")
    raise Outcome("NoRecordError", "no header")


def first_places(indices: Indices, count: int) -> int:
    """4: how far the first places reach."""
    return int((np.flatnonzero(indices)[:count].tolist() or [-1])[-1]) + 1


def plan(units: list[bytes], kind: int, size: int, *, of_copy: bool = False) -> bytes | None:
    """5.2: the header of a record of so many bytes, if there is one; 6.7 for that of a copy."""
    tensors = eligible(units)
    layer, last = 1, None
    with contextlib.suppress(Outcome):
        below, carriers = find_header(tensors)
        layer, last = below[5] + 1, next(iter(carriers))
    if layer > 255:
        return None
    best: tuple[int, bytes] | None = None
    for most in range(1, 17):
        with contextlib.suppress(NoPlanForWidth):
            if header := plan_with(units, tensors, bytes([kind, layer]), size, last, most):
                if not of_copy:
                    return header
                cost = price(header, tensors)
                best = best if best and best[0] < cost else (cost, header)
    return best and best[1]


def price(header: bytes, tensors: dict[int, Carrier]) -> int:
    """6.7: `b + 2 n`."""
    carriers = read_carriers(header[12:-4])
    bits = sum(k * (room(tensors[at], k) or (0, 0))[1] for at, k in carriers.items())
    return bits + 2 * sum(tensors[at].size for at in carriers)


def plan_with(
    units: list[bytes],
    tensors: dict[int, Carrier],
    what: bytes,
    size: int,
    last: int | None,
    w: int,
) -> bytes | None:
    """5.2 for one number `w`."""
    cost = 0
    for rank, primary in enumerate(list(tensors)[:8]):
        cost += tensors[primary].cost
        if rank and cost > 1 << 18:
            break
        for largest in (False, True) if room(tensors[primary], w) is not None else ():
            with contextlib.suppress(NoPlan):
                return complete(tensors, primary, what, size, most_cost(units), w, largest=largest)
        if primary == last:
            break
    return None


class NoPlan(Exception):  # noqa: N818
    """5.2: this way fails."""


class NoPlanForWidth(Exception):  # noqa: N818
    """5.2: all ways fail with this `w`."""


def complete(
    tensors: dict[int, Carrier],
    primary: int,
    what: bytes,
    size: int,
    most: int,
    w: int,
    *,
    largest: bool,
) -> bytes:
    """5.2, steps 1 to 5."""
    listed = {primary: room(tensors[primary], w) or (0, 0)}
    left = sorted((t.size, at) for at, t in tensors.items() if at != primary)
    cost = tensors[primary].cost
    while True:
        header = make_header(what, size, {at: k for at, (k, _) in listed.items()})
        k, places = listed[primary]
        if 8 * len(header) > k * places:
            raise NoPlan
        bits = 8 * (len(header) + size + 4) - sum(k * places for k, places in listed.values())
        missing = -(-bits // w)
        if missing <= 0:
            return header
        if not left:
            raise NoPlanForWidth
        enough = [rank for rank, (weights, _) in enumerate(left) if weights >= missing]
        chosen = enough[0] if enough and not largest else len(left)
        if chosen == len(left) or (chosen and left[chosen][0] > missing * 5 / 4):
            chosen -= 1
        at = left.pop(chosen)[1]
        cost += tensors[at].cost
        if cost * max(w, 4) > 4 * most:
            raise NoPlanForWidth
        if found := room(tensors[at], w):
            listed |= {at: found} if all(found) else {}


def room(carrier: Carrier, most: int) -> tuple[int, int] | None:
    """4: the largest `k` up to `most`, 0 where none is allowed, and how many places there are.

    None where the decoder refuses the tensor.
    """
    try:
        indices = carrier.decode().astype(np.int64)
    except Outcome:
        return None
    largest = int(abs(indices).max())
    allowed = [
        k
        for k in range(1, most + 1)
        if carrier.qp - k * (1 << carrier.density) >= -(1 << 5 + carrier.density)
        and largest <= (1 << 30 - k) - 4
    ]
    return max(allowed, default=0), int((indices != 0).sum())


def make_header(what: bytes, size: int, carriers: dict[int, int]) -> bytes:
    """5: kind and layer, the record's size, the carriers."""
    encoded = b""
    for position, k in carriers.items():
        number = 16 * position + k - 1
        while number > 127:
            encoded += bytes([number & 127 | 128])
            number >>= 7
        encoded += bytes([number])
    if 16 + len(encoded) > 65535:
        raise Outcome("LimitError", "the header is too large")
    header = b"\x9eNQ\x04" + what + (16 + len(encoded)).to_bytes(2, "big")
    header += size.to_bytes(4, "big") + encoded
    return header + zlib.crc32(header).to_bytes(4, "big")


def most_cost(units: list[bytes]) -> int:
    """8: of all carriers."""
    return min(max(1 << 18, 8 * sum(map(len, units))), 1 << 28)


def take_out(units: list[bytes], *, vouched: bool = False) -> Taken:
    """7, steps 1 to 5; the units are those of `split`, `vouched` for as in 8."""
    tensors = eligible(units)
    header, carriers = find_header(tensors)
    if any(at not in tensors for at in carriers):
        raise Outcome("VerificationError", "the header does not fit the stream")
    cost = sum(tensors[at].cost * max(k, 4) for at, k in carriers.items())  # in quarters
    if cost > 4 * most_cost(units) and not vouched:
        raise Outcome("LimitError", "too much work for such a stream")
    hidden: list[Bits] = []
    original = list(units)
    for at, k in carriers.items():
        carrier = tensors[at]
        indices = carrier.decode()
        bits, left, right = carrier.extract(indices, k)
        if not right or not carrier.can_be_marked(k):
            raise Outcome("VerificationError", "a carrier was changed", (at,))
        original[at] = carrier.encode(left, k)
        hidden.append(bits)
    places = np.concatenate(hidden)
    data, end = to_bytes(places), len(header) + int.from_bytes(header[8:12], "big") + 4
    record = data[len(header) : end]
    if len(data) < end or zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "big"):
        raise Outcome("VerificationError", "checksum of the record")
    if places[8 * end :].any():
        raise Outcome("VerificationError", "bits after the record")
    return Taken(header[4], header[5], header, record[:-4], original)


def peek(units: list[bytes], size: int) -> tuple[int, bytes]:
    """11.3, step 9: the outermost kind and the first bytes of its record; nothing is verified."""
    tensors = eligible(units)
    header, carriers = find_header(tensors)
    if any(at not in tensors for at in carriers):
        raise Outcome("VerificationError", "the header does not fit the stream")
    end = len(header) + min(size, int.from_bytes(header[8:12], "big"))
    hidden = np.zeros(0, bool)
    for at, k in carriers.items():
        if hidden.size < 8 * end:
            hidden = np.concatenate([hidden, tensors[at].extract(tensors[at].decode(), k)[0]])
    return header[4], to_bytes(hidden)[len(header) : end]


def model_digest(units: list[bytes]) -> bytes:
    """6."""
    digests = b"".join(hashlib.sha256(unit).digest() for unit in units)
    preimage = b"nnguard model digest v1\0" + len(units).to_bytes(4, "big") + digests
    return hashlib.sha256(preimage).digest()


def read_cbor(data: bytes) -> Any:
    """6: deterministic CBOR."""
    try:
        return second_signatures.read_cbor(data)
    except ValueError:
        raise Outcome("VerificationError", "not deterministic CBOR") from None


def well_formed_claims(claims: Any) -> bool:
    """6.1."""
    if type(claims) is not dict or any(type(key) not in (int, str) for key in claims):
        return False
    meta, issued = claims.get("meta", {"-": "-"}), claims.get(6, 0)
    texts = [claims[key] for key in (1, 2, "version") if key in claims]
    known = {1, 2, 6, "version", "meta", "shard", "release"}
    if set(claims) - known or not all(texts) or not meta:
        return False
    shard = claims.get("shard", [bytes(32), 0, 1])
    if type(shard) is not list or [type(part) for part in shard] != [bytes, int, int]:
        return False
    if len(shard[0]) != 32 or not 0 <= shard[1] < shard[2]:
        return False
    if type(issued) is not int or type(meta) is not dict:
        return False
    release = claims.get("release", 0)
    if type(release) is not int or not 0 <= release < 1 << 63:
        return False
    try:
        datetime.fromtimestamp(issued, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return False
    return all(type(text) is str for text in (*texts, *meta, *meta.values()))


def check_signature(taken: Taken, trust: list[VendorKey]) -> dict[Any, Any]:
    """7, steps 7 to 10: the protected header."""
    try:
        message = read_message(taken.record)
    except ValueError:
        raise Outcome("VerificationError", "not a signed message") from None
    header, payload = message.rest, message.payload
    claims, short = header.get(15), header.get("units", b"")
    right: dict[Any, Any] = {15: claims, 258: -16, 259: 42}
    right |= {"units": short} if "units" in header else {}
    same = cbor2.dumps(right, canonical=True) == cbor2.dumps(header, canonical=True)
    if not same or not well_formed_claims(claims) or len(payload) != 32:
        raise Outcome("VerificationError", "protected header")
    if type(short) is not bytes or len(short) % 4 or len(message.kids) > 1:
        raise Outcome("VerificationError", "protected header")
    key = next((key for key in trust if key.kid == message.kids[0]), None)
    if key is None:
        raise Outcome("WrongKeyError", message.kids[0].hex())
    if not message.is_by(key, b"nnguard signature v1\0" + taken.header):
        raise Outcome("VerificationError", "signature")
    if model_digest(taken.original) != payload:
        known = [short[at : at + 4] for at in range(0, len(short), 4)]
        now = [hashlib.sha256(unit).digest()[:4] for unit in taken.original]
        changed = [at for at in range(len(now)) if len(known) == len(now) and known[at] != now[at]]
        raise Outcome("VerificationError", "digest", tuple(changed))
    return right | {4: key.kid}


def verify(
    data: bytes, trust: list[VendorKey], *, vouched: bool = False
) -> tuple[dict[Any, Any], list[Taken]]:
    """7: the outermost protected header, and all records down to a lock, the outermost first.

    Raises:
        Outcome: The stream is refused.
    """
    taken = [take_out(split(data), vouched=vouched)]
    if taken[0].kind != 1:
        raise Outcome("NoRecordError", f"kind {taken[0].kind}")
    header = check_signature(taken[0], trust)
    with contextlib.suppress(Outcome):
        while taken[-1].kind != 3 and (
            taken[-1].layer > 1 or (taken[1:] and has_header(taken[-1].original))
        ):
            taken.append(take_out(taken[-1].original, vouched=True))
    return header, taken


def signatures(
    taken: list[Taken], trust: list[VendorKey]
) -> list[tuple[dict[Any, Any], bytes, bool]]:
    """6.6: header, model digest and whether it counts, of each signature that is right."""
    found: list[tuple[dict[Any, Any], bytes, bool]] = []
    counts, outermost = True, None
    for record in taken:
        try:
            if record.kind != 1:
                raise Outcome("NoRecordError", "another kind")
            header = check_signature(record, trust)
        except Outcome:
            counts = False
            continue
        said = what_is_said(header[15])
        outermost = outermost or said
        counts = counts and said == outermost
        found.append((header, model_digest(record.original), counts))
    return found


def what_is_said(claims: dict[Any, Any]) -> dict[Any, Any]:
    """6.6: the claims that have to agree."""
    said = {label: value for label, value in claims.items() if label != 6}
    return said | ({"shard": claims["shard"][1:]} if "shard" in claims else {})


def has_header(units: list[bytes]) -> bool:
    """Whatever the layer above says."""
    try:
        find_header(eligible(units))
    except Outcome:
        return False
    return True


def detach(data: bytes) -> tuple[str, bytes, list[bytes]]:
    """6.2: media type, attached bytes, and the original.

    Raises:
        Outcome: The stream is refused.
    """
    taken = take_out(split(data))
    if taken.kind != 2:
        raise Outcome("NoRecordError", f"kind {taken.kind}")
    fields = read_cbor(taken.record)
    if type(fields) is not list or [type(part) for part in fields] != [str, bytes, bytes]:
        raise Outcome("VerificationError", "not an attachment")
    if fields[1] != model_digest(taken.original):
        raise Outcome("VerificationError", "changed since it was attached")
    return fields[0], fields[2], taken.original
