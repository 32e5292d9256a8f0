"""A signed file is of one kind, says who signed it, and keeps to its bytes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._crypto.cbor import encode_cbor
from nnguard._crypto.cose import sign
from nnguard._crypto.signed_file import SignedFile
from nnguard.errors import ArgumentError, LicenseError, LimitError, Refusal, WrongKeyError


@dataclass(frozen=True, slots=True, eq=False)
class Note(SignedFile):
    """A kind of file that says one thing."""

    text: str

    _WHAT = "note"
    _ARMOR = "TEST NOTE"
    _DOMAIN = b"test note\0"
    _MAX_SIZE = 1000

    @classmethod
    def make(cls, text: Any, signer: nnguard.Signer) -> Note:
        return cls._sign({1: text}, signer)

    @classmethod
    def _fields(cls, claims: Any) -> dict[str, Any]:
        match claims:
            case {1: str() as text} if len(claims) == 1:
                return {"text": text}
        raise ValueError("claims")


class Memo(Note):
    """The same claims in a file of another kind."""

    _DOMAIN = b"test memo\0"


@pytest.fixture
def note(key: nnguard.SigningKey) -> Note:
    return Note.make("hello", key)


def test_file_comes_back(note: Note, key: nnguard.SigningKey, tmp_path: Path) -> None:
    note.save(tmp_path / "note")
    for read in (Note.load(tmp_path / "note"), Note.from_text(str(note)), Note.parse(note.encoded)):
        assert (read.text, read.encoded) == ("hello", note.encoded)
        assert read.key_id == key.public_key.id.hex()
        read.authenticate([key.public_key])
    with pytest.raises(FileExistsError):
        note.save(tmp_path / "note")


def test_equal_are_files_of_equal_bytes(note: Note, key: nnguard.SigningKey) -> None:
    there = pickle.loads(pickle.dumps(note))
    assert there == note
    assert hash(there) == hash(note)
    assert note != Note.make("hallo", key)
    assert note != Memo.parse(note.encoded)


def test_file_of_another_kind_is_not_authentic(note: Note, key: nnguard.SigningKey) -> None:
    with pytest.raises(LicenseError, match="the note was changed"):
        Memo.parse(note.encoded).authenticate([key.public_key])


def test_file_of_another_key(note: Note, other_key: nnguard.SigningKey) -> None:
    with pytest.raises(WrongKeyError, match=f"the note is signed with key {note.key_id}"):
        note.authenticate([other_key.public_key])


@pytest.mark.parametrize("claims", [{}, {1: 5}, {1: "a", 2: "b"}, [], 7])
def test_other_claims_are_refused(claims: Any, key: nnguard.SigningKey) -> None:
    encoded = sign(key, {}, encode_cbor(claims), b"test note\0")
    with pytest.raises(LicenseError, match="not a note, or it was changed") as caught:
        Note.parse(encoded)
    assert caught.value.reason is Refusal.MALFORMED


def test_what_could_not_be_read_is_not_signed(key: nnguard.SigningKey) -> None:
    with pytest.raises(ArgumentError, match="a claim of the note has the wrong type"):
        Note.make(7, key)


def test_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hello")
    with pytest.raises(LicenseError, match=rf"{tmp_path / 'note'}: not a note: there is no line"):
        Note.load(tmp_path / "note")


def test_large_file_is_refused_and_not_cut(note: Note, tmp_path: Path) -> None:
    text = str(note)
    (tmp_path / "note").write_text(text + "\n" * (1000 - len(text)))
    assert Note.load(tmp_path / "note") == note
    (tmp_path / "note").write_text(text + "\n" * (1001 - len(text)))
    with pytest.raises(LimitError, match="has more than 1000 bytes"):
        Note.load(tmp_path / "note")
