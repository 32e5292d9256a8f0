"""Codes of orders: read as people write them, and guessed by nobody."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnguard._selling.order_code import make_code, read_code

SECRETS = st.binary(min_size=32, max_size=32)
IDS = st.binary(min_size=8, max_size=8).map(bytes.hex)


@given(SECRETS, IDS)
def test_a_code_is_that_of_its_order(secret: bytes, order_id: str) -> None:
    code = make_code(secret, order_id)
    assert re.fullmatch("([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{2}", code)
    assert read_code(secret, code) == order_id


@given(SECRETS, IDS, st.data())
def test_a_code_is_read_as_people_write_it(
    secret: bytes, order_id: str, data: st.DataObject
) -> None:
    written = ""
    for sign in make_code(secret, order_id):
        alike = {"0": "0Oo", "1": "1IiLl", "-": ["-", " ", "", "\n"]}.get(sign, sign + sign.lower())
        written += data.draw(st.sampled_from(alike))
    assert read_code(secret, f"\t{written} ") == order_id


@given(SECRETS, SECRETS, IDS)
def test_a_code_of_another_secret_is_none(secret: bytes, other: bytes, order_id: str) -> None:
    if secret != other:
        assert read_code(other, make_code(secret, order_id)) is None


def test_every_other_digit_makes_it_the_code_of_none() -> None:
    secret, order_id = bytes(32), "0123456789abcdef"
    digits = make_code(secret, order_id).replace("-", "")
    for place, digit in enumerate(digits):
        for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ":
            changed = digits[:place] + other + digits[place + 1 :]
            assert (read_code(secret, changed) == order_id) == (other == digit)


@pytest.mark.parametrize("text", ["", "U" * 26, "0" * 25, "0" * 27, "é" * 26, "٣" * 26, "0" * 5000])
def test_what_is_no_code_is_none(text: str) -> None:
    assert read_code(bytes(32), text) is None
