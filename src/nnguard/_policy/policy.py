"""A trust policy: whose signatures a deployment accepts, on which releases.

    policy = nnguard.TrustPolicy.load("acme.policy")
    nnguard.verify("release.nnc", policy=policy)

Law: `TrustPolicy.parse(json.dumps(policy.to_json())) == policy` (SPEC 12.1).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nnguard._base.arguments import loaded
from nnguard._base.files import read_file, write_bytes
from nnguard._base.texts import shown
from nnguard._base.times import TimeLike, to_utc
from nnguard._crypto.cose import Signed
from nnguard._crypto.keys import PublicKey, SignerLike, as_signer
from nnguard._policy.document import PolicyKey, Root, Rule, revoked, text_of
from nnguard._policy.parsing import parse_members
from nnguard._policy.reading import Node, malformed, read_text
from nnguard._policy.signing import (
    check_signed,
    is_signed,
    read_signed,
    sign_policy,
    write_signed,
)
from nnguard._policy.writing import write_toml
from nnguard.errors import ArgumentError, LimitError, PolicyError, PolicyReason

__all__ = ["PolicyLike", "TrustPolicy"]

PublicKeyLike = PublicKey | str | os.PathLike[str]
"""What functions take for a public key: a `PublicKey`, or the path of one."""

_LARGEST = 1 << 20
"""Bytes of a policy's file, at most."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whose signatures a deployment accepts, on which releases, and how many of them.

    Attributes:
        version: Counts the versions of the policy, from 1.
        keys: Keys by name.
        rules: What is asked of releases; the first one with a scope that matches decides.
        expires: When the policy ceases to hold.
        root: Keys that sign the policy, and the next version of it.
        older: Signed versions before this one, that come with it, the oldest first.
        message: The signed message that it was read from; None for a policy that is not signed.

    Examples:
        >>> policy = nnguard.TrustPolicy.new(["acme.ai/*"], {"acme": "vendor.pub"})
        >>> nnguard.verify("release.nnc", policy=policy).claims.name
        'digits'
    """

    version: int
    keys: Mapping[str, PolicyKey]
    rules: tuple[Rule, ...]
    expires: datetime | None = None
    root: Root | None = None
    older: tuple[TrustPolicy, ...] = field(default=(), compare=False, repr=False)
    message: Signed | None = field(default=None, compare=False, repr=False)

    @classmethod
    def new(
        cls,
        scopes: Iterable[str],
        keys: Mapping[str, PublicKeyLike],
        *,
        threshold: int = 1,
        level: str = "strict",
        root: Mapping[str, PublicKeyLike] | None = None,
        root_threshold: int = 1,
        expires: TimeLike | None = None,
    ) -> TrustPolicy:
        """Make a policy of one rule, version 1.

        Args:
            scopes: Releases that the rule is about, such as `acme.ai/resnet*`.
            keys: Public keys that may sign them, or paths of these, by name.
            threshold: How many of the keys have to sign.
            level: `strict`, `permissive` or `audit`.
            root: Public keys that sign the policy, or paths of these, by name.
            root_threshold: How many of these have to sign.
            expires: When the policy ceases to hold.

        Raises:
            PolicyError: There can be no such policy.
            KeyFormatError: A key cannot be read.
        """
        root = {} if root is None else root
        found = {name: loaded(key, PublicKey, "keys") for name, key in keys.items()}
        for name, entry in root.items():
            key = loaded(entry, PublicKey, "root")
            if found.setdefault(name, key) != key:
                raise ArgumentError(f"two keys have the name {name!r}")
        members: dict[str, Any] = {
            "version": 1,
            "keys": {name: {"pem": key.pem.decode()} for name, key in found.items()},
            "rules": [
                {"scopes": [*scopes], "keys": [*keys], "threshold": threshold, "level": level}
            ],
        }
        if root:
            members["root"] = {"keys": [*root], "threshold": root_threshold}
        if expires is not None:
            members["expires"] = text_of(to_utc(expires, "expires"))
        return cls(**parse_members(Node(members)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrustPolicy:
        """Read a policy from a file; see `parse`.

        Raises:
            PolicyError: It is malformed.
            OSError: It cannot be read.
        """
        try:
            return cls.parse(read_file(path, _LARGEST))
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}", reason=error.reason, hint=error.hint) from None
        except LimitError as error:
            raise malformed(f"{error}, too many for a trust policy") from None

    @classmethod
    def parse(cls, text: str | bytes) -> TrustPolicy:
        """Read a policy: JSON, TOML, or signed versions in armor, of which it is the last.

        Signatures are not checked: see `authenticate`, which all that takes a policy calls.

        Raises:
            PolicyError: It is malformed.
        """
        try:
            text = text if isinstance(text, str) else text.decode()
        except UnicodeDecodeError:
            raise malformed("not a trust policy: not UTF-8") from None
        if not is_signed(text):
            return cls(**parse_members(read_text(text)))
        versions: list[TrustPolicy] = []
        for message in read_signed(text):
            versions.append(cls._of_message(message, tuple(versions)))
        return versions[-1]

    @classmethod
    def _of_message(cls, message: Signed, older: tuple[TrustPolicy, ...]) -> TrustPolicy:
        try:
            members = parse_members(read_text(message.payload.decode(), json_only=True))
        except UnicodeDecodeError:
            raise malformed("the signed policy is not UTF-8") from None
        if members["root"] is None:
            raise malformed("a signed policy has a root")
        return cls(**members, older=older, message=message)

    def sign(self, *signers: SignerLike, after: TrustPolicy | None = None) -> TrustPolicy:
        """Return the policy with signatures of root keys, besides those that it has.

        Args:
            signers: Private keys of the root, and of the root of the version before.
            after: The version before, signed, which comes with this one from now on.

        Raises:
            ArgumentError: The policy has no root, or was changed since others signed it; or the
                version before is not the one before.
            PolicyError: The version before is not signed as it should be.
        """
        if self.root is None:
            raise ArgumentError("a policy without a root is not signed: add its root keys")
        if self.message is not None and self != self._of_message(self.message, ()):
            raise ArgumentError("what was signed says something else: replace `message` by None")
        older = self.older if after is None else after._as_older(self.version)
        made = [as_signer(each) for each in signers]
        roots = [version.root for version in (*older[-1:], self) if version.root is not None]
        known = {key.key for root in roots for key in root.keys}
        for signer in made:
            if signer.public_key not in known:
                raise ArgumentError(
                    f"key {signer.public_key.id.hex()} is not a root key of the policy, nor of the "
                    "version before it"
                )
        return replace(self, message=sign_policy(self.payload, made, self.message), older=older)

    def _as_older(self, version: int) -> tuple[TrustPolicy, ...]:
        """Return this and all versions before it, to come with the next version."""
        self.authenticate()
        if self.message is None or self.version + 1 != version:
            raise ArgumentError(
                f"version {version} does not come after version {self.version}"
                + (", which is not signed" if self.message is None else ""),
                hint="each version is one more than the version before, which is signed",
            )
        return (*self.older, replace(self, older=()))

    def authenticate(self) -> None:
        """Make sure that a signed policy, and each version before it, is signed as it should be.

        That is (SPEC 12.4) by as many root keys as its root asks for and, after the first, by as
        many of the version before as that asks for. One that is not signed is believed as it is.

        Raises:
            PolicyError: It is not; `reason` says why.
        """
        before: TrustPolicy | None = None
        for version in (*self.older, self):
            if version.message is not None and version.root is not None:
                if version != self._of_message(version.message, ()):
                    raise malformed("the policy is not the one that was signed")
                check_signed(version.message, version.root, f"version {version.version}")
            if before is not None:
                version._check_follows(before)
            before = version

    def check_succeeds(self, pinned: TrustPolicy) -> None:
        """Make sure that this is a signed policy or follows it without a gap (SPEC 12.5).

        Args:
            pinned: The policy that was in force, signed, as this one authenticated.

        Raises:
            PolicyError: It is older, changed, not signed, or a version between them is missing.
        """
        if self.message is None:
            raise PolicyError(
                f"the trust policy is not signed, and version {pinned.version} was",
                reason=PolicyReason.UNSIGNED,
                hint="get the signed policy",
            )
        versions = (*self.older, self)
        if versions[0].version > pinned.version:
            versions[0]._check_follows(pinned)
            return
        same = next((each for each in versions if each.version == pinned.version), None)
        if same is None or same.digest != pinned.digest:
            what = "another" if same else "an older one"
            raise PolicyError(
                f"version {pinned.version} of the trust policy was in force, and this is {what}",
                reason=PolicyReason.POLICY_VERSION,
                hint="get the newest version from whom you had the first",
            )

    def _check_follows(self, before: TrustPolicy) -> None:
        """Make sure that this is the version after another, signed by its root keys as well."""
        if self.version != before.version + 1:
            raise PolicyError(
                f"version {self.version} of the trust policy does not come after "
                f"version {before.version}",
                reason=PolicyReason.POLICY_VERSION,
                hint="get the file that has the versions between them, too",
            )
        if self.message is not None and before.root is not None:
            check_signed(self.message, before.root, f"version {before.version}")

    @property
    def payload(self) -> bytes:
        """The policy's JSON: that which is signed, or would be."""
        if self.message is not None:
            return self.message.payload
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the payload, in hexadecimal."""
        return hashlib.sha256(self.payload).hexdigest()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the policy to a file as `str` gives it, or as TOML where the name says so."""
        toml = self.message is None and Path(path).suffix == ".toml"
        text = write_toml(self.to_json()) if toml else str(self)
        write_bytes(Path(path), text.encode(), overwrite=overwrite)

    def __str__(self) -> str:
        """Return the policy's text: JSON, or its signed versions in armor."""
        if self.message is None:
            return json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n"
        messages = [each.message for each in (*self.older, self) if each.message is not None]
        return write_signed(messages)

    def rule_for(self, issuer: str, name: str) -> Rule:
        """Return the rule that decides about a release.

        Raises:
            PolicyError: There is none.
        """
        for rule in self.rules:
            if any(scope.matches(issuer, name) for scope in rule.scopes):
                return rule
        raise PolicyError(
            f"no rule of the trust policy is about {shown(name) or 'a release without a name'} of "
            f"{shown(issuer) or 'an issuer who is not stated'}",
            reason=PolicyReason.NO_SCOPE,
            hint="if you trust it, add its scope to a rule",
        )

    def check_not_revoked(self, key_id: str, what: str) -> None:
        """Refuse what a revoked key signed, whatever release it is about.

        Raises:
            PolicyError: The key is revoked.
        """
        for key in self.keys.values():
            if key.id == key_id and key.revoked:
                raise revoked(key, what).error()

    def to_json(self) -> dict[str, Any]:
        """Return the policy as JSON values, as `parse` reads them."""
        found: dict[str, Any] = {"version": self.version}
        if self.expires is not None:
            found["expires"] = text_of(self.expires)
        if self.root is not None:
            names = [key.name for key in self.root.keys]
            found["root"] = {"keys": names, "threshold": self.root.threshold}
        found["keys"] = {name: key.to_json() for name, key in self.keys.items()}
        found["rules"] = [rule.to_json() for rule in self.rules]
        return found


PolicyLike = TrustPolicy | str | os.PathLike[str]
"""What functions take for a trust policy: a `TrustPolicy`, or the path of one."""
