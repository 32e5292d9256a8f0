"""What is wrapped to a customer's public key, that customer's private key alone unwraps."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

import nnguard
from nnguard._crypto.pem import public_pem

SECRET, INFO = bytes(range(32)), b"terms"


@pytest.fixture(scope="module", params=[False, True], ids=["X25519", "ML-KEM-768+X25519"])
def identity(request: pytest.FixtureRequest) -> nnguard.Identity:
    return nnguard.Identity.generate(post_quantum=request.param)


def test_wrapped_secret_comes_back(identity: nnguard.Identity) -> None:
    wrapped = identity.recipient.wrap(SECRET, INFO)
    assert identity.unwrap(wrapped, INFO) == SECRET
    assert SECRET not in wrapped


def test_every_wrapping_is_another(identity: nnguard.Identity) -> None:
    assert len({identity.recipient.wrap(SECRET, INFO) for _ in range(5)}) == 5


def test_nobody_else_unwraps(identity: nnguard.Identity) -> None:
    wrapped = identity.recipient.wrap(SECRET, INFO)
    for post_quantum in (False, True):
        other = nnguard.Identity.generate(post_quantum=post_quantum)
        assert other.unwrap(wrapped, INFO) is None


def test_wrapping_is_bound_to_its_info(identity: nnguard.Identity) -> None:
    wrapped = identity.recipient.wrap(SECRET, INFO)
    for info in (b"", b"terms ", b"Terms"):
        assert identity.unwrap(wrapped, info) is None


def test_changed_wrapping_is_refused(identity: nnguard.Identity) -> None:
    wrapped = identity.recipient.wrap(SECRET, INFO)
    for bit in range(0, 8 * len(wrapped), 5):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        assert identity.unwrap(bytes(changed), INFO) is None
    for size in (0, 1, 31, 32, 33, len(wrapped) - 1):
        assert identity.unwrap(wrapped[:size], INFO) is None
    assert identity.unwrap(wrapped + b"\0", INFO) is None
    assert identity.unwrap(bytes(len(wrapped)), INFO) is None


SMALL_ORDER = [  # https://cr.yp.to/ecdh.html, "May 25519 be a small-order point?"
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_key_of_small_order_is_refused(
    point: str, identity: nnguard.Identity, tmp_path: Path
) -> None:
    """Anybody could open what is wrapped to it."""
    low = public_pem(X25519PublicKey.from_public_bytes(bytes.fromhex(point)))
    blocks = identity.recipient.pem.split(b"-----END PUBLIC KEY-----\n")
    pem = low + b"".join(block + b"-----END PUBLIC KEY-----\n" for block in blocks[1:-1])
    (tmp_path / "low.pub").write_bytes(pem)
    with pytest.raises(
        nnguard.errors.KeyFormatError, match=r"low\.pub: an X25519 key of small order"
    ):
        nnguard.Recipient.load(tmp_path / "low.pub")


@pytest.mark.parametrize("passphrase", [None, "correct horse battery staple", "pässword 模型"])
def test_pair_survives_files(
    tmp_path: Path, identity: nnguard.Identity, passphrase: str | None
) -> None:
    identity.save(tmp_path / "ada.key", passphrase=passphrase)
    identity.recipient.save(tmp_path / "ada.pub")
    assert stat.S_IMODE((tmp_path / "ada.key").stat().st_mode) == 0o600
    recipient = nnguard.Recipient.load(tmp_path / "ada.pub")
    assert recipient == identity.recipient
    assert (recipient.id, recipient.suite) == (identity.recipient.id, identity.recipient.suite)
    loaded = nnguard.Identity.load(tmp_path / "ada.key", passphrase=passphrase)
    assert loaded.recipient == recipient
    assert loaded.unwrap(recipient.wrap(SECRET, INFO), INFO) == SECRET
    for save in (identity.save, identity.recipient.save):
        with pytest.raises(FileExistsError):
            save(tmp_path / "ada.key")


def test_passphrase_that_does_not_fit(tmp_path: Path, identity: nnguard.Identity) -> None:
    identity.save(tmp_path / "safe.key", passphrase="right")
    identity.save(tmp_path / "open.key")
    for name, passphrase, complaint in (
        ("safe.key", "wrong", "wrong passphrase"),
        ("safe.key", None, "passphrase is needed"),
        ("open.key", "any", "no passphrase belongs to it"),
    ):
        with pytest.raises(nnguard.errors.KeyFormatError, match=complaint) as caught:
            nnguard.Identity.load(tmp_path / name, passphrase=passphrase)
        assert str(tmp_path / name) in str(caught.value)


def test_other_keys_are_no_identity(key: nnguard.SigningKey, identity: nnguard.Identity) -> None:
    mlkem = (
        b"-----BEGIN" + nnguard.Identity.generate(post_quantum=True).pem().split(b"-----BEGIN")[2]
    )
    for data in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        key.pem(),
        identity.recipient.pem,
        identity.pem() * 2,
        identity.pem() + key.pem(),
        mlkem,
    ):
        with pytest.raises(nnguard.errors.KeyFormatError):
            nnguard.Identity.from_pem(data)


def test_other_keys_are_no_recipient(key: nnguard.SigningKey, identity: nnguard.Identity) -> None:
    for data in (b"", key.public_key.pem, identity.pem(), identity.recipient.pem * 2):
        with pytest.raises(nnguard.errors.KeyFormatError):
            nnguard.Recipient.from_pem(data)


def test_text_around_the_blocks_does_not_matter(identity: nnguard.Identity) -> None:
    text = b"Ada's key:\r\n" + identity.recipient.pem.replace(b"\n", b"\r\n") + b"\nRegards\n"
    assert nnguard.Recipient.from_pem(text) == identity.recipient


def test_pairs_tell_apart_and_do_not_show(identity: nnguard.Identity) -> None:
    others = [nnguard.Identity.generate(post_quantum=pq) for pq in (False, True)]
    recipients = {identity.recipient, *(other.recipient for other in others)}
    assert len(recipients) == 3
    assert identity.recipient.id.hex() in repr(identity)
    assert identity.recipient.suite in repr(identity)
    assert identity.recipient != identity.recipient.pem
    with pytest.raises(TypeError):
        pickle.dumps(identity)


@pytest.mark.parametrize("post_quantum", [False, True])
def test_recipient_can_be_sent_to_another_process(*, post_quantum: bool) -> None:
    identity = nnguard.Identity.generate(post_quantum=post_quantum)
    assert pickle.loads(pickle.dumps(identity.recipient)) == identity.recipient
    with pytest.raises(TypeError, match="private keys are not pickled"):
        pickle.dumps(identity)
