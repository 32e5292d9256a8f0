"""API tokens: what is kept of them, and how long a text need not be hashed again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nnguard._selling import tokens
from nnguard._selling.tokens import Verifier, check_role, id_of, make_secret


def test_what_is_kept_fits_the_text_alone_and_does_not_hold_it() -> None:
    token_id, text, kept = make_secret()
    assert id_of(text) == token_id
    assert kept.startswith("$argon2id$")
    assert text not in kept
    assert text.split("_", 2)[2] not in kept
    verifier = Verifier()
    assert verifier.fits(text, kept)
    assert not verifier.fits(text + "a", kept)
    assert not verifier.fits(text, make_secret()[2])
    assert not verifier.fits(text, "no hash")


def test_a_text_that_fits_is_hashed_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    hasher = tokens._hasher()

    class Counting:
        def verify(self, kept: str, text: str) -> bool:
            hashed.append(text)
            return hasher.verify(kept, text)

    clock = [1000.0]
    monkeypatch.setattr(tokens, "_hasher", Counting)
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    text, kept = "text", hasher.hash("text")
    verifier = Verifier()
    for _ in range(3):
        assert verifier.fits(text, kept)
    assert len(hashed) == 1
    for _ in range(2):
        assert not verifier.fits("other", kept)  # what does not fit is never remembered
    assert len(hashed) == 3
    clock[0] += 61
    assert verifier.fits(text, kept)
    assert len(hashed) == 4


def test_no_more_than_a_thousand_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Agreeing:
        def verify(self, kept: str, text: str) -> bool:
            return True

    monkeypatch.setattr(tokens, "_hasher", Agreeing)
    verifier = Verifier()
    for number in range(3000):
        assert verifier.fits(str(number), "kept")
    assert len(verifier._known) == tokens._MOST


@pytest.mark.parametrize("role", ["", "root", "Shop", "shop "])
def test_there_are_three_roles(role: str) -> None:
    assert [check_role(each) for each in ("shop", "support", "auditor")] == [*tokens.ROLES]
    with pytest.raises(ValueError, match="no role"):
        check_role(role)
