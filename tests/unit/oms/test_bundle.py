"""A bundle is what a trusted key signed, in its one form, and a folder is what it says."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

import nnguard
from ecdsa_keys import write_key
from nnguard._crypto.ecdsa import EcdsaKey
from nnguard._oms.envelope import seal
from nnguard._oms.statement import Statement
from nnguard.errors import KeyFormatError, LimitError, VerificationError, WrongKeyError
from nnguard.oms import Bundle

ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def signed(keys: Path, statement: Statement, at: Path) -> Bundle:
    """Write a bundle of a statement, and open it."""
    at.write_bytes(seal(statement.encode(), nnguard.SigningKey.load(keys / "oms.key")))
    return Bundle.open(at, keys / "oms.pub")


def test_folder_is_what_was_signed(plain: Path, keys: Path) -> None:
    bundle = Bundle.open(plain.with_suffix(".sig"), keys / "oms.pub")
    assert bundle.check(plain) == ()
    assert sorted(bundle.files) == ["config.json", "sub.txt", "sub/weights.bin"]
    assert bundle.name == "plain"
    assert bundle.to_json() == {"key_id": bundle.key_id, "name": "plain", "files": 3}


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_curves(plain: Path, tmp_path: Path, curve: str) -> None:
    write_key(tmp_path, "own", curve)
    nnguard.oms.sign(plain, tmp_path / "a.sig", tmp_path / "own.key")
    assert Bundle.open(tmp_path / "a.sig", [tmp_path / "own.pub"]).check(plain) == ()


def test_keys_of_a_folder_and_of_one_file(plain: Path, keys: Path, tmp_path: Path) -> None:
    both = (keys / "other.pub").read_bytes() + (keys / "oms.pub").read_bytes()
    (tmp_path / "both.pem").write_bytes(both)
    for trust in (keys, tmp_path / "both.pem", [keys / "other.pub", keys / "oms.pub"]):
        assert Bundle.open(plain.with_suffix(".sig"), trust).check(plain) == ()


def test_other_keys(plain: Path, keys: Path, tmp_path: Path, key: nnguard.SigningKey) -> None:
    sig = plain.with_suffix(".sig")
    with pytest.raises(WrongKeyError, match="among the 1 trusted"):
        Bundle.open(sig, keys / "other.pub")
    key.public_key.save(tmp_path / "vendor.pub")
    for path in (keys / "oms.key", tmp_path / "vendor.pub", plain / "config.json"):
        with pytest.raises(KeyFormatError):
            Bundle.open(sig, path)
    with pytest.raises(KeyFormatError, match="no trusted key"):
        Bundle.open(sig, [])
    with pytest.raises(TypeError, match="trust"):
        Bundle.open(sig, 7)  # type: ignore[arg-type]


def test_hint_of_another_key_does_not_help(plain: Path, keys: Path) -> None:
    sig = plain.with_suffix(".sig")
    value = json.loads(sig.read_text())
    other = EcdsaKey.from_pem((keys / "other.pub").read_bytes()).hint
    value["verificationMaterial"]["publicKey"]["hint"] = other
    sig.write_text(json.dumps(value))
    with pytest.raises(VerificationError, match="not right"):
        Bundle.open(sig, keys / "other.pub")


def envelope(value: Any) -> Any:
    return value["dsseEnvelope"]


def signature(value: Any) -> Any:
    return value["dsseEnvelope"]["signatures"][0]


def material(value: Any) -> Any:
    return value["verificationMaterial"]


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another media type": (
        "media type",
        lambda v: v.update(mediaType="application/vnd.dev.sigstore.bundle.v0.2+json"),
    ),
    "a member more": ("extra member", lambda v: v.update(more=1)),
    "a message's signature": ("extra member", lambda v: v.update(messageSignature={})),
    "a certificate": (
        "has no 'publicKey'",
        lambda v: v.update(verificationMaterial={"certificate": {"rawBytes": ""}}),
    ),
    "a key and a certificate": ("extra member", lambda v: material(v).update(certificate={})),
    "the key itself": ("extra member", lambda v: material(v)["publicKey"].update(rawBytes="")),
    "no hint": ("has no 'hint'", lambda v: material(v)["publicKey"].clear()),
    "a hint that is not text": (
        "hint",
        lambda v: material(v)["publicKey"].update(hint=["a"]),
    ),
    "a log": ("transparency log", lambda v: material(v).update(tlogEntries=[{}])),
    "another type of payload": (
        "payload",
        lambda v: envelope(v).update(payloadType="application/json"),
    ),
    "no signature": ("one signature", lambda v: envelope(v).update(signatures=[])),
    "two signatures": (
        "one signature",
        lambda v: envelope(v).update(signatures=envelope(v)["signatures"] * 2),
    ),
    "a signature with more": ("extra member", lambda v: signature(v).update(cert="")),
    "an identifier of the key": ("hint", lambda v: signature(v).update(keyid="a")),
    "base64 with a line break": (
        "base64",
        lambda v: envelope(v).update(payload=envelope(v)["payload"] + "\n"),
    ),
    "base64 without padding": (
        "base64",
        lambda v: envelope(v).update(payload=envelope(v)["payload"].rstrip("=")),
    ),
    "base64 for addresses": (
        "base64",
        lambda v: signature(v).update(sig=signature(v)["sig"].replace("/", "_", 1) + "_" * 4),
    ),
    "a payload that is not text": ("base64", lambda v: envelope(v).update(payload=7)),
    "an empty payload": ("not right", lambda v: envelope(v).update(payload="")),
    "another payload": (
        "not right",
        lambda v: envelope(v).update(payload=base64.b64encode(b"{}").decode()),
    ),
    "bytes behind the signature": (
        "not right",
        lambda v: signature(v).update(
            sig=base64.b64encode(base64.b64decode(signature(v)["sig"]) + b"\0").decode()
        ),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_bundles_in_another_form(plain: Path, keys: Path, change: str) -> None:
    sig = plain.with_suffix(".sig")
    value = json.loads(sig.read_text())
    message, apply = CHANGES[change]
    apply(value)
    sig.write_text(json.dumps(value))
    with pytest.raises(VerificationError, match=message):
        Bundle.open(sig, keys / "oms.pub")


def test_base64_whose_last_bits_are_not_zero(tmp_path: Path, keys: Path) -> None:
    """Whatever is signed, there is a length of the name that leaves bits over."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sig = tmp_path / "a.sig"
    for length in range(3):
        signed(keys, Statement("m" * length, {"a": bytes(32)}), sig)
        value = json.loads(sig.read_text())
        payload = envelope(value)["payload"]
        if payload.endswith("="):
            text = payload.rstrip("=")
            last = digits[digits.index(text[-1]) + 1]
            envelope(value)["payload"] = text[:-1] + last + payload[len(text) :]
            sig.write_text(json.dumps(value))
            with pytest.raises(VerificationError, match="base64"):
                Bundle.open(sig, keys / "oms.pub")
            return
    raise AssertionError("no length leaves bits over")


def test_other_half_of_a_signature_is_right_too(plain: Path, keys: Path) -> None:
    """ECDSA in DER has two signatures for each; the standard does not say which is valid."""
    sig = plain.with_suffix(".sig")
    value = json.loads(sig.read_text())
    r, s = decode_dss_signature(base64.b64decode(signature(value)["sig"]))
    other = encode_dss_signature(r, ORDER_OF_P256 - s)
    signature(value)["sig"] = base64.b64encode(other).decode()
    sig.write_text(json.dumps(value))
    assert Bundle.open(sig, keys / "oms.pub").check(plain) == ()


def test_bundle_that_is_large(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "a.sig").write_bytes(b" " * ((1 << 24) + 1))
    with pytest.raises(LimitError):
        Bundle.open(tmp_path / "a.sig", keys / "oms.pub")


FOLDERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "changed": ("not what the bundle signed: sub.txt", lambda f: (f / "sub.txt").write_text("x")),
    "missing": ("missing: sub/weights.bin", lambda f: (f / "sub" / "weights.bin").unlink()),
    "added": ("does not list: new", lambda f: (f / "new").write_text("")),
    "added below": ("does not list: sub/new", lambda f: (f / "sub" / "new").write_text("")),
    "added and hidden": ("does not list: .new", lambda f: (f / ".new").write_text("")),
    "added in a hidden folder": (
        "does not list: .cache/new",
        lambda f: ((f / ".cache").mkdir(), (f / ".cache" / "new").write_text("")),
    ),
    "moved": (
        "missing: sub.txt",
        lambda f: (f / "sub.txt").rename(f / "sub" / "sub.txt"),
    ),
    "a link to a file": (
        "symbolic links: sub.txt",
        lambda f: ((f / "sub.txt").rename(f.parent / "t"), (f / "sub.txt").symlink_to("../t")),
    ),
    "a link to a folder": (
        "does not list: link",
        lambda f: (f / "link").symlink_to("sub"),
    ),
    "a link in the place of a folder": (
        "missing: sub/weights.bin",
        lambda f: ((f / "sub").rename(f.parent / "s"), (f / "sub").symlink_to("../s")),
    ),
}


@pytest.mark.parametrize("change", FOLDERS)
def test_other_folders(plain: Path, keys: Path, change: str) -> None:
    bundle = Bundle.open(plain.with_suffix(".sig"), keys / "oms.pub")
    message, apply = FOLDERS[change]
    apply(plain)
    with pytest.raises(VerificationError, match=message):
        bundle.check(plain)


def test_fifo_in_the_place_of_a_file(plain: Path, keys: Path) -> None:
    bundle = Bundle.open(plain.with_suffix(".sig"), keys / "oms.pub")
    (plain / "sub.txt").unlink()
    os.mkfifo(plain / "sub.txt")
    with pytest.raises(OSError, match="regular file"):
        bundle.check(plain)


def test_what_belongs_to_git_is_named(plain: Path, keys: Path) -> None:
    (plain / ".git" / "objects").mkdir(parents=True)
    (plain / ".gitattributes").write_text("")
    bundle = Bundle.open(plain.with_suffix(".sig"), keys / "oms.pub")
    assert bundle.check(plain) == (".git/", ".gitattributes")


def test_links_where_the_signer_allows_them(plain: Path, keys: Path, tmp_path: Path) -> None:
    """As in the cache of a hub, where a file is a link to its contents."""
    files = dict(Bundle.open(plain.with_suffix(".sig"), keys / "oms.pub").files)
    bundle = signed(keys, Statement("m", files, allow_symlinks=True), tmp_path / "b.sig")
    (plain / "sub.txt").rename(tmp_path / "blob")
    (plain / "sub.txt").symlink_to("../blob")
    assert bundle.check(plain) == ()
    (tmp_path / "blob").write_text("another")
    with pytest.raises(VerificationError, match=r"sub\.txt"):
        bundle.check(plain)


def test_folder_of_the_tool_for_one_file_is_none(plain: Path, keys: Path, tmp_path: Path) -> None:
    value = json.loads(Statement("m", {"a": bytes(32)}).encode())
    value["predicate"]["resources"][0]["name"] = "."
    sealed = seal(json.dumps(value).encode(), nnguard.SigningKey.load(keys / "oms.key"))
    (tmp_path / "b.sig").write_bytes(sealed)
    bundle = Bundle.open(tmp_path / "b.sig", keys / "oms.pub")
    shutil.rmtree(plain)
    plain.mkdir()
    with pytest.raises(VerificationError, match="missing"):
        bundle.check(plain)
