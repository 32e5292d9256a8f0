"""Vectors of locks whose trial is another network, which carries the release."""

from __future__ import annotations

import cbor2

import stock
from nnguard._stream import Stream
from vectors.selling import (
    CONTENT_KEYS,
    carry,
    degrade,
    hide_lock,
    opens,
)
from vectors.toolbox import (
    Made,
    digest_of,
    position,
    several,
    sign,
    small,
    vector,
    weights,
)

LOWER = CONTENT_KEYS["lower"]


def weaker(*, dependent: bool = False) -> Stream:
    """A network of another architecture with room for a release at four bits a weight."""
    return several(1, (60, 70), dependent=dependent)


def related(seed: int, *, scales: int = 300, dependent: bool = False) -> Stream:
    """Networks of one architecture; two vectors between the matrices are in all of them."""
    arrays = {
        "first": weights((40, 50), seed),
        "scale": weights((scales,), 8),
        "shift": weights((20,), 9),
        "last": weights((30, 40), seed + 1),
    }
    data = stock.encode(arrays, qp=-24, nonweight_qp=-24, dependent=dependent)
    return Stream.from_bytes(data)


def carries(release: Stream, trial: Stream) -> Made:
    return opens(carry(release, trial, bits=8), release, ["full"])


@vector("6.4", "ok", operation="open")
def carried_urq() -> Made:
    """A URQ network of another architecture has all units of the release, joined."""
    return carries(small(dependent=True), weaker())


@vector("6.4", "ok", operation="open")
def carried_tcq() -> Made:
    """A TCQ network carries a release that is URQ."""
    return carries(small(), weaker(dependent=True))


@vector("6.4", "ok", operation="open")
def carried_sixteen_bits() -> Made:
    """Sixteen bits a weight."""
    release = small()
    return opens(carry(release, several(1, (50, 50), dependent=False), bits=16), release, ["full"])


@vector("6.4", "ok", operation="open")
def carried_one_by_one() -> Made:
    """Every unit is a byte string of its own."""
    release = small()
    trial = carry(release, weaker(), [unit.read() for unit in release], bits=8)
    return opens(trial, release, ["full"])


@vector("6.4", "ok", operation="open")
def carried_in_common() -> Made:
    """Both networks have two vectors and what is in front; none of these holds the record."""
    release, trial = related(1), related(5)
    at = position(release, "scale")
    first, last = (release[position(release, name)].read() for name in ("first", "last"))
    units = release_units(release, trial, {"first": first, "last": last})
    assert [at, 2] in units
    return opens(carry(release, trial, units, bits=10), release, ["full"])


@vector("6.4", "ok", operation="open")
def carried_shared_carrier() -> Made:
    """One of the vectors in common holds the record: it comes back as it was."""
    release, trial = (related(seed, scales=2048, dependent=True) for seed in (1, 5))
    first, last = (release[position(release, name)].read() for name in ("first", "last"))
    units = release_units(release, trial, {"first": first, "last": last})
    return opens(carry(release, trial, units, bits=8), release, ["full"])


def release_units(
    release: Stream, trial: Stream, carried: dict[str, bytes]
) -> list[bytes | list[int]]:
    """Say which units are in the trial: all but those that are carried."""
    found: list[bytes | list[int]] = []
    for at, unit in enumerate(release):
        last = found[-1] if found else b""
        if unit.name in carried:
            found.append(carried[unit.name])
        elif isinstance(last, list):
            last[1] += 1
        else:
            assert unit.read() == trial[at].read()
            found.append([at, 1])
    return found


@vector("6.4", "ok", operation="open")
def carried_and_scrambled() -> Made:
    """A mixture: one matrix of the release is scrambled, the other one is carried."""
    release, other = related(1), related(5)
    first, last = position(release, "first"), position(release, "last")
    mixed = other.replace({first: release[first].read()})
    units = [[0, last], release[last].read()]
    content = [[first], [], [["", digest_of(release), units]]]
    trial = hide_lock(degrade(mixed, {}, [first]), cbor2.dumps(content), bits=8)
    return opens(trial, release, ["full"])


@vector("6.4", "ok", operation="open")
def carried_tiers() -> Made:
    """A medium network carries the release, a large one the medium one."""
    release, trial = small(), tiers()
    return opens(trial, release, ["lower", "full"])


@vector("6.4", "ok", operation="open")
def carried_lower_tier() -> Made:
    """The same file with the key of the lower tier: the medium network, still locked."""
    made = opens(tiers(), carry(small(), weaker(), bits=8), ["lower"], "lower")
    return Made(original=made.original, details=made.details, file="carried_tiers")


def tiers() -> Stream:
    inner = carry(small(), weaker(), bits=8)
    return carry(
        inner, several(1, (110, 120), dependent=False), bits=8, key=LOWER, header={"tier": "lower"}
    )


@vector("6.4", "ok", operation="open")
def carried_signatures() -> Made:
    """The release, the network that carries it, and the trial are signed."""
    release = sign(small())
    return opens(sign(carry(release, sign(weaker()), bits=9)), release, ["full"])
