"""Requests and receipts: what a customer signs."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest

import nnguard
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import parse_signed, sign
from nnguard.errors import ArgumentError, KeyFormatError, LicenseError, LimitError, Refusal
from nnguard.licensing import Device, Receipt, Request
from sales import START, flips

STREAM, LOCK, LICENSE = "ab" * 32, "cd" * 8, "ef" * 16
RACK = Device.of_values([("serial", "4711"), ("site", "Berlin")])


@pytest.fixture(scope="module", params=[False, True], ids=["x25519", "hybrid"])
def ada(request: pytest.FixtureRequest) -> nnguard.Identity:
    return nnguard.Identity.generate(post_quantum=request.param)


def make(ada: nnguard.Identity, **choices: Any) -> Request:
    given = {"stream": STREAM, "lock": LOCK, "order": "K7Q2", "device": RACK, "issued_at": START}
    return Request.make(ada, **{**given, **choices})


def signed(ada: nnguard.Identity, kind: type[Request | Receipt], claims: dict[Any, Any]) -> bytes:
    """Sign any claims as a file of this kind."""
    return sign(ada.request_signer, {}, encode_cbor(claims), kind._DOMAIN)


def claims_of(encoded: bytes) -> dict[Any, Any]:
    claims: dict[Any, Any] = cbor2.loads(parse_signed(encoded).payload)
    return claims


def refusal(kind: type[Request | Receipt], encoded: bytes) -> Refusal:
    with pytest.raises(LicenseError) as caught:
        kind.parse(encoded).authenticate_self()
    return caught.value.reason


def test_request_says_what_was_asked(ada: nnguard.Identity, tmp_path: Path) -> None:
    request = make(ada, leases=3)
    request.save(tmp_path / "ada.request")
    again = Request.load(tmp_path / "ada.request")
    again.authenticate_self()
    assert again == request == Request.from_text(f"> Dear Acme,\n{request}\nAda")
    assert (again.stream, again.lock, again.order, again.license) == (STREAM, LOCK, "K7Q2", "")
    assert (again.device, again.leases, again.issued_at) == (RACK, 3, START)
    assert again.recipient == ada.recipient
    assert again.key == ada.request_signer.public_key
    assert pickle.loads(pickle.dumps(again)) == again


def test_renewal_names_a_license(ada: nnguard.Identity) -> None:
    request = make(ada, order="", license=LICENSE, device=None)
    assert (request.license, request.order, request.device) == (LICENSE, "", None)
    with pytest.raises(ArgumentError, match="not both"):
        make(ada, license=LICENSE)


def test_requests_differ_by_their_nonce(ada: nnguard.Identity) -> None:
    first, second = make(ada), make(ada)
    assert first.nonce != second.nonce
    assert first.digest != second.digest
    assert len(first.digest) == 19
    assert first.digest.count("-") == 3


def test_request_key_is_always_the_same_and_no_other_secret(ada: nnguard.Identity) -> None:
    again = nnguard.Identity.from_pem(ada.pem())
    assert again.request_signer.public_key == ada.request_signer.public_key
    assert ada.derive(b"a\0") != ada.derive(b"b\0")
    assert again.derive(b"a\0") == ada.derive(b"a\0")
    other = nnguard.Identity.generate()
    assert other.request_signer.public_key != ada.request_signer.public_key


def test_no_bit_of_a_request_can_be_changed(ada: nnguard.Identity) -> None:
    for changed in flips(make(ada).encoded, 7):
        assert refusal(Request, changed) is Refusal.MALFORMED


def test_no_bit_of_a_receipt_can_be_changed(ada: nnguard.Identity) -> None:
    receipt = Receipt.make(ada, LICENSE, issued_at=START)
    receipt.authenticate_self()
    assert (receipt.license_id, receipt.issued_at) == (LICENSE, START)
    assert Receipt.from_text(str(receipt)) == receipt
    for changed in flips(receipt.encoded, 1):
        assert refusal(Receipt, changed) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"order": ""},
        {"order": "x" * 65},
        {"order": b"K7Q2"},
        {"license": bytes(16)},
        {"stream": bytes(31)},
        {"lock": bytes(9)},
        {"key": bytes(32)},
        {"key": bytes(31)},
        {"to": b"-----BEGIN PUBLIC KEY-----"},
        {"to": "text"},
        {"device": []},
        {"device": [["host", bytes(31)]]},
        {"device": [["host", bytes(32), 1]]},
        {"device": [[b"host", bytes(32)]]},
        {"device": [["host", bytes(32)]] * 65},
        {"device": {"host": bytes(32)}},
        {"leases": 0},
        {"leases": -1},
        {"leases": 1 << 20 | 1},
        {"leases": "3"},
        {6: -1 << 60},
        {6: "now"},
        {7: bytes(15)},
    ],
    ids=str,
)
def test_malformed_claims(ada: nnguard.Identity, change: dict[Any, Any]) -> None:
    claims = claims_of(make(ada).encoded)
    assert refusal(Request, signed(ada, Request, claims | change)) is Refusal.MALFORMED


@pytest.mark.parametrize("missing", [6, 7, "stream", "lock", "to", "key"])
def test_missing_claims(ada: nnguard.Identity, missing: Any) -> None:
    claims = claims_of(make(ada).encoded)
    del claims[missing]
    assert refusal(Request, signed(ada, Request, claims)) is Refusal.MALFORMED


def test_keys_in_another_form_are_refused(ada: nnguard.Identity) -> None:
    """One customer has one identifier, however a mail has broken the lines."""
    claims = claims_of(make(ada).encoded)
    for pem in (claims["to"] + b"\n", claims["to"].replace(b"\n", b"\r\n"), b"x" + claims["to"]):
        refused = refusal(Request, signed(ada, Request, {**claims, "to": pem}))
        assert refused is Refusal.MALFORMED


def test_signed_by_another_key_than_the_one_in_it(ada: nnguard.Identity) -> None:
    """Or by the right one, as another kind of file."""
    claims = claims_of(make(ada).encoded)
    stranger = nnguard.Identity.generate()
    assert refusal(Request, signed(stranger, Request, claims)) is Refusal.MALFORMED
    receipt = claims_of(Receipt.make(ada, LICENSE).encoded)
    as_request = sign(ada.request_signer, {}, encode_cbor(receipt), Request._DOMAIN)
    assert refusal(Receipt, as_request) is Refusal.MALFORMED
    assert refusal(Request, Receipt.make(ada, LICENSE).encoded) is Refusal.MALFORMED


def test_signer_of_another_algorithm_is_refused(ada: nnguard.Identity) -> None:
    """The key in the file is Ed25519; a kid of another key is not looked up."""
    claims = claims_of(make(ada).encoded)
    for algorithm in ("p256", "ml-dsa-65"):
        signer = nnguard.SigningKey.generate(algorithm)
        encoded = sign(signer, {}, encode_cbor(claims), Request._DOMAIN)
        assert refusal(Request, encoded) is Refusal.MALFORMED


def test_too_large(ada: nnguard.Identity, tmp_path: Path) -> None:
    claims = claims_of(make(ada).encoded)
    large = signed(ada, Request, {**claims, "device": [["x" * 1100, bytes(32)]] * 64})
    assert len(large) > 1 << 16
    assert refusal(Request, large) is Refusal.MALFORMED
    (tmp_path / "large").write_bytes(b"-" * ((1 << 16) + 1))
    with pytest.raises(LimitError):
        Request.load(tmp_path / "large")


@pytest.mark.parametrize(
    ("choices", "what"),
    [
        ({"order": "x" * 65}, "order: a text of 65 bytes"),
        ({"stream": "xy"}, "stream: not hexadecimal"),
        ({"stream": "ab"}, "has the wrong type, or is out of range"),
        ({"lock": "abcd"}, "has the wrong type, or is out of range"),
        ({"leases": -1}, "has the wrong type, or is out of range"),
    ],
    ids=str,
)
def test_wrong_arguments(ada: nnguard.Identity, choices: dict[str, Any], what: str) -> None:
    with pytest.raises(ArgumentError, match=what):
        make(ada, **choices)
    with pytest.raises(ArgumentError, match="not hexadecimal"):
        Receipt.make(ada, "xy")
    with pytest.raises(ArgumentError, match="out of range"):
        Receipt.make(ada, "ab")


def test_what_is_shown_has_no_order_code(ada: nnguard.Identity) -> None:
    request = make(ada, issued_at=START + timedelta(days=1))
    shown = request.to_json()
    assert shown["with_order"] is True
    assert "K7Q2" not in str(shown) + repr(request)
    assert shown["device"] == ["serial", "site"]
    assert shown["issued_at"] == "2026-03-02T00:00:00+00:00"
    assert repr(Receipt.make(ada, LICENSE)) == f"<nnguard.licensing.Receipt of {LICENSE}>"


def test_raw_keys() -> None:
    key = nnguard.SigningKey.generate().public_key
    assert nnguard.PublicKey.from_raw(key.raw) == key
    for wrong in (b"", bytes(32), b"\1" + bytes(31)):
        with pytest.raises(KeyFormatError):
            nnguard.PublicKey.from_raw(wrong)
    with pytest.raises(KeyFormatError, match="p256"):
        _ = nnguard.SigningKey.generate("p256").public_key.raw
