"""Claims and attachments are read as written, and nothing else is."""

import hashlib
from datetime import datetime, timezone

import pytest

import nnguard
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import sign
from nnguard._records.attachment import Attachment
from nnguard._records.claims import Claims, Shard
from nnguard._records.digest import model_digest
from nnguard._records.signature import SignatureRecord, protected_header

WHEN = datetime(2025, 3, 1, 12, 0, 1, tzinfo=timezone.utc)
DIGESTS = [hashlib.sha256(bytes([index])).digest() for index in range(3)]


@pytest.mark.parametrize(
    "claims",
    [
        Claims(),
        Claims("acme.ai", "resnet56", "1.0", WHEN, {"git": "4f2a91c"}),
        Claims(name="模型", metadata={"": "", "a": "\0"}),
        Claims(issued_at=datetime(1960, 1, 1, tzinfo=timezone.utc)),
        Claims(shard=Shard(DIGESTS[0].hex(), 0, 1)),
        Claims("acme.ai", "net", "1.0", WHEN, {"a": "b"}, Shard(DIGESTS[1].hex(), 299, 300)),
    ],
)
def test_claims_are_read_as_written(claims: Claims) -> None:
    assert Claims.from_cwt(claims.to_cwt()) == claims


@pytest.mark.parametrize(
    "claims",
    [
        None,
        [],
        "text",
        {"other": 1},
        {1: 5},
        {1: ""},
        {2: b"bytes"},
        {6: "today"},
        {6: 1.5},
        {6: 1 << 70},
        {6: float("nan")},
        {"version": 1},
        {"meta": []},
        {"meta": {}},
        {"meta": {"a": 1}},
        {"meta": {1: "a"}},
        {"meta": "text"},
        {"shard": None},
        {"shard": []},
        {"shard": "text"},
        {"shard": DIGESTS[0]},
        {"shard": [DIGESTS[0], 0]},
        {"shard": [DIGESTS[0], 0, 1, 2]},
        {"shard": [DIGESTS[0][:-1], 0, 1]},
        {"shard": [DIGESTS[0] + b"\0", 0, 1]},
        {"shard": [DIGESTS[0].hex(), 0, 1]},
        {"shard": [DIGESTS[0], 1, 1]},
        {"shard": [DIGESTS[0], 0, 0]},
        {"shard": [DIGESTS[0], -1, 1]},
        {"shard": [DIGESTS[0], 0.0, 1]},
        {"shard": [DIGESTS[0], 0, "1"]},
        {"shard": {"set_digest": DIGESTS[0], "position": 0, "count": 1}},
        {"shard": {0: DIGESTS[0], 1: 0, 2: 1}},
    ],
)
def test_other_claims_are_refused(claims: object) -> None:
    with pytest.raises(nnguard.errors.VerificationError, match="claims"):
        Claims.from_cwt(claims)


def test_claims_are_json() -> None:
    printed = Claims("acme.ai", "net", "1.0", WHEN, {"a": "b"}).to_json()
    assert printed["issued_at"] == "2025-03-01T12:00:01+00:00"
    assert printed["metadata"] == {"a": "b"}
    assert Claims().to_json()["issued_at"] is None
    assert "shard" not in printed
    shard = Claims(shard=Shard(DIGESTS[0].hex(), 1, 3)).to_json()["shard"]
    assert shard == {"set_digest": DIGESTS[0].hex(), "position": 1, "count": 3}


def test_model_digest_is_that_of_the_specification() -> None:
    preimage = b"nnguard model digest v1\0" + bytes([0, 0, 0, 3]) + b"".join(DIGESTS)
    assert model_digest(DIGESTS) == hashlib.sha256(preimage).digest()


def test_model_digest_depends_on_every_unit_and_their_order() -> None:
    variants = [DIGESTS, DIGESTS[::-1], DIGESTS[:2], [*DIGESTS, DIGESTS[0]], []]
    assert len({model_digest(digests) for digests in variants}) == len(variants)


def record_of(key: nnguard.SigningKey, *, payload: bytes | None = None, **header: object) -> bytes:
    protected = protected_header(Claims(), DIGESTS)
    names = {"hash_alg": 258, "content_type": 259, "units": "units", "extra": "extra", "cwt": 15}
    protected |= {names[name]: value for name, value in header.items()}
    return sign(key, protected, model_digest(DIGESTS) if payload is None else payload, b"")


def test_signature_record_is_read_as_written(key: nnguard.SigningKey) -> None:
    record = SignatureRecord.parse(record_of(key))
    assert record.key_id == key.public_key.id
    assert record.digest == model_digest(DIGESTS)
    assert record.short_digests == tuple(digest[:4] for digest in DIGESTS)
    assert record.changed_units(DIGESTS) == []
    assert record.changed_units([DIGESTS[0], DIGESTS[0], DIGESTS[2]]) == [1]
    assert record.changed_units(DIGESTS[:2]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"payload": b"short"},
        {"hash_alg": -44},
        {"content_type": 0},
        {"units": b"12345"},
        {"units": "text"},
        {"units": None},
        {"extra": 1},
        {"cwt": {1: 5}},
        {"cwt": {"shard": [bytes(31), 0, 1]}},
        {"cwt": {"shard": [bytes(32), False, True]}},
        {"cwt": {"shard": [bytes(32), 0, True]}},
        {"cwt": {"shard": (bytes(32), 1, 1)}},
        {"cwt": None},
    ],
)
def test_other_signature_records_are_refused(
    key: nnguard.SigningKey, change: dict[str, object]
) -> None:
    with pytest.raises(nnguard.errors.VerificationError):
        SignatureRecord.parse(record_of(key, **change))


def test_attachment_is_read_as_written() -> None:
    attachment = Attachment(b"\0payload", "text/markdown")
    assert Attachment.parse(attachment.to_record(bytes(32))) == (attachment, bytes(32))


@pytest.mark.parametrize(
    "value", [[], ["a/b", bytes(32)], [1, b"", b""], ["a/b", "text", b""], ["a", b"", b"", b""], {}]
)
def test_other_attachments_are_refused(value: object) -> None:
    with pytest.raises(nnguard.errors.VerificationError, match="attachment"):
        Attachment.parse(encode_cbor(value))


def test_nothing_is_claimed_unless_it_is_said() -> None:
    assert Claims() == Claims("", "", "", None, {}, None)
    assert Attachment(b"card").media_type == "application/octet-stream"


def test_units_that_were_changed_can_be_told_of_as_many_only(key: nnguard.SigningKey) -> None:
    record = SignatureRecord.parse(record_of(key, payload=bytes(32)))
    assert record.changed_units(DIGESTS) == []
    assert record.changed_units([DIGESTS[0], bytes(32), DIGESTS[2]]) == [1]
    assert record.changed_units(DIGESTS[:2]) is None
    assert record.changed_units([*DIGESTS, DIGESTS[0]]) is None
