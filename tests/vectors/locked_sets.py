"""Vectors of locked sets that open, and of licenses that unlock them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cbor2

import stock
from nnguard._stream import Stream
from vectors.licenses import sold
from vectors.selling import (
    CONTENT_KEYS,
    FULL,
    Model,
    degrade,
    hide_lock,
    license_of,
)
from vectors.sets import INDEX, both, named
from vectors.toolbox import Made, digest_of, sha256_of, sign, vector, weights

LOWER = CONTENT_KEYS["lower"]
SET_ID = bytes(range(48, 64))
Streams = dict[str, Stream]

opens_set = functools.partial(vector, "6.4", operation="open-set")
unlocks_set = functools.partial(vector, "11.3", operation="unlock-set")


# Locks


def lock_file(stream: Stream, files: list[Any], place: list[int], **options: Any) -> Stream:
    """A stream of a set with a lock of its own.

    Args:
        stream: The degraded stream.
        files: What it opens, as the content says it.
        place: Position and number of files.
        options: `scrambled`: units; `header`: entries of the protected header, which may be wrong;
            `key`, `bits`: see `hide_lock`.
    """
    own = {5: nonce_of(place[0]), "shard": [SET_ID, *place], **options.pop("header", {})}
    content = cbor2.dumps([options.pop("scrambled", []), [], files])
    return hide_lock(stream, content, header=own, **options)


def nonce_of(position: int) -> bytes:
    return bytes([position, *range(0xB1, 0xBC)])


def scrambled(release: Streams, **options: Any) -> Streams:
    """A set whose files are the release's, scrambled; `options` are those of `lock_file`."""
    locked = {}
    for position, (name, stream) in enumerate(release.items()):
        unit = next(at for at, each in enumerate(stream) if each.tensor)
        key, nonce = options.get("key", FULL), nonce_of(position)
        degraded = degrade(stream, {}, [unit], key, nonce)
        files = [["", digest_of(stream), [[0, len(stream)]]]]
        place = [position, len(release)]
        locked[name] = lock_file(degraded, files, place, scrambled=[unit], **options)
    return locked


def carrying(trial: Streams, shares: Mapping[str, Mapping[str, Stream]], **options: Any) -> Streams:
    """A set of another network that carries a release.

    Args:
        trial: The other network.
        shares: For each of its files the files that it carries; an empty name is its own.
        options: See `lock_file`.
    """
    locked = {}
    for position, (name, stream) in enumerate(trial.items()):
        share = sorted(shares[name].items())
        files = [[own, digest_of(file), [bytes(file)]] for own, file in share]
        locked[name] = lock_file(stream, files, [position, len(trial)], bits=13, **options)
    return locked


@functools.cache
def network(name: str, seed: int, shape: tuple[int, ...] = (50, 60)) -> Stream:
    """One file of another network."""
    arrays = {name: weights(shape, seed)}
    return Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))


def weaker(count: int = 2) -> Streams:
    """Another network, in so many files."""
    return {f"{letter}.nnc": network(f"{letter}.small", ord(letter)) for letter in "abc"[:count]}


@functools.cache
def carried() -> Streams:
    """Each file of another network carries the one of its name."""
    return carrying(weaker(), {name: {"": stream} for name, stream in release().items()})


def release() -> Streams:
    return named(both())


def sign_set(streams: Streams, **options: Any) -> Streams:
    """Sign every file, with the claim of the set."""
    digest, count = digest_of(streams), len(streams)
    return {
        name: sign(stream, shard=[digest, position, count], **options)
        for position, (name, stream) in enumerate(streams.items())
    }


# What vectors are made of


def files_of(streams: Mapping[str, Stream]) -> tuple[tuple[str, bytes], ...]:
    """The files of a folder, and the index."""
    tensors = {
        unit.name: name for name, stream in streams.items() for unit in stream if unit.tensor
    }
    index = json.dumps({"metadata": {}, "weight_map": tensors}).encode()
    return *((name, bytes(stream)) for name, stream in streams.items()), (INDEX, index)


def opens(trial: Streams, result: Streams, tiers: list[str], key: str = "full") -> Made:
    """What a reader MUST make of a locked set with a content key."""
    details = {"content_key": key, "tiers": tiers, "shards": sha256_of(result)}
    return Made(files=files_of(trial), details=tuple(details.items()))


def sells(trial: Streams, result: Streams, *, opened: Model | None = None, **details: Any) -> Made:
    """A license for a set, and the set.

    Args:
        trial: The set.
        result: What it opens.
        opened: What the license says that it opens, if that is something else.
        details: See `licenses.sold`; `content_key` is that of the license.
    """
    key = details.pop("content_key", FULL)
    license_ = license_of(trial, result if opened is None else opened, content_key=key)
    made = sold(license_, file="", in_grace=False, shards=sha256_of(result), **details)
    return replace(made, files=files_of(trial))


# Opened with a content key


@opens_set("ok")
def locked_set_scrambled() -> Made:
    """Two files, each of them scrambled."""
    return opens(scrambled(release()), release(), ["full"])


@opens_set("ok")
def locked_set_carried() -> Made:
    """Another network of as many files, each of which carries the one in its own place."""
    return opens(carried(), release(), ["full"])


@opens_set("ok")
def locked_set_carried_crosswise() -> Made:
    """Each file of the other network carries the one of the other name."""
    first, second = release()
    shares = {first: {second: release()[second]}, second: {first: release()[first]}}
    return opens(carrying(weaker(), shares), release(), ["full"])


@opens_set("ok")
def locked_set_of_fewer() -> Made:
    """One file of another network carries two; neither has its name."""
    trial = {"model.nnc": network("small", 40, (70, 90))}
    return opens(carrying(trial, {"model.nnc": release()}), release(), ["full"])


@opens_set("ok")
def locked_set_of_more() -> Made:
    """Three files of another network: one carries two, one of them in its place, two carry none."""
    trial = weaker(3) | {"b.nnc": network("b.small", 40, (70, 90))}
    first, second = release().values()
    shares = {"a.nnc": {}, "b.nnc": {"": second, "a.nnc": first}, "c.nnc": {}}
    return opens(carrying(trial, shares), release(), ["full"])


@opens_set("ok")
def locked_set_in_common() -> Made:
    """The first file is in the clear: its lock names all units of it, and the second is carried."""
    first, second = release()
    kept = lock_file(release()[first], [whole(release()[first])], [0, 2])
    carries = carrying(weaker(), {first: {}, second: {"": release()[second]}})
    return opens({first: kept, second: carries[second]}, release(), ["full"])


def whole(stream: Stream) -> list[Any]:
    """All units of a file, as they are."""
    return ["", digest_of(stream), [[0, len(stream)]]]


@functools.cache
def tiers() -> Streams:
    """One file, which carries two of the tier above; these carry the release, in three."""
    inner = carrying(weaker(), {"a.nnc": {}, "b.nnc": {"c.nnc": network("c.full", 33, (40, 50))}})
    outer = {"model.nnc": network("small", 40, (90, 110))}
    return carrying(outer, {"model.nnc": inner}, key=LOWER, header={"tier": "lower"})


@opens_set("ok")
def locked_set_of_tiers() -> Made:
    """One file carries two, which carry one of another name; each step is a set of its own."""
    return opens(tiers(), {"c.nnc": network("c.full", 33, (40, 50))}, ["lower", "full"])


@opens_set("ok")
def locked_set_lower_tier() -> Made:
    """The same with the key of the lower tier: two files, still locked."""
    inner = carrying(weaker(), {"a.nnc": {}, "b.nnc": {"c.nnc": network("c.full", 33, (40, 50))}})
    made = opens(tiers(), inner, ["lower"], "lower")
    return Made(details=made.details, file="locked_set_of_tiers")


@opens_set("ok")
def locked_set_signed() -> Made:
    """The trial is signed as a set, and so is the release in it."""
    signed = sign_set(release())
    return opens(sign_set(scrambled(signed)), signed, ["full"])


# Unlocked with a license


@functools.cache
def sale() -> tuple[Streams, Streams]:
    """A signed trial, and the signed release in it."""
    signed = sign_set(release())
    shares = {name: {"": stream} for name, stream in signed.items()}
    return sign_set(carrying(weaker(), shares)), signed


@unlocks_set("ok")
def license_of_set() -> Made:
    """A signed set of another network carries a signed set."""
    return sells(*sale())


@unlocks_set("ok")
def license_of_unsigned_set() -> Made:
    """Neither is signed."""
    return sells(carried(), release())


@unlocks_set("ok")
def license_of_set_of_fewer() -> Made:
    """One file opens two."""
    trial = {"model.nnc": network("small", 40, (70, 90))}
    return sells(carrying(trial, {"model.nnc": release()}), release())


@unlocks_set("ok")
def license_of_lower_set() -> Made:
    """The lower tier: what it opens is a locked set in turn, and has no signature."""
    inner = carrying(weaker(), {"a.nnc": {}, "b.nnc": {"c.nnc": network("c.full", 33, (40, 50))}})
    made = sells(tiers(), inner, content_key=LOWER)
    return Made(details=made.details, texts=made.texts, file="locked_set_of_tiers")
