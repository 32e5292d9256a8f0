"""Trusted keys come from keys, files and folders, and are found by their identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._crypto.trust import find_key, load_trust


def test_trust_of_all_sorts(
    tmp_path: Path, key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    first, second = key.public_key, other_key.public_key
    bundle = tmp_path / "all.pem"
    bundle.write_bytes(b"# ours\n" + first.pem + b"\n# theirs\n" + second.pem)
    assert load_trust(first) == (first,)
    assert load_trust([first, first]) == (first,)
    assert load_trust(bundle) == (first, second)
    assert load_trust(str(bundle)) == (first, second)
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "b.pub").write_bytes(second.pem)
    (folder / "a.pem").write_bytes(first.pem)
    (folder / "README").write_text("not a key")
    (folder / "folder.pub").mkdir()
    assert load_trust(folder) == (first, second)
    assert load_trust([folder, bundle, first]) == (first, second)


def test_trust_that_is_none(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "empty").mkdir()
    for nothing in ([], tmp_path / "empty"):
        with pytest.raises(nnguard.errors.KeyFormatError, match="no trusted key"):
            load_trust(nothing)
    with pytest.raises(FileNotFoundError):
        load_trust(tmp_path / "missing.pub")


def test_private_key_is_not_trusted(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "a.pub").write_bytes(key.public_key.pem + key.pem())
    with pytest.raises(nnguard.errors.KeyFormatError, match="private key"):
        load_trust(tmp_path / "a.pub")


def test_one_bad_key_of_many_is_refused(tmp_path: Path, key: nnguard.SigningKey) -> None:
    bad = key.public_key.pem.replace(b"MC", b"MD")
    (tmp_path / "a.pub").write_bytes(key.public_key.pem + bad)
    with pytest.raises(nnguard.errors.KeyFormatError):
        load_trust(tmp_path / "a.pub")


def test_pem_without_an_end_is_refused(key: nnguard.SigningKey, tmp_path: Path) -> None:
    pem = key.public_key.pem
    (tmp_path / "a.pub").write_bytes(pem + pem.partition(b"-----END")[0])
    with pytest.raises(nnguard.errors.KeyFormatError, match="has no end"):
        load_trust(tmp_path / "a.pub")


@pytest.mark.parametrize(
    ("trust", "name"), [(7, "int"), (None, "NoneType"), (b"a.pub", "bytes"), ([7], "int")]
)
def test_trust_of_another_type_is_named(trust: Any, name: str) -> None:
    message = f"trust: expected a path or a PublicKey, not {name}"
    with pytest.raises(TypeError, match=f"^{message}$"):
        load_trust(trust)


def test_signing_key_is_not_trusted_in_place_of_its_public_half(key: nnguard.SigningKey) -> None:
    for trust in (key, [key]):
        with pytest.raises(TypeError, match="not SigningKey"):
            load_trust(trust)


def test_key_is_found_by_its_identifier(
    key: nnguard.SigningKey, other_key: nnguard.SigningKey
) -> None:
    keys = load_trust([key.public_key, other_key.public_key])
    assert find_key(keys, other_key.public_key.id) == other_key.public_key
    stranger = nnguard.SigningKey.generate().public_key.id
    with pytest.raises(nnguard.errors.WrongKeyError) as caught:
        find_key(keys, stranger, "the license")
    assert str(caught.value) == (
        f"the license is signed with key {stranger.hex()}, which is not among the 2 trusted"
    )
