"""A record has one encoding; every other is refused."""

import cbor2
import pytest

import nnguard
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.cose import parse_signed, sign, signed_size

AAD = b"where it is hidden"


@pytest.fixture
def message(key: nnguard.SigningKey) -> bytes:
    return sign(key, {15: {1: "acme.ai"}}, b"digest", AAD)


def parts(message: bytes) -> list[object]:
    return list(cbor2.loads(message).value)


def tagged(*values: object, tag: int = 18) -> bytes:
    return encode_cbor(cbor2.CBORTag(tag, list(values)))


def test_message_verifies(
    message: bytes, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    parsed = parse_signed(message)
    assert parsed.key_id == key.public_key.id
    assert parsed.payload == b"digest"
    assert parsed.protected == {15: {1: "acme.ai"}}
    assert cbor2.loads(cbor2.loads(message).value[0])[1] == -19
    assert parsed.verified_by(key.public_key, AAD)
    assert not parsed.verified_by(other_key.public_key, AAD)
    assert not parsed.verified_by(key.public_key, b"elsewhere")


def test_size_is_known_before_signing(message: bytes, key: nnguard.SigningKey) -> None:
    assert signed_size(key.public_key, {15: {1: "acme.ai"}}, b"digest") == len(message)


def test_every_bit_counts(message: bytes, key: nnguard.SigningKey) -> None:
    for at in range(8 * len(message)):
        changed = bytearray(message)
        changed[at // 8] ^= 1 << at % 8
        try:
            parsed = parse_signed(bytes(changed))
        except nnguard.errors.VerificationError:
            continue
        assert not parsed.verified_by(key.public_key, AAD), at


def test_every_truncation_is_refused(message: bytes) -> None:
    for length in range(len(message)):
        with pytest.raises(nnguard.errors.VerificationError):
            parse_signed(message[:length])
    with pytest.raises(nnguard.errors.VerificationError):
        parse_signed(message + b"\0")


def test_other_messages_are_refused(message: bytes) -> None:
    header, _, payload, signature = parts(message)
    hostile = {
        "no tag": encode_cbor([header, {}, payload, signature]),
        "other tag": tagged(header, {}, payload, signature, tag=98),
        "unprotected header": tagged(header, {1: -19}, payload, signature),
        "detached payload": tagged(header, {}, None, signature),
        "short signature": tagged(header, {}, payload, b"short"),
        "five parts": tagged(header, {}, payload, signature, b""),
        "header that is no map": tagged(encode_cbor([1]), {}, payload, signature),
        "header that is no CBOR": tagged(b"\xff", {}, payload, signature),
        "empty header": tagged(b"", {}, payload, signature),
        "other algorithm": tagged(encode_cbor({1: -7, 4: b"kid"}), {}, payload, signature),
        "no key": tagged(encode_cbor({1: -19}), {}, payload, signature),
        "key that is text": tagged(encode_cbor({1: -19, 4: "kid"}), {}, payload, signature),
    }
    for name, encoded in hostile.items():
        with pytest.raises(nnguard.errors.VerificationError):
            pytest.fail(f"{name}: {parse_signed(encoded)}")


@pytest.mark.parametrize(
    "encoded",
    [
        "1800",  # a longer form of a number
        "5f4161ff",  # a string in parts
        "9f00ff",  # a list without a length
        "a2020001 00",  # keys out of order
        "a2010001 00",  # a key twice
        "0000",  # more than one value
        "1c",  # no CBOR
        "f97e01",  # a NaN of many
        "",
        "c1",
        "d81c81d81d00",  # a list that holds itself
    ],
)
def test_other_encodings_are_refused(encoded: str) -> None:
    with pytest.raises(nnguard.errors.VerificationError):
        parse_cbor(bytes.fromhex(encoded))


@pytest.mark.parametrize("opening", ["81", "a100", "d818", "c6", "9f", "bf00"])
def test_deep_nesting_is_refused(opening: str) -> None:
    with pytest.raises(nnguard.errors.VerificationError):
        parse_cbor(bytes.fromhex(opening) * 100_000 + b"\0")


@pytest.mark.parametrize("opening", ["9b", "bb", "5b", "7b", "a19b"])
def test_lengths_beyond_the_data_are_refused(opening: str) -> None:
    for length in (1 << 28, 1 << 40, (1 << 64) - 1):
        with pytest.raises(nnguard.errors.VerificationError):
            parse_cbor(bytes.fromhex(opening) + length.to_bytes(8, "big"))


@pytest.mark.parametrize(
    "tag",
    [0, 1, 2, 4, 5, 30, 35, 36, 37, 256, 258, 260],
)
def test_tags_are_never_acted_on(tag: int) -> None:
    # Decimals, fractions and patterns take time that grows with the square of their size.
    big = (1 << 400_000) + 1
    values = {4: [0, big], 5: [0, big], 30: [big, big - 2], 35: "(a+)+b", 0: "2025-01-01T00:00:00Z"}
    value = values.get(tag, b"\1\2")
    with pytest.raises(nnguard.errors.VerificationError):
        parse_cbor(cbor2.dumps(cbor2.CBORTag(tag, value), canonical=True))


def test_long_strings_deep_down_and_far_from_the_top() -> None:
    """Where little of the stack is left, as in a server, what is too deep is an error."""
    encoded = b"\x81" * 390 + b"\x5a\x00\x01\x00\x00" + bytes(1 << 16)

    def parse_after(calls: int) -> object:
        return parse_after(calls - 1) if calls else parse_cbor(encoded)

    refused = 0
    for calls in range(0, 700, 50):
        try:
            parse_after(calls)
        except nnguard.errors.VerificationError:
            refused += 1
    assert refused < 14
