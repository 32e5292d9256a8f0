"""Armor gives the bytes back, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnguard._crypto.armor import read_armor, write_armor
from nnguard.errors import LimitError

LABEL = "NNGUARD LICENSE"
BEGIN, END = f"-----BEGIN {LABEL}-----", f"-----END {LABEL}-----"


@given(st.binary(max_size=400))
def test_bytes_come_back(data: bytes) -> None:
    text = write_armor(LABEL, data)
    assert read_armor(LABEL, text) == data
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 64
    assert text.endswith(f"\n{END}\n")


@given(st.binary(min_size=1, max_size=200), st.data())
def test_mail_may_break_lines_anywhere(data: bytes, drawn: st.DataObject) -> None:
    breaks = st.sampled_from(["\n", "\r\n", "\n> ", "\n>> ", "\t", " ", "\n| ", "\u00a0"])
    body = base64.b64encode(data).decode()
    broken = "".join(character + drawn.draw(breaks | st.just("")) for character in body)
    assert read_armor(LABEL, f"{BEGIN}\n{broken}{END}") == data


@given(st.binary(min_size=1, max_size=60), st.data())
def test_changed_characters_give_other_bytes_or_an_error(data: bytes, drawn: st.DataObject) -> None:
    text = write_armor(LABEL, data)
    at = drawn.draw(st.integers(len(BEGIN) + 1, len(text) - len(END) - 3))
    other = drawn.draw(st.characters(min_codepoint=33, max_codepoint=126))
    if other == text[at] or text[at] == "\n":
        return
    with contextlib.suppress(ValueError):
        assert read_armor(LABEL, text[:at] + other + text[at + 1 :]) != data


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no line -----BEGIN"),
        (f"{BEGIN}\naGVsbG8=\n", "no line -----END"),
        (f"{END}\naGVsbG8=\n{BEGIN}", "no line -----END"),
        (f"-----BEGIN OTHER-----\naGVsbG8=\n{END}", "no line -----BEGIN"),
        (f"{BEGIN}\naGVsbG8\n{END}", "changed"),
        (f"{BEGIN}\naGVsbG8==\n{END}", "changed"),
        (f"{BEGIN}\naGVsbG9=\n{END}", "changed"),  # the bits that are left over are not zero
        (f"{BEGIN}\naGVs*bG8=\n{END}", "changed"),
        (f"{BEGIN}\naGVsbG8=é\n{END}", "changed"),
        (f"{BEGIN}\naGVs=bG8\n{END}", "changed"),
        (f"{BEGIN}\n{BEGIN}\naGVsbG8=\n{END}", "changed"),
        (f"{BEGIN}\nVersion: 1\n\naGVsbG8=\n{END}", "changed"),
    ],
)
def test_damaged_armor_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_armor(LABEL, text)


def test_large_armor_is_refused_and_not_cut() -> None:
    with pytest.raises(LimitError, match="at most 16777216 characters"):
        read_armor(LABEL, BEGIN + "A" * (1 << 24) + END)


def test_the_first_of_several_is_read() -> None:
    both = write_armor(LABEL, b"one") + write_armor(LABEL, b"two")
    assert read_armor(LABEL, both) == b"one"
    other = write_armor("NNGUARD REVOCATION LIST", b"list")
    assert read_armor(LABEL, other + both) == b"one"


def test_base64_of_others_agrees() -> None:
    data = bytes(range(256))
    body = "".join(write_armor(LABEL, data).splitlines()[1:-1])
    command = ["base64", "--decode"]
    done = subprocess.run(command, input=body.encode(), capture_output=True, check=True)
    assert done.stdout == data
