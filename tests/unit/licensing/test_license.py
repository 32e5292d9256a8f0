"""A license says what was sold, in one encoding, and is what the vendor signed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnguard
from nnguard._crypto.cbor import encode_cbor, parse_cbor
from nnguard._crypto.cose import parse_signed, sign
from nnguard._licensing.device import DeviceBinding
from nnguard._licensing.license import License, LicenseTerms
from nnguard._licensing.unwrapped import Unwrapped

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
CONTENT_KEY = nnguard.ContentKey(bytes(range(32)))
CUSTOMER = nnguard.Identity.generate()
DOMAIN = b"nnguard license v1\0"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.datetimes(
    datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(timezone.utc)
).map(lambda time: time.replace(microsecond=0))


def hexadecimal(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(bytes.hex)


bindings = st.builds(
    lambda values: DeviceBinding.make(
        nnguard.licensing.Device.of_values([("trait", value) for value in values]), len(values)
    ),
    st.sets(texts, min_size=1, max_size=5),
)
all_terms = st.builds(
    LicenseTerms,
    id=hexadecimal(16),
    issuer=texts,
    customer=texts,
    product=texts,
    tier=texts,
    issued_at=times,
    not_before=times,
    stream=hexadecimal(32),
    opens=hexadecimal(32),
    lock=hexadecimal(8),
    recipient=st.just(CUSTOMER.recipient.id.hex()),
    expires_at=st.none() | times,
    grace=st.integers(0, 10**8).map(lambda seconds: timedelta(seconds=seconds)),
    features=st.lists(texts, max_size=4).map(tuple),
    metadata=st.dictionaries(texts, texts, max_size=4),
    device=st.none() | bindings,
)


@given(all_terms)
def test_terms_come_back(key: nnguard.SigningKey, terms: LicenseTerms) -> None:
    license_ = License.make(terms, Unwrapped(CONTENT_KEY), CUSTOMER.recipient, key)
    read = License.from_text(str(license_))
    assert read.terms == terms
    assert read.encoded == license_.encoded
    assert read.key_id == key.public_key.id.hex()
    read.authenticate([key.public_key])
    assert read.unwrap(CUSTOMER).content_key == CONTENT_KEY
    assert json.loads(json.dumps(terms.to_json()))["customer"] == terms.customer


def make_terms(**changes: Any) -> LicenseTerms:
    given = {
        "id": "01" * 16,
        "issuer": "acme.ai",
        "customer": "Ada",
        "product": "resnet",
        "tier": "full",
        "issued_at": START,
        "not_before": START,
        "expires_at": START + timedelta(days=7),
        "stream": "02" * 32,
        "opens": "03" * 32,
        "lock": "04" * 8,
        "recipient": CUSTOMER.recipient.id.hex(),
    }
    return LicenseTerms(**{**given, **changes})


@pytest.fixture
def license_(key: nnguard.SigningKey) -> License:
    return License.make(make_terms(), Unwrapped(CONTENT_KEY), CUSTOMER.recipient, key)


def test_what_is_shown_of_a_license(license_: License) -> None:
    assert repr(license_) == f"<nnguard.licensing.License {'01' * 16} to 'Ada'>"
    assert str(license_).startswith("-----BEGIN NNGUARD LICENSE-----\n")
    shown = license_.terms.to_json()
    assert shown["expires_at"] == "2026-03-08T00:00:00+00:00"
    assert shown["grace_seconds"] == 0
    assert "key" not in shown


def test_terms_as_json() -> None:
    binding = DeviceBinding.make(nnguard.licensing.Device.of_values([("card", "1")]), 1)
    terms = LicenseTerms(
        id="01" * 16,
        issuer="acme.ai",
        customer="Ada",
        product="small",
        tier="full",
        issued_at=START,
        not_before=START + timedelta(days=1),
        stream="02" * 32,
        opens="03" * 32,
        lock="04" * 8,
        recipient="05" * 8,
        grace=timedelta(days=2),
        features=("a", "b"),
        metadata={"order": "4711"},
        device=binding,
    )
    assert terms.to_json() == {
        "id": "01" * 16,
        "issuer": "acme.ai",
        "customer": "Ada",
        "product": "small",
        "tier": "full",
        "features": ["a", "b"],
        "metadata": {"order": "4711"},
        "issued_at": "2026-03-01T00:00:00+00:00",
        "not_before": "2026-03-02T00:00:00+00:00",
        "expires_at": None,
        "grace_seconds": 172_800,
        "device": binding.to_json(),
        "stream": "02" * 32,
        "opens": "03" * 32,
        "recipient": "05" * 8,
        "order": "",
        "server": "",
        "warn_only": False,
        "leases": 0,
    }


@pytest.mark.parametrize("behind", [1 << 20, 5 << 18])
def test_license_is_looked_for_in_the_first_megabyte(
    behind: int, license_: License, tmp_path: Path
) -> None:
    path = tmp_path / "ada.license"
    path.write_text("\n" * 1000 + str(license_))
    assert License.load(path).encoded == license_.encoded
    path.write_text("\n" * behind + str(license_))
    with pytest.raises(nnguard.NnguardError):
        License.load(path)


def test_content_key_is_not_readable(license_: License) -> None:
    assert CONTENT_KEY.secret not in license_.encoded


def test_license_survives_a_file(license_: License, tmp_path: Path) -> None:
    license_.save(tmp_path / "ada.license")
    assert License.load(tmp_path / "ada.license").encoded == license_.encoded
    with pytest.raises(FileExistsError):
        license_.save(tmp_path / "ada.license")
    license_.save(tmp_path / "ada.license", overwrite=True)


def test_license_can_be_sent_to_another_process(license_: License) -> None:
    there = pickle.loads(pickle.dumps(license_))
    assert there.encoded == license_.encoded
    assert there.terms == license_.terms


def test_license_cannot_be_altered(license_: License) -> None:
    with pytest.raises(FrozenInstanceError):
        license_.terms.customer = "Eve"
    with pytest.raises(TypeError):
        license_.terms.metadata["a"] = "b"


def test_wrapped_key_is_of_no_use_in_another_license(
    license_: License, key: nnguard.SigningKey
) -> None:
    """Not even to the vendor: the key is bound to every other claim."""
    claims = parse_cbor(license_._envelope.payload)
    claims["tier"] = "professional"
    other = sign_claims(claims, key)
    other.authenticate([key.public_key])
    with pytest.raises(nnguard.errors.WrongKeyError):
        other.unwrap(CUSTOMER)


def test_signature_of_another_domain_is_refused(license_: License, key: nnguard.SigningKey) -> None:
    envelope = license_._envelope
    for domain in (b"", b"nnguard signature v1\0", b"nnguard revocation list v1\0"):
        encoded = sign(key, {}, envelope.payload, domain)
        with pytest.raises(nnguard.errors.LicenseError, match="changed"):
            License.parse(encoded).authenticate([key.public_key])


def test_key_is_looked_for_among_all_that_are_trusted(
    license_: License, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    license_.authenticate([other_key.public_key, key.public_key])
    with pytest.raises(nnguard.errors.WrongKeyError, match="not among the 0 trusted"):
        license_.authenticate([])


@pytest.mark.parametrize(
    "changes",
    [
        {"customer": 7},
        {"features": (1,)},
        {"metadata": {"a": 1}},
        {"grace": timedelta(seconds=-1)},
        {"grace": timedelta(days=999_999_999)},
    ],
)
def test_vendor_is_told_that_a_claim_cannot_be(
    changes: dict[str, Any], key: nnguard.SigningKey
) -> None:
    """Not that the license was changed, which nobody has seen yet."""
    with pytest.raises(ValueError, match="claim"):
        License.make(make_terms(**changes), Unwrapped(CONTENT_KEY), CUSTOMER.recipient, key)


# What a vendor's signature does not make right


def sign_claims(claims: Any, key: nnguard.SigningKey, **header: Any) -> License:
    payload = claims if isinstance(claims, bytes) else encode_cbor(claims)
    return License.parse(sign(key, header, payload, DOMAIN))


def without(label: Any) -> Callable[[dict[Any, Any]], Any]:
    return lambda claims: {name: value for name, value in claims.items() if name != label}


def having(label: Any, value: Any) -> Callable[[dict[Any, Any]], Any]:
    return lambda claims: {**claims, label: value}


MALFORMED: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "no map": lambda claims: list(claims),
    "no CBOR": lambda claims: b"\xff",
    "empty": lambda claims: {},
    "a tag": lambda claims: b"\xd0" + encode_cbor(claims),
    "unknown claim": having("more", 1),
    "no key": without("key"),
    "key is text": having("key", "secret"),
    "no id": without(7),
    "short id": having(7, b"1"),
    "no stream": without("stream"),
    "short stream": having("stream", b"1"),
    "no recipient": without("to"),
    "no time of issue": without(6),
    "no beginning": without(5),
    "time is text": having(6, "now"),
    "time far out": having(6, 1 << 60),
    "end far out": having(4, 1 << 62),
    "grace far out": having("grace", 1 << 50),
    "grace beyond time": having("grace", 300_000_000_000),
    "negative grace": having("grace", -1),
    "no grace": without("grace"),
    "grace is text": having("grace", "1"),
    "empty tier": having("tier", ""),
    "tier is bytes": having("tier", b"full"),
    "empty features": having("features", []),
    "features are text": having("features", "abc"),
    "feature is a number": having("features", [1]),
    "empty metadata": having("meta", {}),
    "metadata is a list": having("meta", ["a"]),
    "metadata is a number": having("meta", {"a": 1}),
    "device is nothing": having("device", []),
    "device asks for none": having("device", [0, bytes(16), bytes(16)]),
    "device asks for more than there are": having("device", [2, bytes(16), bytes(16)]),
    "device twice": having("device", [1, bytes(16), bytes(32)]),
    "device unsorted": having("device", [1, bytes(16), b"\1" * 16 + bytes(16)]),
    "device with short salt": having("device", [1, bytes(15), bytes(16)]),
    "device with half a print": having("device", [1, bytes(16), bytes(24)]),
    "device of many traits": having(
        "device", [1, bytes(16), b"".join(bytes([n] * 16) for n in range(65))]
    ),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_malformed_license_is_refused(how: str, license_: License, key: nnguard.SigningKey) -> None:
    claims = parse_cbor(license_._envelope.payload)
    assert sign_claims(claims, key).terms == license_.terms
    with pytest.raises(nnguard.errors.LicenseError, match="not a license") as caught:
        sign_claims(MALFORMED[how](claims), key)
    assert caught.value.reason is nnguard.licensing.Refusal.MALFORMED


def test_more_in_the_header_is_refused(license_: License, key: nnguard.SigningKey) -> None:
    claims = parse_cbor(license_._envelope.payload)
    with pytest.raises(nnguard.errors.LicenseError):
        License.parse(sign(key, {"a": 1}, encode_cbor(claims), DOMAIN))


def test_license_in_other_cbor_is_refused(license_: License) -> None:
    """One license has one encoding, so a changed one cannot pass for the same."""
    encoded = license_.encoded
    assert encoded[:2] == b"\xd2\x84"
    long_array = encoded[:1] + b"\x98\x04" + encoded[2:]
    indefinite = encoded[:1] + b"\x9f" + encoded[2:] + b"\xff"
    untagged = encoded[1:]
    for other in (long_array, indefinite, untagged, encoded + b"\0"):
        with pytest.raises(nnguard.errors.LicenseError):
            License.parse(other)


def test_license_without_a_wrapped_key_opens_nothing(
    license_: License, key: nnguard.SigningKey
) -> None:
    claims = parse_cbor(license_._envelope.payload)
    for wrapped in (b"", bytes(31), bytes(80), bytes(2000)):
        with pytest.raises(nnguard.errors.WrongKeyError):
            sign_claims({**claims, "key": wrapped}, key).unwrap(CUSTOMER)


def test_signature_covers_the_bytes_as_they_are(license_: License, key: nnguard.SigningKey) -> None:
    envelope = parse_signed(license_.encoded)
    assert envelope.verified_by(key.public_key, DOMAIN)
    assert not envelope.verified_by(key.public_key, b"")
