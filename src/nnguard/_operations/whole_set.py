"""Whether shards that were verified are one whole set, with its files.

Steps are those of SPEC 6.3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from nnguard._base.mappings import FrozenMapping
from nnguard._models.stream_set import StreamSet, some_of
from nnguard._operations.report import Report
from nnguard._records.claims import Claims
from nnguard._records.digest import set_digest
from nnguard._records.signature import Signature
from nnguard.errors import VerificationError

__all__ = ["check_set"]


def check_set(reports: Mapping[str, Report], model: StreamSet) -> Report:
    """Check that verified shards are one whole set, with its files (steps 4 to 6)."""
    signatures = _signatures_of_set(reports, model)
    outermost = next(signatures)
    for name, file in model.files.items():  # step 6
        file.check(name)
    found = [outermost]
    with contextlib.suppress(VerificationError):  # those below are of other sets
        found.extend(signatures)
    return Report(
        outermost.claims,
        outermost.key_id,
        outermost.algorithm,
        outermost.digest,
        signatures=tuple(found),
        shards=FrozenMapping(reports),
        not_covered=model.others,
    )


def _signatures_of_set(reports: Mapping[str, Report], model: StreamSet) -> Iterator[Signature]:
    """Put the signatures of the shards together, outermost first, as far as they are of one set.

    Raises:
        VerificationError: Those of one depth are not.
    """
    for level in zip(*(report.signatures for report in reports.values()), strict=False):
        found = dict(zip(reports, level, strict=True))
        digest = _check_level(found, model)
        counts = all(signature.counts for signature in level)
        claims = _claims_of_set(level[0])
        yield replace(level[0], claims=claims, digest=digest, counts=counts)


def _check_level(found: Mapping[str, Signature], model: StreamSet) -> str:
    """Check that the signatures of all shards are those of one set; return its digest (4, 5)."""
    named: dict[str, str] = {}
    for position, (name, signature) in enumerate(found.items()):
        shard = signature.claims.shard
        if shard is None:
            raise VerificationError(f"{name} was signed by itself, not as part of a set")
        if shard.count != len(found):
            raise VerificationError(
                f"{name} is one of {shard.count} shards, and there are {len(found)}"
            )
        if shard.position != position:
            raise VerificationError(f"{name} is in the place of another shard of its set")
        named[name] = shard.set_digest
    digests = {name: bytes.fromhex(signature.digest) for name, signature in found.items()}
    digest = set_digest(digests, model.file_digests).hex()
    _check_one_release(named, digest)
    first = next(iter(found.values()))
    claims = _claims_of_set(first)
    for name, signature in found.items():
        if signature.key_id != first.key_id or _claims_of_set(signature) != claims:
            raise VerificationError(f"{name} has other claims than the rest of its set")
    return digest


def _check_one_release(found: Mapping[str, str], digest: str) -> None:
    """Check the set digests that the shards name.

    Args:
        found: Names of the shards to what they name.
        digest: What they all make.
    """
    foreign = sorted(name for name, said in found.items() if said != digest)
    if not foreign:
        return
    usual = max(found.values(), key=list(found.values()).count)
    strangers = sorted(name for name, said in found.items() if said != usual)
    if strangers:
        raise VerificationError(f"not of the same release: {some_of(strangers)}")
    raise VerificationError(
        "the set is not the one that was signed",
        hint="the index lists other files than it did, or shards have other names",
    )


def _claims_of_set(signature: Signature) -> Claims:
    return replace(signature.claims, shard=None)
