"""What a deployment expects of a release: a right signature alone may be another product's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nnguard._base.arguments import check_text
from nnguard._base.texts import shown
from nnguard._base.times import TimeLike, to_utc
from nnguard._records.claims import Claims, check_release
from nnguard.errors import ArgumentError, ClaimsError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

__all__ = ["Expect"]


@dataclass(frozen=True, slots=True)
class Expect:
    """Claims that a release has to make; what is left empty is not asked for.

    Attributes:
        name: The very name that was signed.
        issuer: The very issuer.
        version: A version, `1.2`, or a range as in Python requirements, `>=1.2,<2` (PEP 440).
        issued_after: The release was signed at this time or later: a time, or ISO 8601 text.
        release: The lowest release number; a release without one is refused.

    Raises:
        ArgumentError: The range or the time cannot be read.
        TypeError: What is expected is not text.

    Examples:
        >>> expected = nnguard.Expect(name="digits", version=">=1.0,<2", issued_after="2026-01-01")
        >>> nnguard.verify("release.nnc", "vendor.pub", expect=expected).claims.version
        '1.0'
    """

    name: str = ""
    issuer: str = ""
    version: str = ""
    issued_after: TimeLike | None = None
    release: int | None = None

    def __post_init__(self) -> None:
        for argument in ("name", "issuer", "version"):
            check_text(getattr(self, argument), argument)
        _specifiers(self.version)
        check_release(self.release)
        if self.issued_after is not None:
            object.__setattr__(self, "issued_after", to_utc(self.issued_after, "issued_after"))

    def check(self, claims: Claims) -> None:
        """Refuse claims that are not as expected.

        Raises:
            ClaimsError: They are not; the message says which, what it is, and what was expected.
        """
        for what, found, expected in self._mismatches(claims):
            raise ClaimsError(
                f"{what} is {shown(found) or 'not stated'}, expected {expected}",
                hint="the signature is right: this is another release than the one you asked for",
            )

    def _mismatches(self, claims: Claims) -> Iterator[tuple[str, str, str]]:
        if self.name and claims.name != self.name:
            yield "the name", claims.name, self.name
        if self.issuer and claims.issuer != self.issuer:
            yield "the issuer", claims.issuer, self.issuer
        if self.version and not _allows(self.version, claims.version):
            yield "the version", claims.version, self.version
        if self.release is not None and (claims.release is None or claims.release < self.release):
            found = "" if claims.release is None else str(claims.release)
            yield "the release number", found, f"{self.release} or higher"
        if isinstance(earliest := self.issued_after, datetime):
            issued = claims.issued_at
            if issued is None or issued < earliest:
                found = "" if issued is None else issued.isoformat()
                yield "the time of signing", found, f"{earliest.isoformat()} or later"


def _specifiers(version: str) -> SpecifierSet | None:
    """Return a range of versions; None for a version as it is."""
    if not version.lstrip().startswith(("<", ">", "=", "!", "~")):
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # only who asks waits for it

    try:
        specifiers = SpecifierSet(version, prereleases=True)
        "0" in specifiers  # noqa: B015  # numbers are read when they are compared
        return specifiers
    except (InvalidSpecifier, ValueError):
        raise ArgumentError(
            f"version: {version!r} is not a range of versions",
            hint='a range looks like ">=1.2" or ">=1.2,<2"',
        ) from None


def _allows(expected: str, version: str) -> bool:
    specifiers = _specifiers(expected)
    if specifiers is None:
        return version == expected
    from packaging.version import Version

    try:
        return Version(version) in specifiers
    except ValueError:  # not a version, or of more digits than Python reads
        return False
