"""Scopes: a release is in one only by its own issuer and its own name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnguard._policy.scope import Scope

TEXTS = st.text(alphabet="ab/*.", max_size=6)


@pytest.mark.parametrize(
    ("scope", "issuer", "name"),
    [
        ("acme.ai/resnet56", "acme.ai", "resnet56"),
        ("acme.ai/*", "acme.ai", "resnet56"),
        ("acme.ai/*", "acme.ai", ""),
        ("acme.ai/*", "acme.ai", "org/llama\n7b"),
        ("acme.ai/", "acme.ai", ""),
        ("acme.ai/res*net*6", "acme.ai", "resnet56"),
        ("acme.ai/org/*", "acme.ai", "org/llama"),
        ("*.acme.ai/x", "eu.acme.ai", "x"),
        ("*/*", "", ""),
        ("*/*", "acme.ai/eu", "x"),
        ("*/x", "acme.ai/eu", "x"),
        ("acme.ai/a?[b]", "acme.ai", "a?[b]"),
    ],
)
def test_in_scope(scope: str, issuer: str, name: str) -> None:
    assert Scope(scope).matches(issuer, name)


@pytest.mark.parametrize(
    ("scope", "issuer", "name"),
    [
        ("acme.ai/*", "acme.ai/", "x"),
        ("acme.ai/*", "acme.ai/x", ""),
        ("acme.ai/x/*", "acme.ai/x", "y"),
        ("acme.ai/*", "acme.ai.evil", "x"),
        ("acme.ai/*", "evil.acme.ai", "x"),
        ("acme.ai/*", "Acme.ai", "x"),
        ("acme.ai/*", "*", "*"),
        ("acme.ai/*", "", "acme.ai/x"),
        ("acme.ai/x", "acme.ai", "x\n"),
        ("acme.ai/aa*aa", "acme.ai", "aaa"),
        ("acme.ai/a?b", "acme.ai", "axb"),
        ("*/x", "acme.ai", "y/x"),
        ("acme.ai/*b*a", "acme.ai", "ab"),
    ],
)
def test_out_of_scope(scope: str, issuer: str, name: str) -> None:
    assert not Scope(scope).matches(issuer, name)


@given(TEXTS, TEXTS, TEXTS.map(lambda text: text.replace("/", "")), TEXTS)
def test_matches_as_a_regular_expression_would(
    issuer: str, name: str, issuers: str, names: str
) -> None:
    def fits(pattern: str, text: str) -> bool:
        parts = (re.escape(part) for part in pattern.split("*"))
        return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None

    expected = fits(issuers, issuer) and fits(names, name)
    assert Scope(f"{issuers}/{names}").matches(issuer, name) == expected


@given(TEXTS, TEXTS, TEXTS)
def test_what_a_covered_scope_matches_the_other_matches(one: str, other: str, text: str) -> None:
    wide, narrow = Scope(f"x/{one}"), Scope(f"x/{other}")
    if wide.covers(narrow) and narrow.matches("x", text):
        assert wide.matches("x", text)
