"""What `verify` finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnguard._base.html import html_table
from nnguard._base.mappings import EMPTY
from nnguard._licensing.license import LicenseTerms
from nnguard._oms.bundle import Bundle
from nnguard._policy.finding import Finding
from nnguard._records.claims import Claims
from nnguard._records.kinds import RecordKind, kind_name
from nnguard._records.signature import Signature

__all__ = ["AppliedRule", "NestedRecord", "Report"]


@dataclass(frozen=True, slots=True)
class NestedRecord:
    """A record inside a signed stream; the outer signature covers it.

    Attributes:
        kind: `signature`, `attachment`, `lock`, `license`, `record of kind N` for kinds of later
            versions, or `unreadable` for one that was damaged before the outer vendor signed.
        key_id: Key of a signature, in hexadecimal; empty for all else.
        claims: Claims of a signature.
        verified: The signature is right, by a trusted key. False says only that no trusted key
            fits: the record is still what the outer vendor signed.
        digest: What a signature says that the digest of the stream below it is, in hexadecimal.
    """

    kind: str
    key_id: str = ""
    claims: Claims | None = None
    verified: bool = False
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        claims = None if self.claims is None else self.claims.to_json()
        return {
            "kind": self.kind,
            "key_id": self.key_id,
            "claims": claims,
            "verified": self.verified,
        }


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """The rule of a trust policy that a model was judged by.

    Attributes:
        version: Version of the policy.
        digest: SHA-256 of the policy, in hexadecimal, as `nnguard policy show` has it.
        scopes: What the rule is about, `issuer/name` each.
        level: How strictly it is enforced: `strict`, `permissive` or `audit`.
    """

    version: int
    digest: str
    scopes: tuple[str, ...]
    level: str

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return {
            "version": self.version,
            "digest": self.digest,
            "scopes": list(self.scopes),
            "level": self.level,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found; there is none for a model that is not what was signed.

    Attributes:
        claims: What the vendor says of the release.
        key_id: The key that signed, in hexadecimal.
        algorithm: Its algorithm, such as "ed25519" or "ml-dsa-65".
        digest: Digest of the original model, in hexadecimal (SPEC 6.1, of a set 6.3).
        signatures: All that are right, by trusted keys, outermost first: the last is by whoever
            signed first. Those of a set are on all of its files.
        nested: Records inside the signed stream, outermost first; what is under a lock is not
            looked at.
        licensed_to: License that the stream was unlocked with, where it carries that as a
            watermark.
        license_key_id: Key that signed this license, in hexadecimal.
        shards: Of a set, the names of the files and the reports of their streams, in order.
        not_covered: Of a folder, the names of files that no signature covers.
        oms: The bundle of OpenSSF Model Signing that says the same, if one was given.
        policy: The rule of the trust policy that the model was judged by, if there was a policy.
        warnings: What the trust policy finds against the release, and does not enforce.

    Examples:
        >>> report = nnguard.verify("release.nnc", "vendor.pub")
        >>> report.claims.name, report.locked
        ('digits', False)
    """

    claims: Claims
    key_id: str
    algorithm: str
    digest: str
    signatures: tuple[Signature, ...] = field(default=(), repr=False)
    nested: tuple[NestedRecord, ...] = field(default=(), repr=False)
    licensed_to: LicenseTerms | None = None
    license_key_id: str = ""
    shards: Mapping[str, Report] = field(default=EMPTY, repr=False)
    not_covered: tuple[str, ...] = field(default=(), repr=False)
    oms: Bundle | None = field(default=None, repr=False)
    policy: AppliedRule | None = None
    warnings: tuple[Finding, ...] = ()

    @property
    def counted(self) -> tuple[Signature, ...]:
        """The signatures of the release that the outermost one names, outermost first."""
        return tuple(signature for signature in self.signatures if signature.counts)

    @property
    def locked(self) -> bool:
        """Whether this is a trial, which a license unlocks, and not the product."""
        lock = kind_name(RecordKind.LOCK)
        return any(record.kind == lock for record in self.nested) or any(
            shard.locked for shard in self.shards.values()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        found: dict[str, Any] = {
            "claims": self.claims.to_json(),
            "key_id": self.key_id,
            "algorithm": self.algorithm,
            "digest": self.digest,
            "locked": self.locked,
            "signatures": [signature.to_json() for signature in self.signatures],
        }
        if self.shards:
            found["shards"] = {name: report.to_json() for name, report in self.shards.items()}
            found["not_covered"] = list(self.not_covered)
        else:
            found["nested"] = [record.to_json() for record in self.nested]
        if self.oms is not None:
            found["oms"] = self.oms.to_json()
        if self.licensed_to is not None:
            found["licensed_to"] = self.licensed_to.to_json()
        if self.policy is not None:
            found["policy"] = self.policy.to_json()
        if self.warnings:
            found["warnings"] = [warning.to_json() for warning in self.warnings]
        return found

    def _repr_html_(self) -> str:
        """Return the report as a table, for notebooks."""
        claims = self.claims
        rows = {
            "issuer": claims.issuer,
            "name": claims.name,
            "version": claims.version,
            "release": "" if claims.release is None else str(claims.release),
            "issued at": "" if claims.issued_at is None else claims.issued_at.isoformat(),
            **claims.metadata,
            "key": f"{self.key_id} ({self.algorithm})",
            "also signed by": ", ".join(below.key_id for below in self.signatures[1:]),
            "digest": self.digest,
            "locked trial": "yes" if self.locked else "",
            "licensed to": "" if self.licensed_to is None else self.licensed_to.customer,
            "shards": ", ".join(self.shards),
            "OMS bundle": "" if self.oms is None else f"{self.oms.path}, key {self.oms.key_id}",
            "not covered": ", ".join(self.not_covered),
        }
        return html_table("Verified", rows)
