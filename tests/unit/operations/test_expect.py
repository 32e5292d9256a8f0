"""What a deployment expects: another release, as rightly signed as it is, is refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

import nnguard
from nnguard.errors import ArgumentError, ClaimsError, VerificationError, WrongKeyError

SIGNED_AT = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def dated(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(
        model, key, issuer="acme.ai", name="small", version="1.10", issued_at=SIGNED_AT
    )


@pytest.mark.parametrize(
    "expect",
    [
        nnguard.Expect(),
        nnguard.Expect(name="small", issuer="acme.ai", version="1.10"),
        nnguard.Expect(version=">=1.9"),
        nnguard.Expect(version=" >1.2,<2"),
        nnguard.Expect(version="~=1.1"),
        nnguard.Expect(issued_after=SIGNED_AT),
        nnguard.Expect(issued_after="2026-03-01"),
        nnguard.Expect(issued_after="2026-03-01T13:00:00+01:00"),
    ],
    ids=repr,
)
def test_what_is_expected_is_accepted(
    dated: nnguard.Stream, key: nnguard.SigningKey, expect: nnguard.Expect
) -> None:
    assert nnguard.verify(dated, key.public_key, expect=expect).claims.name == "small"


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        (nnguard.Expect(name="Small"), "the name is small, expected Small"),
        (nnguard.Expect(issuer="acme"), "the issuer is acme.ai, expected acme"),
        (nnguard.Expect(version="1.1"), "the version is 1.10, expected 1.1"),
        (nnguard.Expect(version=">=1.11"), "the version is 1.10, expected >=1.11"),
        (nnguard.Expect(version="!=1.10"), "the version is 1.10, expected !=1.10"),
        (
            nnguard.Expect(issued_after=SIGNED_AT + timedelta(seconds=1)),
            "the time of signing is 2026-03-01T12:00:00+00:00, expected 2026-03-01T12:00:01",
        ),
    ],
)
def test_what_is_not_is_refused(
    dated: nnguard.Stream, key: nnguard.SigningKey, expect: nnguard.Expect, said: str
) -> None:
    with pytest.raises(ClaimsError) as caught:
        nnguard.verify(dated, key.public_key, expect=expect)
    assert said in str(caught.value)
    assert isinstance(caught.value, VerificationError)


@pytest.mark.parametrize(
    "expect",
    [
        nnguard.Expect(name="small"),
        nnguard.Expect(issuer="acme.ai"),
        nnguard.Expect(version="1"),
        nnguard.Expect(version=">=0"),
    ],
    ids=repr,
)
def test_what_is_not_stated_is_not_as_expected(
    model: nnguard.Stream, key: nnguard.SigningKey, expect: nnguard.Expect
) -> None:
    with pytest.raises(ClaimsError, match="is not stated, expected"):
        nnguard.verify(nnguard.sign(model, key), key.public_key, expect=expect)


def test_a_version_that_has_no_order_is_in_no_range(
    model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    named = nnguard.sign(model, key, version="spring")
    nnguard.verify(named, key.public_key, expect=nnguard.Expect(version="spring"))
    with pytest.raises(ClaimsError, match="the version is spring"):
        nnguard.verify(named, key.public_key, expect=nnguard.Expect(version=">=0"))


def test_prereleases_are_versions(model: nnguard.Stream, key: nnguard.SigningKey) -> None:
    early = nnguard.sign(model, key, version="2.0rc1")
    nnguard.verify(early, key.public_key, expect=nnguard.Expect(version=">=1.9"))
    with pytest.raises(ClaimsError):
        nnguard.verify(early, key.public_key, expect=nnguard.Expect(version=">=2.0"))


def test_claims_of_strangers_are_not_compared(
    dated: nnguard.Stream, other_key: nnguard.SigningKey
) -> None:
    with pytest.raises(WrongKeyError):
        nnguard.verify(dated, other_key.public_key, expect=nnguard.Expect(name="other"))


@pytest.mark.parametrize("version", [">=one", ">", "<2,>=", "=1.0", "~1.2"])
def test_ranges_that_cannot_be_read(version: str) -> None:
    with pytest.raises(ArgumentError, match="not a range of versions"):
        nnguard.Expect(version=version)


@pytest.mark.parametrize("time", [datetime(2026, 1, 1), "yesterday"])
def test_times_that_cannot_be_read(time: datetime | str) -> None:
    with pytest.raises(ArgumentError, match="issued_after"):
        nnguard.Expect(issued_after=time)


@pytest.mark.parametrize("version", ["9" * 5000, "1." + "9" * 5000, " ", "1.0 or so"])
def test_versions_that_cannot_be_compared_are_refused(version: str) -> None:
    with pytest.raises(ClaimsError):
        nnguard.Expect(version=">=0").check(nnguard.Claims(version=version))


@pytest.mark.parametrize("version", [">=" + "9" * 5000, "==" + "9" * 5000 + ".*"])
def test_ranges_that_cannot_be_compared_are_refused(version: str) -> None:
    with pytest.raises(ArgumentError, match="not a range of versions"):
        nnguard.Expect(version=version)


@pytest.mark.parametrize("wrong", [None, 0, 1.2, b"small"], ids=repr)
@pytest.mark.parametrize("argument", ["name", "issuer", "version"])
def test_what_is_expected_is_text(argument: str, wrong: object) -> None:
    with pytest.raises(TypeError, match=f"{argument}: expected text"):
        nnguard.Expect(**{argument: wrong})  # type: ignore[arg-type]
