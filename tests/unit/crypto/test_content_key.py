"""Content keys open what they sealed, keep to themselves, and lead down but not up."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest

import nnguard
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.cose import Encrypt0, parse_encrypt0

SECRET = bytes(range(32))
KEY = ContentKey(SECRET)
NONCE = b"nonce of 12."


def seal(**changes: bytes) -> Encrypt0:
    given = {"plaintext": b"weights", "nonce": NONCE, "aad": b"header", **changes}
    return parse_encrypt0(KEY.seal(protected={"tier": "full"}, **given))


def test_what_is_sealed_opens() -> None:
    for plaintext in (b"", b"weights", bytes(100_000)):
        assert KEY.open(seal(plaintext=plaintext), b"header") == plaintext


def test_sealed_content_is_not_readable() -> None:
    assert b"weights" not in bytes(seal())
    assert SECRET not in bytes(seal())


def test_size_depends_on_that_of_the_content_alone() -> None:
    sizes = {
        len(bytes(seal(plaintext=bytes(99), nonce=bytes([number]) * 12, aad=bytes(number))))
        for number in range(20)
    }
    assert len(sizes) == 1


def test_other_keys_do_not_open() -> None:
    assert ContentKey(bytes(32)).open(seal(), b"header") is None
    assert KEY.below().open(seal(), b"header") is None


def test_a_key_that_only_claims_the_identifier_does_not_open() -> None:
    other = ContentKey(bytes(32))
    message = parse_encrypt0(other.seal(b"weights", {}, NONCE, b"header"))
    forged = Encrypt0({**message.protected, 4: KEY.id}, message.ciphertext)
    assert KEY.open(forged, b"header") is None


def test_no_bit_can_be_changed() -> None:
    message = seal()
    for bit in range(8 * len(message.ciphertext)):
        changed = bytearray(message.ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        assert KEY.open(Encrypt0(message.protected, bytes(changed)), b"header") is None
    for protected in (
        {**message.protected, "tier": "basic"},
        {**message.protected, "more": 1},
        {**message.protected, 5: b"nonce of 13."},
    ):
        assert KEY.open(Encrypt0(protected, message.ciphertext), b"header") is None
    assert KEY.open(message, b"other header") is None
    for size in range(len(message.ciphertext)):
        assert KEY.open(Encrypt0(message.protected, message.ciphertext[:size]), b"header") is None


# Lower tiers


def test_lower_keys_follow_from_higher_ones() -> None:
    assert KEY.below(0) == KEY
    assert KEY.below(2) == KEY.below().below()
    keys = [KEY.below(steps) for steps in range(8)]
    assert len({key.secret for key in keys}) == 8
    assert len({key.id for key in keys}) == 8


def test_derivation_does_not_change_between_versions() -> None:
    """Expected values by the HKDF of RFC 5869 in a few lines, and by `openssl enc -aes-256-ctr`."""
    assert KEY.id.hex() == "296bbc9c7793657c"
    assert KEY.below().secret == bytes.fromhex(
        "b558f1f547f7159e9ef4039e05a5878cdd6fc13bbcbd52c49b9232d4daf9932f"
    )
    assert KEY.keystream("choice", NONCE).read(3, 8).hex() == "8af41171213254bb"


# Keystreams


def test_keystreams_are_apart_by_use_nonce_and_run() -> None:
    streams = [
        KEY.keystream("choice", NONCE).read(0, 64),
        KEY.keystream("scramble", NONCE).read(0, 64),
        KEY.keystream("choice", bytes(12)).read(0, 64),
        KEY.keystream("choice", NONCE).read(1, 64),
        KEY.below().keystream("choice", NONCE).read(0, 64),
    ]
    assert len(set(streams)) == len(streams)
    assert len({stream[at : at + 8] for stream in streams for at in range(0, 64, 8)}) == 40


def test_runs_can_be_read_in_part() -> None:
    keystream = KEY.keystream("scramble", NONCE)
    assert keystream.read(5, 1000)[:10] == keystream.read(5, 10)
    assert keystream.read(5, 0) == b""


# Files


def test_key_survives_a_file(tmp_path: Path) -> None:
    KEY.save(tmp_path / "content.key")
    assert ContentKey.load(tmp_path / "content.key") == KEY
    assert stat.S_IMODE((tmp_path / "content.key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        KEY.save(tmp_path / "content.key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN NNGUARD CONTENT KEY-----\nAAAA\n-----END NNGUARD CONTENT KEY-----\n",
        b"-----BEGIN NNGUARD CONTENT KEY-----\n????\n-----END NNGUARD CONTENT KEY-----\n",
        nnguard.SigningKey.generate().pem(),
        bytes(1 << 16),
    ],
)
def test_files_that_are_no_content_key(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "content.key").write_bytes(data)
    with pytest.raises(nnguard.errors.KeyFormatError, match="not a content key"):
        ContentKey.load(tmp_path / "content.key")


def test_large_file_is_refused_whole(tmp_path: Path) -> None:
    """What begins as a key is not read as one with the rest cut off."""
    KEY.save(tmp_path / "content.key")
    with (tmp_path / "content.key").open("ab") as file:
        file.write(bytes(1 << 16))
    with pytest.raises(nnguard.errors.KeyFormatError, match="has more than 65536 bytes"):
        ContentKey.load(tmp_path / "content.key")


def test_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ContentKey.load(tmp_path / "content.key")


# The object


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_secret_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        ContentKey(bytes(size))


def test_new_keys_differ() -> None:
    assert len({ContentKey.generate().secret for _ in range(10)}) == 10
    assert len({ContentKey.new_nonce() for _ in range(10)}) == 10


def test_keys_compare_by_their_secret() -> None:
    assert ContentKey(SECRET) == KEY
    assert hash(ContentKey(SECRET)) == hash(KEY)
    assert ContentKey(bytes(32)) != KEY
    assert KEY != SECRET


def test_neither_keys_nor_keystreams_are_pickled_or_shown() -> None:
    keystream = KEY.keystream("scramble", NONCE)
    for secret in (KEY, keystream):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(secret, protocol)
    assert repr(KEY) == f"<nnguard.ContentKey {KEY.id.hex()}>"
    assert repr(keystream) == "<nnguard keystream>"


def test_file_of_a_content_key(tmp_path: Path) -> None:
    """Its first line says what it is; it is looked for in the first 65,536 bytes."""
    path = tmp_path / "content.key"
    key = ContentKey.generate()
    key.save(path)
    text = path.read_text()
    assert text.startswith("-----BEGIN NNGUARD CONTENT KEY-----\n")
    path.write_text("\n" * 1000 + text)
    assert ContentKey.load(path) == key
    path.write_text("\n" * 70_000 + text)
    with pytest.raises(nnguard.errors.KeyFormatError):
        ContentKey.load(path)
    path.write_text("no key")
    with pytest.raises(nnguard.errors.KeyFormatError, match="not a content key") as caught:
        ContentKey.load(path)
    assert caught.value.hint == "nnguard lock makes one"
