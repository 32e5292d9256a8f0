"""A signed file verifies, and nothing else does."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples
import stock
from nnguard._hiding import embed, extract, plan_record
from nnguard._records.attachment import Attachment
from nnguard._records.kinds import RecordKind

Signed = Callable[[str], nnguard.Stream]


@pytest.fixture
def trust(key: nnguard.SigningKey) -> list[nnguard.PublicKey]:
    return [key.public_key]


def change(stream: nnguard.Stream, name: str, at: int = -1) -> nnguard.Stream:
    """Flip a bit of one unit."""
    units = [bytearray(unit.read()) for unit in stream]
    units[[unit.name for unit in stream].index(name)][at] ^= 1
    return nnguard.Stream.from_bytes(b"".join(units))


@pytest.mark.parametrize("name", samples.SIGNABLE)
def test_signed_file_verifies_and_is_restored(
    tmp_path: Path, name: str, signed: Signed, trust: list[nnguard.PublicKey]
) -> None:
    signed(name).save(tmp_path / "release.nnc")
    report = nnguard.verify(tmp_path / "release.nnc", trust)
    assert report.claims.name == name
    assert report.claims.issuer == "acme.ai"
    assert report.nested == ()
    nnguard.strip(tmp_path / "release.nnc", trust).save(tmp_path / "original.nnc")
    assert (tmp_path / "original.nnc").read_bytes() == samples.read(name)


def test_report_says_what_was_signed(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    when = datetime(2025, 3, 1, 13, 30, 59, 999, timezone(timedelta(hours=2)))
    release = nnguard.sign(
        model,
        key,
        issuer="acmé.ai",
        name="模型",
        version="1.0",
        metadata={"git": "4f2a91c", "": ""},
        issued_at=when,
    )
    report = nnguard.verify(release, key.public_key)
    claims = report.claims
    assert (claims.issuer, claims.name, claims.version) == ("acmé.ai", "模型", "1.0")
    assert claims.metadata == {"git": "4f2a91c", "": ""}
    assert claims.issued_at == when.replace(microsecond=0)
    assert report.key_id == key.public_key.id.hex()
    assert len(bytes.fromhex(report.digest)) == 32


def test_claims_may_be_left_out(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    claims = nnguard.verify(nnguard.sign(model, key), key.public_key).claims
    assert (claims.issuer, claims.name, claims.version, dict(claims.metadata)) == ("", "", "", {})
    assert claims.issued_at is not None
    assert before <= claims.issued_at <= datetime.now(timezone.utc)


def test_report_cannot_be_altered(release: nnguard.Stream, trust: list[nnguard.PublicKey]) -> None:
    report = nnguard.verify(release, trust)
    with pytest.raises(AttributeError):
        report.key_id = "0"
    with pytest.raises(TypeError):
        report.claims.metadata["a"] = "b"


@pytest.mark.parametrize("copied", [lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy])
def test_report_can_be_copied_and_sent_to_another_process(
    model: nnguard.Stream, key: nnguard.SigningKey, copied: Callable[[nnguard.Report], object]
) -> None:
    release = nnguard.sign(model, key, name="resnet", metadata={"git": "4f2a91c"})
    report = nnguard.verify(release, key.public_key)
    assert copied(report) == report
    assert hash(copied(report)) == hash(report)
    assert asdict(report)["claims"]["metadata"] == {"git": "4f2a91c"}


def test_digest_is_that_of_the_original(
    model: nnguard.Stream, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    first = nnguard.sign(model, key, name="a")
    second = nnguard.sign(model, other_key, name="b", localize=True)
    digests = {
        nnguard.verify(release, [key.public_key, other_key.public_key]).digest
        for release in (first, second)
    }
    assert len(digests) == 1


def test_file_that_is_not_signed(model: nnguard.Stream, trust: list[nnguard.PublicKey]) -> None:
    with pytest.raises(nnguard.errors.NoRecordError):
        nnguard.verify(model, trust)


def test_file_signed_by_someone_else(
    release: nnguard.Stream, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match=key.public_key.id.hex()):
        nnguard.verify(release, [other_key.public_key])
    assert nnguard.verify(release, [other_key.public_key, key.public_key])


def test_file_that_was_changed(signed: Signed, trust: list[nnguard.PublicKey]) -> None:
    with pytest.raises(nnguard.errors.VerificationError, match="changed"):
        nnguard.verify(change(signed("default"), "fc1.weight"), trust)


@pytest.mark.parametrize("name", ["default", "urq"])
def test_carrier_that_was_changed(
    name: str, signed: Signed, trust: list[nnguard.PublicKey]
) -> None:
    """Where the decoder refuses it, it counts as damaged; elsewhere its bits are others."""
    release = signed(name)
    for carrier in extract(release).header.carriers:
        header = release[carrier].tensor
        assert header is not None
        for at in range(header.payload_offset, release[carrier].size, 37):
            with pytest.raises((nnguard.errors.VerificationError, nnguard.errors.FormatError)):
                nnguard.verify(change(release, header.name, at), trust)
        with pytest.raises(nnguard.errors.FormatError, match=f"{header.name} is damaged"):
            nnguard.verify(change(release, header.name), trust)


def test_signature_in_a_tensor_of_one_dimension(
    key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    rng = np.random.default_rng(8)
    arrays = {
        "conv.weight": rng.normal(0, 0.05, (100, 10, 10)).astype(np.float32),
        "norm.scale": rng.normal(1, 0.1, 2048).astype(np.float32),
    }
    model = nnguard.compress(arrays)
    release = nnguard.sign(model, key, name="norm")
    assert [release[at].name for at in extract(release).header.carriers] == ["norm.scale"]
    assert nnguard.verify(release, trust).claims.name == "norm"
    assert bytes(nnguard.strip(release, trust)) == bytes(model)
    before, after = nnguard.decompress(model), nnguard.decompress(release)
    assert np.array_equal(before["conv.weight"], after["conv.weight"])
    assert 0 < np.abs(before["norm.scale"] - after["norm.scale"]).max() < 1e-5
    with pytest.raises((nnguard.errors.VerificationError, nnguard.errors.FormatError)):
        nnguard.verify(change(release, "norm.scale", -500), trust)


def test_plan_is_told_before_the_key_signs(
    model: nnguard.Stream, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    """So whoever asked can still call it off."""
    told: list[int] = []

    class Waiting:
        public_key = key.public_key

        def sign(self, data: bytes) -> bytes:
            assert told
            return key.sign(data)

    release = nnguard.sign(model, Waiting(), planned=told.append)
    assert told == [3000]
    assert nnguard.verify(release, trust)

    def call_off(weights: int) -> None:
        raise KeyboardInterrupt

    told.clear()
    with pytest.raises(KeyboardInterrupt):
        nnguard.sign(model, Waiting(), planned=call_off)


def test_file_that_is_damaged(signed: Signed, trust: list[nnguard.PublicKey]) -> None:
    data = bytes(signed("default"))
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.verify(nnguard.Stream.from_bytes(data[:-1]), trust)
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.verify(nnguard.Stream.from_bytes(b"PK\3\4" + data), trust)


def test_strip_refuses_what_verify_refuses(
    release: nnguard.Stream, model: nnguard.Stream, other_key: nnguard.SigningKey
) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.strip(release, other_key.public_key)
    with pytest.raises(nnguard.errors.NoRecordError):
        nnguard.strip(model, other_key.public_key)


def test_every_unit_of_a_release_counts(signed: Signed, trust: list[nnguard.PublicKey]) -> None:
    release = signed("urq")
    for unit in release:
        if unit.tensor is not None:
            with pytest.raises(nnguard.NnguardError):
                nnguard.verify(change(release, unit.name), trust)


def test_units_cannot_change_places(
    release: nnguard.Stream, trust: list[nnguard.PublicKey]
) -> None:
    units = samples.split(bytes(release))
    for index in range(2, len(units) - 1):
        moved = [*units[:index], units[index + 1], units[index], *units[index + 2 :]]
        with pytest.raises(nnguard.NnguardError):
            nnguard.verify(nnguard.Stream.from_bytes(b"".join(moved)), trust)


def test_localized_signature_names_changed_tensors(
    key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    release = nnguard.sign(samples.path_of("default"), key, localize=True)
    assert nnguard.verify(release, trust)
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        nnguard.verify(change(release, "fc1.weight"), trust)
    assert caught.value.tensors == ("fc1.weight",)
    both = change(change(release, "fc1.weight"), "fc2.bias")
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        nnguard.verify(both, trust)
    assert sorted(caught.value.tensors) == ["fc1.weight", "fc2.bias"]
    assert "fc2.bias" in str(caught.value)


def test_localized_signature_notices_added_units(
    key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    data = bytes(nnguard.sign(samples.path_of("default"), key, localize=True))
    added = nnguard.Stream.from_bytes(data + samples.unit(9, b"more"))
    with pytest.raises(nnguard.errors.VerificationError, match="added or taken away") as caught:
        nnguard.verify(added, trust)
    assert caught.value.tensors == ()


def test_change_in_the_carrier_names_it(signed: Signed, trust: list[nnguard.PublicKey]) -> None:
    release = signed("resnet20.default")
    carrier = min(extract(release).restored)
    name = release[carrier].name
    at = release[carrier].size // 2
    with pytest.raises((nnguard.errors.VerificationError, nnguard.errors.FormatError), match=name):
        nnguard.verify(change(release, name, at), trust)


def test_signature_of_one_model_does_not_fit_another(
    key: nnguard.SigningKey, trust: list[nnguard.PublicKey], model: nnguard.Stream
) -> None:
    donor = nnguard.Stream.from_bytes(samples.small_stream(seed=5))
    record = extract(nnguard.sign(model, key)).record
    with pytest.raises(nnguard.errors.VerificationError):
        nnguard.verify(embed(donor, record, kind=1), trust)


def test_signature_holds_only_where_it_was_hidden(
    release: nnguard.Stream, trust: list[nnguard.PublicKey]
) -> None:
    taken = extract(release)
    assert bytes(embed(taken.original, taken.record, kind=1)) == bytes(release)
    with pytest.raises(nnguard.errors.NoRecordError, match="not a signature"):
        nnguard.verify(embed(taken.original, taken.record, kind=2), trust)
    with pytest.raises(nnguard.errors.NoRecordError, match="not a signature"):
        nnguard.verify(embed(taken.original, taken.record, kind=77), trust)


@pytest.mark.parametrize("record", [b"", b"\0", b"\xd2\x84", b"\x9f\xff", bytes(200)])
def test_record_that_is_no_signature_is_refused(
    model: nnguard.Stream, trust: list[nnguard.PublicKey], record: bytes
) -> None:
    with pytest.raises(nnguard.errors.VerificationError):
        nnguard.verify(embed(model, record, kind=1), trust)


def test_signatures_nest(
    signed: Signed, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    inner = signed("default")
    outer = nnguard.sign(inner, other_key, name="outer")
    both = [key.public_key, other_key.public_key]
    report = nnguard.verify(outer, both)
    assert report.claims.name == "outer"
    (nested,) = report.nested
    assert (nested.kind, nested.key_id) == ("signature", key.public_key.id.hex())
    assert nested.claims is not None
    assert nested.claims.name == "default"
    assert nested.verified
    assert not nnguard.verify(outer, [other_key.public_key]).nested[0].verified
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.verify(outer, [key.public_key])
    assert bytes(nnguard.strip(outer, both)) == bytes(inner)


def test_nested_signature_that_was_broken_before_is_not_verified(
    signed: Signed, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    broken = change(signed("default"), "fc1.weight")
    outer = nnguard.sign(broken, other_key)
    (nested,) = nnguard.verify(outer, [key.public_key, other_key.public_key]).nested
    assert nested.key_id == key.public_key.id.hex()
    assert not nested.verified


@pytest.mark.parametrize(
    "kind",
    [
        1,
        2,
        9,
    ],
)
def test_junk_under_a_signature_does_not_spoil_it(
    model: nnguard.Stream, key: nnguard.SigningKey, kind: int
) -> None:
    release = nnguard.sign(embed(model, b"\xff junk", kind=kind), key)
    (nested,) = nnguard.verify(release, key.public_key).nested
    assert not nested.verified


def test_attachment_under_a_signature_is_reported(key: nnguard.SigningKey) -> None:
    card = b"# Model card\n" * 10
    attached = nnguard.attach(samples.path_of("urq"), card, media_type="text/markdown")
    release = nnguard.sign(attached, key)
    (nested,) = nnguard.verify(release, key.public_key).nested
    assert (nested.kind, nested.claims, nested.verified) == ("attachment", None, False)
    with pytest.raises(nnguard.errors.NoRecordError, match="not an attachment"):
        nnguard.detach(release)
    attachment, original = nnguard.detach(nnguard.strip(release, key.public_key))
    assert attachment == nnguard.Attachment(card, "text/markdown")
    assert bytes(original) == samples.read("urq")


def test_attachment_is_no_signature(trust: list[nnguard.PublicKey]) -> None:
    attached = nnguard.attach(samples.path_of("urq"), b"card")
    with pytest.raises(nnguard.errors.NoRecordError, match="attachment"):
        nnguard.verify(attached, trust)


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)) * 4])
def test_attachment_comes_out(payload: bytes) -> None:
    attached = nnguard.attach(samples.path_of("default"), payload, media_type="a/b")
    attachment, original = nnguard.detach(nnguard.Stream.from_bytes(bytes(attached)))
    assert attachment == nnguard.Attachment(payload, "a/b")
    assert bytes(original) == samples.read("default")


def test_attachment_notices_a_change() -> None:
    attached = nnguard.attach(samples.path_of("default"), b"card")
    with pytest.raises(nnguard.errors.VerificationError):
        nnguard.detach(change(attached, "conv1.weight"))


def test_attachment_that_does_not_fit() -> None:
    with pytest.raises(nnguard.errors.CapacityError) as caught:
        nnguard.attach(samples.path_of("qp20"), bytes(200_000))
    assert caught.value.needed > caught.value.available > 0


class Token:
    """A signer of one's own, in front of hardware."""

    def __init__(self, key: nnguard.SigningKey) -> None:
        self.key = key
        self.signed: list[bytes] = []

    @property
    def public_key(self) -> nnguard.PublicKey:
        return self.key.public_key

    def sign(self, data: bytes) -> bytes:
        self.signed.append(data)
        return self.key.sign(data)


def test_signer_of_ones_own_signs_once(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    token = Token(key)
    assert isinstance(token, nnguard.Signer)
    when = datetime(2025, 1, 1, tzinfo=timezone.utc)
    release = nnguard.sign(model, token, issued_at=when)
    assert bytes(release) == bytes(nnguard.sign(model, key, issued_at=when))
    assert len(token.signed) == 1


@pytest.mark.parametrize("size", [0, 63, 65])
def test_signature_of_the_wrong_size_is_refused(
    model: nnguard.Stream, key: nnguard.SigningKey, size: int
) -> None:
    class Broken(Token):
        def sign(self, data: bytes) -> bytes:
            return bytes(size)

    with pytest.raises(ValueError, match="does not verify"):
        nnguard.sign(model, Broken(key))


def test_signature_of_another_key_is_refused(
    model: nnguard.Stream, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    class Confused(Token):
        def sign(self, data: bytes) -> bytes:
            return other_key.sign(data)

    with pytest.raises(ValueError, match="signature"):
        nnguard.sign(model, Confused(key))


def test_time_without_a_zone_is_refused(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    with pytest.raises(ValueError, match="time zone"):
        nnguard.sign(model, key, issued_at=datetime(2025, 1, 1))


@pytest.mark.parametrize("wrong", [{"name": 5}, {"metadata": {"a": 1}}, {"metadata": {1: "a"}}])
def test_claims_that_are_not_text_are_refused(
    model: nnguard.Stream, key: nnguard.SigningKey, wrong: dict[str, object]
) -> None:
    with pytest.raises(TypeError):
        nnguard.sign(model, key, **wrong)


def test_no_trust_is_refused(release: nnguard.Stream) -> None:
    with pytest.raises(nnguard.errors.KeyFormatError):
        nnguard.verify(release, [])
    with pytest.raises(TypeError):
        nnguard.verify(release, [None])


def test_model_that_is_too_small(key: nnguard.SigningKey) -> None:
    with pytest.raises(nnguard.errors.CapacityError):
        nnguard.sign(samples.path_of("scan2"), key)


def test_progress_adds_up_to_the_file(
    signed: Signed, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    release, seen = signed("default"), []
    nnguard.verify(release, trust, progress=seen.append)
    assert sum(seen) == release.size
    seen.clear()
    nnguard.sign(samples.path_of("urq"), key, progress=seen.append)
    assert sum(seen) == len(samples.read("urq"))


def test_signing_hardly_grows_the_file(signed: Signed) -> None:
    for name in ("default", "urq", "resnet20.default"):
        before, after = len(samples.read(name)), signed(name).size
        assert np.log(after / before) < 0.02


# What reports and errors say


def test_report_as_json(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    when = datetime(2027, 1, 1, tzinfo=timezone.utc)
    inner = nnguard.sign(model, key, name="inner", issued_at=when)
    report = nnguard.verify(nnguard.sign(inner, key, issued_at=when), key.public_key)
    claims = {
        "issuer": "",
        "version": "",
        "release": None,
        "issued_at": when.isoformat(),
        "metadata": {},
    }
    kid = key.public_key.id.hex()
    assert report.to_json() == {
        "claims": {"name": "", **claims},
        "key_id": kid,
        "algorithm": "ed25519",
        "digest": report.digest,
        "locked": False,
        "signatures": [signature.to_json() for signature in report.signatures],
        "nested": [
            {
                "kind": "signature",
                "key_id": kid,
                "claims": {"name": "inner", **claims},
                "verified": True,
            }
        ],
    }
    assert report.signatures[1].to_json() == {
        "key_id": kid,
        "algorithm": "ed25519",
        "claims": {"name": "inner", **claims},
        "digest": report.signatures[1].digest,
        "counts": False,
    }
    report = nnguard.verify(nnguard.sign(nnguard.attach(model, b"card"), key), key.public_key)
    (nested,) = report.to_json()["nested"]
    assert nested == {"kind": "attachment", "key_id": "", "claims": None, "verified": False}


def test_nested_signature_is_verified_by_whichever_key_is_trusted(
    release: nnguard.Stream, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    outer = nnguard.sign(release, other_key)
    for trust in ([key.public_key, other_key.public_key], [other_key.public_key, key.public_key]):
        (nested,) = nnguard.verify(outer, trust).nested
        assert nested.verified


@pytest.mark.parametrize("kind", ["attachment", "lock"])
def test_hint_says_what_to_do_with_what_is_no_signature(
    kind: str, release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    stream, hint = {
        "attachment": (nnguard.attach(release, b"card"), "take it out first, with nnguard detach"),
        "lock": (
            nnguard.lock(nnguard.Stream.from_bytes(samples.small_stream()), scramble=1).trial,
            "the trial is not signed itself; nnguard unlock needs a license",
        ),
    }[kind]
    with pytest.raises(nnguard.errors.NoRecordError, match=f"not a signature: {kind}") as caught:
        nnguard.verify(stream, key.public_key)
    assert caught.value.hint == hint


@pytest.mark.parametrize("time", [datetime.min, datetime.max])
def test_time_that_lies_too_far_out(
    time: datetime, model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    hours = timedelta(hours=1 if time.year == 1 else -1)
    with pytest.raises(ValueError, match="too far out"):
        nnguard.sign(model, key, issued_at=time.replace(tzinfo=timezone(hours)))


def several_changed(key: nnguard.SigningKey, count: int, *, localize: bool) -> str:
    """Change the last byte of some tensors that carry nothing, and return what `verify` says."""
    arrays = {"w": samples.small_network()["conv.weight"]}
    arrays |= {f"n{number}": np.arange(9, dtype=np.int32) for number in range(9)}
    options = {"localize": True} if localize else {}
    signed = nnguard.sign(nnguard.Stream.from_bytes(stock.encode(arrays, qp=-20)), key, **options)
    for number in range(count):
        signed = change(signed, f"n{number}", -2)
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        nnguard.verify(signed, key.public_key)
    assert caught.value.tensors == tuple(f"n{number}" for number in range(count * localize))
    assert caught.value.hint == (
        "" if localize else "signed with localize=True, nnguard would name the tensors"
    )
    return str(caught.value)


def test_tensors_that_were_changed_are_named(key: nnguard.SigningKey) -> None:
    named = [several_changed(key, count, localize=True) for count in (1, 5, 6, 7)]
    assert named == [
        "changed after signing: n0",
        "changed after signing: n0, n1, n2, n3, n4",
        "changed after signing: n0, n1, n2, n3, n4 and 1 more",
        "changed after signing: n0, n1, n2, n3, n4 and 2 more",
    ]
    unnamed = several_changed(key, 2, localize=False)
    assert unnamed == "the stream was changed after it was signed"


def test_tensors_that_are_missing_are_not_named(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    units = [unit.read() for unit in nnguard.sign(model, key, localize=True)]
    cut = nnguard.Stream.from_bytes(b"".join(units[:-1]))
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        nnguard.verify(cut, key.public_key)
    assert str(caught.value) == (
        "the stream was changed after it was signed: units were added or taken away"
    )
    assert caught.value.hint == ""


def test_layers_that_deny_what_is_below_do_not_lift_the_limit(
    release: nnguard.Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_record(release, RecordKind.ATTACHMENT, 4)
    denying = replace(plan, header=replace(plan.header, layer=1)).embed(b"card")
    assert len(nnguard.inspect(denying).records) == 2
    monkeypatch.setattr("nnguard._operations.inspect._INSPECTED", 0)
    found = nnguard.inspect(denying)
    assert len(found.records) == 1
    assert "not read after 1" in found.note


def test_lock_that_a_layer_denies_is_seen(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    """A vendor signs what others prepared: an attachment says that nothing is below it."""
    trial = nnguard.lock(model).trial
    record = Attachment(b"card").to_record(bytes(32))
    plan = plan_record(trial, RecordKind.ATTACHMENT, len(record))
    denying = replace(plan, header=replace(plan.header, layer=1)).embed(record)
    release = nnguard.sign(denying, key)
    for refuse in (nnguard.decompress, lambda model: nnguard.verify(model, key.public_key)):
        with pytest.raises(nnguard.errors.LockedTrialError):
            refuse(release)
    report = nnguard.verify(release, key.public_key, allow_trial=True)
    assert [record.kind for record in report.nested] == ["attachment", "lock"]


def test_lock_under_junk_is_seen(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    junk = embed(nnguard.lock(model).trial, b"not a signature", kind=RecordKind.SIGNATURE)
    release = nnguard.sign(junk, key)
    with pytest.raises(nnguard.errors.LockedTrialError):
        nnguard.verify(release, key.public_key)
    report = nnguard.verify(release, key.public_key, allow_trial=True)
    assert [record.kind for record in report.nested] == ["unreadable", "lock"]
