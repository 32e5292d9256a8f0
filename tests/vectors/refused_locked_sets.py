"""Vectors of locked sets that do not open, and of licenses that do not unlock them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nnguard._stream import Stream
from vectors.licenses import sold
from vectors.locked_sets import (
    LOWER,
    Streams,
    carried,
    carrying,
    files_of,
    network,
    opens_set,
    release,
    sale,
    scrambled,
    sells,
    sign_set,
    unlocks_set,
    weaker,
)
from vectors.selling import license_of
from vectors.toolbox import Made, sign


def locked(streams: Mapping[str, Stream], key: str = "full") -> Made:
    """A set that a content key does not open."""
    return Made(files=files_of(streams), details=(("content_key", key),))


def second(**header: Any) -> Made:
    """A scrambled set, whose second lock says something else of itself."""
    first, other = scrambled(release()), scrambled(release(), header=header)
    return locked({"a.nnc": first["a.nnc"], "b.nnc": other["b.nnc"]})


# The files


@opens_set("VerificationError: file of a locked set is missing", message="missing")
def locked_set_without_file() -> Made:
    """The second, which the index lists."""
    made = locked(carried())
    return replace(made, files=(made.files[0], made.files[2]))


@opens_set("VerificationError: one file of a locked set of two", message="one of 2 files")
def locked_set_cut() -> Made:
    """The first, and an index that lists no more."""
    return locked({"a.nnc": carried()["a.nnc"]})


@opens_set("VerificationError: one more file in a locked set", message="one of 2 files")
def locked_set_with_more() -> Made:
    """A third, of a set of three."""
    three = carrying(weaker(3), {name: {} for name in weaker(3)})
    return locked({**carried(), "c.nnc": three["c.nnc"]})


@opens_set("VerificationError: files of a locked set swapped", message="in the place of another")
def locked_set_swapped() -> Made:
    """Each under the name of the other; the index follows."""
    first, other = carried().values()
    return locked({"a.nnc": other, "b.nnc": first})


@opens_set("NoRecordError: file of a locked set is not locked", message="b.nnc")
def locked_set_with_unlocked() -> Made:
    """The second is that of the release."""
    return locked({**carried(), "b.nnc": release()["b.nnc"]})


# The locks


@opens_set("VerificationError: file of another locked set", message="another locked set")
def locked_set_mixed() -> Made:
    """The second says that it is of a set with another identifier; its key is the same."""
    return second(shard=[bytes(16), 1, 2])


@opens_set("VerificationError: another tier in a locked set", message="another locked set")
def locked_set_of_two_tiers() -> Made:
    """The second says that it opens another tier."""
    return second(tier="other")


@opens_set("VerificationError: another key in a locked set", message="another locked set")
def locked_set_of_two_keys() -> Made:
    """The second is locked with the key of the lower tier, which the reader can derive."""
    first, other = scrambled(release()), scrambled(release(), key=LOWER)
    return locked({"a.nnc": first["a.nnc"], "b.nnc": other["b.nnc"]})


@opens_set("VerificationError: single stream in a locked set", message="not one of a locked set")
def locked_set_with_single() -> Made:
    """The second lock has no `"shard"`."""
    return second(shard=None)


@opens_set("VerificationError: single streams", message="not one of a locked set")
def locked_set_of_singles() -> Made:
    """None of the locks has a `"shard"`."""
    return locked(scrambled(release(), header={"shard": None}))


@opens_set("VerificationError: single stream in a folder", message="not one of a locked set")
def locked_set_of_one_single() -> Made:
    """A lock without `"shard"` in the only file of a set."""
    only = {"a.nnc": release()["a.nnc"]}
    return locked(scrambled(only, header={"shard": None}))


@opens_set("WrongKeyError: locked set of another key", message="locked with content key")
def locked_set_of_other_key() -> Made:
    """Opened with a content key of another release."""
    return replace(locked(carried(), "other"), files=(), file="locked_set_carried")


# What they hold


def content(first: Mapping[str, Stream], other: Mapping[str, Stream]) -> Made:
    """A set of another network, and what its two files carry."""
    return locked(carrying(weaker(), {"a.nnc": first, "b.nnc": other}))


@opens_set("UnlockError: two streams open one file", message="twice")
def locked_set_opens_one_twice() -> Made:
    """Both carry a file of one name, which is none of theirs."""
    first, other = release().values()
    return content({"c.nnc": first}, {"c.nnc": other})


@opens_set("UnlockError: file is opened in its place and by name", message="twice")
def locked_set_opens_own_name() -> Made:
    """The first carries a file in its place, and the second one of that name."""
    first, other = release().values()
    return content({"": first}, {"a.nnc": other})


@opens_set("UnlockError: one lock opens its place and its name", message="twice")
def locked_set_opens_own_name_alone() -> Made:
    """The first lock carries a file in its place, and one of the same name."""
    small = {"": network("a.tiny", 50, (20, 30)), "a.nnc": network("b.tiny", 51, (20, 30))}
    return content(small, {})


@opens_set("UnlockError: name of a file above the folder", message="not one of a set")
def locked_set_opens_path() -> Made:
    """`../x.nnc`."""
    return content({"../x.nnc": release()["a.nnc"]}, {})


@opens_set("UnlockError: name of a file below the folder", message="not one of a set")
def locked_set_opens_windows_path() -> Made:
    r"""`x\y.nnc`."""
    return content({"x\\y.nnc": release()["a.nnc"]}, {})


@opens_set("UnlockError: name of a file with a zero", message="not one of a set")
def locked_set_opens_zero() -> Made:
    """`x`, U+0000, `.nnc`."""
    return content({"x\0.nnc": release()["a.nnc"]}, {})


@opens_set("UnlockError: name of a file of another kind", message="not one of a set")
def locked_set_opens_other_kind() -> Made:
    """`x.bin`."""
    return content({"x.bin": release()["a.nnc"]}, {})


@opens_set("UnlockError: locked set holds nothing", message="no file")
def locked_set_of_nothing() -> Made:
    """Neither lock opens a file."""
    return content({}, {})


@opens_set("UnlockError: lower tier of a locked set holds nothing", message="no file")
def locked_set_of_no_higher_tier() -> Made:
    """Both locks are of the lower tier, and no file is left to hold one of the higher."""
    return locked(carrying(weaker(), {"a.nnc": {}, "b.nnc": {}}, key=LOWER))


@opens_set("FormatError: a tensor is in two of the files that a set opens", message="of one name")
def locked_set_opens_tensor_twice() -> Made:
    """So there is no index of what is opened."""
    first = release()["a.nnc"]
    return content({"": first}, {"": first})


# Licenses


def refused(trial: Streams, license_: bytes) -> Made:
    """A set that a license does not unlock."""
    return replace(sold(license_, file=""), files=files_of(trial))


def without_result(made: Made) -> Made:
    details = [item for item in made.details if item[0] not in ("in_grace", "shards")]
    return replace(made, details=tuple(details))


@unlocks_set("LicenseError: other-stream", message="another trial")
def license_of_other_set() -> Made:
    """The set is locked with another key."""
    other = carrying(weaker(), {name: {"": file} for name, file in release().items()}, key=LOWER)
    return refused(other, license_of(carried(), release()))


@unlocks_set("VerificationError: file of the set that is sold is swapped", message="place of")
def license_of_swapped_set() -> Made:
    """Each file is under the name of the other."""
    first, other = carried().values()
    return refused({"a.nnc": other, "b.nnc": first}, license_of(carried(), release()))


@unlocks_set("VerificationError: file of the set that is sold is missing", message="one of 2 files")
def license_of_cut_set() -> Made:
    """The second; the index does not list it."""
    return refused({"a.nnc": carried()["a.nnc"]}, license_of(carried(), release()))


@unlocks_set("VerificationError: file of the set that is sold has another name", message="changed")
def license_of_renamed_set() -> Made:
    """The second, which stays the second; the index follows."""
    first, other = carried().values()
    return refused({"a.nnc": first, "c.nnc": other}, license_of(carried(), release()))


@unlocks_set("VerificationError: file of another set of the same key", message="another locked set")
def license_of_mixed_set() -> Made:
    """The second file is from a set with another identifier."""
    other = carrying(weaker(), {"a.nnc": {}, "b.nnc": {}}, header={"shard": [bytes(16), 1, 2]})
    trial = {**carried(), "b.nnc": other["b.nnc"]}
    return refused(trial, license_of(carried(), release()))


@unlocks_set("UnlockError: set opens something else than the license says", message="not what the")
def license_of_other_opened_set() -> Made:
    """The license says that it opens what the trial is."""
    return without_result(sells(carried(), release(), opened=carried()))


@unlocks_set("UnlockError: set opens no file", message="no file")
def license_of_empty_set() -> Made:
    """None of the locks holds a file."""
    trial = carrying(weaker(), {"a.nnc": {}, "b.nnc": {}})
    return without_result(sells(trial, release()))


@unlocks_set("NoRecordError: one file of the set that is sold is not signed", message="b.nnc")
def license_of_half_signed_set() -> Made:
    """The first file is signed, as one of two; the second is just locked."""
    signed = sign_set(carried())
    return without_result(sells({**carried(), "a.nnc": signed["a.nnc"]}, release()))


@unlocks_set("VerificationError: files of the set are signed one by one", message="by itself")
def license_of_set_signed_singly() -> Made:
    """Their signatures have no claim of a shard."""
    trial = {name: sign(stream) for name, stream in carried().items()}
    return without_result(sells(trial, release()))


@unlocks_set("VerificationError: files that a set opens are signed one by one", message="by itself")
def license_of_release_signed_singly() -> Made:
    """The trial is signed as it should be, and the files of the release are not."""
    singly = {name: sign(stream) for name, stream in release().items()}
    trial = carrying(weaker(), {name: {"": file} for name, file in singly.items()})
    return without_result(sells(sign_set(trial), singly))


@unlocks_set("VerificationError: index of the set that is sold", message="where the tensors are")
def license_of_set_with_other_index() -> Made:
    """The trial is signed; its index says that the tensors are in each other's file."""
    made = without_result(sells(*sale()))
    index = made.files[2][1]
    swapped = index.replace(b"a.nnc", b"-").replace(b"b.nnc", b"a.nnc").replace(b"-", b"b.nnc")
    return replace(made, files=(*made.files[:2], (made.files[2][0], swapped)))


@unlocks_set("NoRecordError: file of the set that is sold is not locked", message="b.nnc")
def license_of_half_locked_set() -> Made:
    """In place of the second file is the release's."""
    trial = {**carried(), "b.nnc": release()["b.nnc"]}
    return refused(trial, license_of(carried(), release()))


@unlocks_set("FormatError: a tensor is in two of the files that are unlocked", message="one name")
def license_of_tensor_twice() -> Made:
    """The license is for just that."""
    both = dict.fromkeys(release(), release()["a.nnc"])
    trial = carrying(weaker(), {name: {"": file} for name, file in both.items()})
    return without_result(sells(trial, both))
