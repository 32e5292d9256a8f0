"""The list of revoked licenses names them to those who hold them, and to nobody else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import sign
from nnguard._licensing.revocation import RevocationList

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
DOMAIN = b"nnguard revocation list v1\0"
IDS = [f"{number:032x}" for number in range(20)]


def make(ids: list[str], key: nnguard.SigningKey) -> RevocationList:
    return RevocationList.make(ids, key, issuer="acme.ai", issued_at=START)


def test_list_comes_back(tmp_path: Path, key: nnguard.SigningKey) -> None:
    make(IDS[:3], key).save(tmp_path / "acme.revoked")
    read = RevocationList.load(tmp_path / "acme.revoked")
    read.authenticate([key.public_key])
    assert (read.issuer, read.issued_at) == ("acme.ai", START)
    assert [read.revokes(license_id) for license_id in IDS[:5]] == [True] * 3 + [False] * 2
    with pytest.raises(FileExistsError):
        read.save(tmp_path / "acme.revoked")


def test_empty_list(key: nnguard.SigningKey) -> None:
    revoked = make([], key)
    assert RevocationList.parse(revoked.encoded).hashes == frozenset()
    assert not revoked.revokes(IDS[0])


def test_order_and_repetition_do_not_matter(key: nnguard.SigningKey) -> None:
    assert make(IDS, key).encoded == make([*reversed(IDS), *IDS], key).encoded
    assert make([IDS[10].upper()], key).revokes(IDS[10])


def test_identifiers_are_not_readable(key: nnguard.SigningKey) -> None:
    revoked = make(IDS, key)
    for license_id in IDS:
        assert bytes.fromhex(license_id) not in revoked.encoded
        assert license_id not in repr(revoked)


def test_list_is_of_now_unless_a_time_is_given(key: nnguard.SigningKey) -> None:
    revoked = RevocationList.make([], key)
    assert abs(datetime.now(timezone.utc) - revoked.issued_at) < timedelta(minutes=5)
    with pytest.raises(ValueError, match="time zone"):
        RevocationList.make([], key, issued_at=datetime(2026, 1, 1))


@pytest.mark.parametrize("license_id", ["", "01" * 8, "01" * 17, "no license", "0" * 31])
def test_what_is_no_identifier_is_not_silently_revoked(
    license_id: str, key: nnguard.SigningKey
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make([license_id], key)


def test_list_of_another_vendor(key: nnguard.SigningKey, other_key: nnguard.SigningKey) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match=other_key.public_key.id.hex()):
        make(IDS, other_key).authenticate([key.public_key])


HASHES = [bytes([number]) * 32 for number in (1, 2)]


@pytest.mark.parametrize(
    "claims",
    [
        [],
        {},
        {1: "", 6: 1},
        {1: "", 6: 1, "revoked": b"1"},
        {1: "", 6: 1, "revoked": "1"},
        {1: "", 6: "1", "revoked": b""},
        {1: b"", 6: 1, "revoked": b""},
        {1: "", 6: 1 << 60, "revoked": b""},
        {1: "", 6: 1, "revoked": b"", "more": 1},
        {1: "", 6: 1, "revoked": HASHES[1] + HASHES[0]},
        {1: "", 6: 1, "revoked": HASHES[0] * 2},
    ],
)
def test_malformed_list_is_refused(claims: Any, key: nnguard.SigningKey) -> None:
    good = {1: "", 6: 1, "revoked": HASHES[0] + HASHES[1]}
    assert RevocationList.parse(sign(key, {}, encode_cbor(good), DOMAIN)).hashes
    with pytest.raises(nnguard.errors.LicenseError, match="not a revocation list") as caught:
        RevocationList.parse(sign(key, {}, encode_cbor(claims), DOMAIN))
    assert caught.value.reason is nnguard.licensing.Refusal.MALFORMED


def test_file_that_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "acme.revoked"
    for data in (b"", b"\xff" * 99, b"-----BEGIN NNGUARD REVOCATION LIST-----"):
        path.write_bytes(data)
        with pytest.raises(nnguard.errors.LicenseError, match=str(path)):
            RevocationList.load(path)


def test_list_of_many(key: nnguard.SigningKey) -> None:
    """Twenty thousand revoked licenses take 0.9 MB of text."""
    ids = [f"{number:032x}" for number in range(20_000)]
    revoked = make(ids, key)
    assert len(str(revoked)) < 900_000
    read = RevocationList.parse(revoked.encoded)
    assert read.revokes(ids[7_777])
    assert not read.revokes("ff" * 16)


def test_list_is_of_nobody_unless_it_is_said(key: nnguard.SigningKey) -> None:
    assert RevocationList.make([], key).issuer == ""


def test_more_in_the_header_of_a_list_is_refused(key: nnguard.SigningKey) -> None:
    claims = encode_cbor({1: "acme.ai", 6: 0, "revoked": b""})
    RevocationList.parse(sign(key, {}, claims, DOMAIN)).authenticate([key.public_key])
    with pytest.raises(nnguard.errors.LicenseError, match="not a revocation list"):
        RevocationList.parse(sign(key, {"more": 1}, claims, DOMAIN))


def test_time_that_there_is_not(key: nnguard.SigningKey) -> None:
    far = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    with pytest.raises(ValueError, match="too far out"):
        nnguard.licensing.RevocationList.make([], key, issued_at=far)
