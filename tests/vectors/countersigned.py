"""Vectors of release numbers, and of releases that several vendors signed."""

from __future__ import annotations

from typing import Any

from nnguard._hiding import extract
from nnguard._stream import Stream
from vectors.locks import watermarked
from vectors.selling import LICENSE_ID, license_of
from vectors.sets import both, folder, named
from vectors.toolbox import (
    OTHER,
    PARTNER,
    VENDOR,
    Made,
    attach,
    claims_of,
    describe,
    digest_of,
    malformed,
    sha256_of,
    sign,
    signed,
    small,
    vector,
)


def signers(*found: tuple[Any, bool]) -> list[dict[str, Any]]:
    """Who signed, the outermost first, and whether that counts."""
    return [{"kid": key.public_key.id.hex(), "counts": counts} for key, counts in found]


def made(release: Stream, *found: tuple[Any, bool], layers: int = 2, **more: Any) -> Made:
    """A release, and who signed it."""
    original = extract(release).original
    kid, claims = found[0][0].public_key.id.hex(), more.pop("claims", claims_of())
    details = {"kid": kid, "claims": claims, "layers": layers, "signatures": signers(*found)}
    return Made(bytes(release), bytes(original), describe(original, {**details, **more}))


@vector("6.1", "ok")
def release_number() -> Made:
    """The largest one."""
    return signed(small(), release=2**63 - 1)


@vector("6.1", "ok")
def release_zero() -> Made:
    """The least one, which is not the same as none."""
    return signed(small(), release=0)


@vector("6.1", "VerificationError: release number too large", message="claims")
def release_too_large() -> Made:
    """2^63."""
    return malformed(header={15: {"release": 2**63}})


@vector("6.1", "VerificationError: release number below zero", message="claims")
def release_below_zero() -> Made:
    """-1."""
    return malformed(header={15: {"release": -1}})


@vector("6.1", "VerificationError: release number is a text", message="claims")
def release_of_text() -> Made:
    """ "7" is no number."""
    return malformed(header={15: {"release": "7"}})


@vector("6.6", "ok")
def countersigned() -> Made:
    """Two vendors sign, with the same claims."""
    release = sign(sign(small()), PARTNER)
    return made(release, (PARTNER, True), (VENDOR, True))


@vector("6.6", "ok")
def countersigned_with_other_version() -> Made:
    """The second vendor says that it is another version: the first one signed no such release."""
    release = sign(sign(small()), PARTNER, version="2.0")
    claims = claims_of(version="2.0")
    return made(release, (PARTNER, True), (VENDOR, False), claims=claims)


@vector("6.6", "ok")
def countersigned_with_other_number() -> Made:
    """A release number where the first vendor stated none."""
    release = sign(sign(small()), PARTNER, release=1)
    return made(release, (PARTNER, True), (VENDOR, False), claims=claims_of(release=1))


@vector("6.6", "ok")
def countersigned_above_an_attachment() -> Made:
    """Something lies between the two signatures."""
    release = sign(attach(sign(small()), b"# Small"), PARTNER)
    return made(release, (PARTNER, True), (VENDOR, False), layers=3)


@vector("6.6", "ok")
def countersigned_above_a_stranger() -> Made:
    """A key that is not trusted signed between the two, with the same claims."""
    release = sign(sign(sign(small()), OTHER), PARTNER)
    return made(release, (PARTNER, True), (VENDOR, False), layers=3)


@vector("6.5", "ok")
def mark_on_countersigned() -> Made:
    """The license is the first vendor's, and the outermost signature another's."""
    release = sign(sign(small()), PARTNER)
    found = made(release, (PARTNER, True), (VENDOR, True), licensed_to=LICENSE_ID.hex())
    marked = watermarked(release, license_of(small(), release))
    return Made(bytes(marked), found.original, found.details)


@vector(
    "6.5", "VerificationError: mark by a vendor whose signature does not count", message="watermark"
)
def mark_on_other_claims() -> Made:
    """The vendor of the license signed, but another version."""
    release = sign(sign(small()), PARTNER, version="2.0")
    return Made(bytes(watermarked(release, license_of(small(), release))))


def signed_by(key: Any, streams: list[Stream], digest: bytes) -> list[Stream]:
    shards = enumerate(streams)
    return [sign(stream, key, shard=[digest, at, 2]) for at, stream in shards]


def of_set(streams: list[Stream], below: list[Stream], *found: tuple[Any, bool]) -> Made:
    originals = named(below)
    details = {
        "kid": found[0][0].public_key.id.hex(),
        "digest": digest_of(originals).hex(),
        "claims": claims_of(),
        "shards": sha256_of(originals),
        "signatures": signers(*found),
    }
    files = folder([bytes(stream) for stream in streams]).files
    return Made(files=files, details=tuple(details.items()))


@vector("6.6", "ok", operation="verify-set")
def set_countersigned() -> Made:
    """Both vendors signed all shards."""
    first = signed_by(VENDOR, both(), digest_of(named(both())))
    second = signed_by(PARTNER, first, digest_of(named(first)))
    return of_set(second, first, (PARTNER, True), (VENDOR, True))


@vector("6.6", "ok", operation="verify-set")
def set_countersigned_of_two_sets() -> Made:
    """The first vendor signed both shards, but as parts of different sets."""
    first = signed_by(VENDOR, both(), digest_of(named(both())))
    first[1] = sign(both()[1], VENDOR, shard=[bytes(32), 1, 2])
    second = signed_by(PARTNER, first, digest_of(named(first)))
    return of_set(second, first, (PARTNER, True))
