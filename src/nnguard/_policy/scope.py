"""Scopes: which releases a rule is about, by issuer and name."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Scope"]

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """A pattern for the issuer and one for the name of a release, such as `acme.ai/resnet*`.

    The first `/` ends the pattern for the issuer. A `*` stands for any characters, or none, `/`
    included; all else stands for itself. Issuer and name are matched apart, each as a whole, so
    that neither can be written to look like the other.

    Attributes:
        text: The scope as it is written.
    """

    text: str

    def matches(self, issuer: str, name: str) -> bool:
        """Tell whether a release of this issuer and name is in the scope."""
        issuers, _, names = self.text.partition("/")
        return _fits(issuers, issuer) and _fits(names, name)

    def covers(self, other: Scope) -> bool:
        """Tell whether all that the other scope matches is in this one."""
        issuer, _, name = other.text.partition("/")
        return self.matches(issuer, name)  # its stars are fitted by stars only

    def __str__(self) -> str:
        return self.text


def _fits(pattern: str, text: str) -> bool:
    """Match a whole text, in time that grows with its size alone."""
    first, *others = pattern.split(_ANY)
    if not others:
        return text == pattern
    *middle, last = others
    end = len(text) - len(last)
    at = len(first)
    if not text.startswith(first) or not text.endswith(last) or at > end:
        return False
    for part in middle:  # the first place is as good as any
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
