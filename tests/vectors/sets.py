"""Vectors of sets of shards."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import stock
from nnguard._stream import Stream
from vectors.toolbox import (
    OTHER,
    PARTNER,
    VENDOR,
    Made,
    claims_of,
    digest_of,
    sha256_of,
    sign,
    vector,
    weights,
)

NAMES = ("a.nnc", "b.nnc")
WEIGHT_MAP = {"a.weight": "a.nnc", "b.weight": "b.nnc"}
INDEX = "model.nnc.index.json"

verifies_set = functools.partial(vector, "6.3", operation="verify-set")


@functools.cache
def original(name: str = "a.weight", seed: int = 30) -> Stream:
    arrays = {name: weights((50, 60), seed)}
    return Stream.from_bytes(stock.encode(arrays, qp=-24, dependent=False))


def both() -> list[Stream]:
    return [original(), original("b.weight", 31)]


def named(streams: list[Stream]) -> dict[str, Stream]:
    return dict(zip(NAMES, streams, strict=True))


def signed_set(originals: list[Stream] | None = None, **changes: Any) -> list[bytes]:
    """Two shards.

    Args:
        originals: Of both.
        changes: `key`, of both; `second`: what `toolbox.sign` is given besides for the second;
            `count`: of shards, as the claims say.
    """
    originals = originals or both()
    digest, second = digest_of(named(originals)), changes.get("second", {})
    shards = []
    for position, stream in enumerate(originals):
        claim = [digest, position, changes.get("count", 2)]
        options = {
            "key": changes.get("key", VENDOR),
            "shard": claim,
            **(second if position else {}),
        }
        shards.append(bytes(sign(stream, **options)))
    return shards


def folder(shards: list[bytes], index: Any = None, **more: bytes) -> Made:
    """A folder of shards.

    Args:
        shards: Their bytes.
        index: Its bytes, or what it holds; a right one, if not given.
        more: Other files, by names with an underscore for the dot.
    """
    index = {"metadata": {}, "weight_map": WEIGHT_MAP} if index is None else index
    encoded = index if isinstance(index, bytes) else json.dumps(index).encode()
    files = {**dict(zip(NAMES, shards, strict=False)), INDEX: encoded}
    files |= {name.replace("_", "."): data for name, data in more.items()}
    return Made(files=tuple(files.items()))


@verifies_set("ok")
def set_of_two() -> Made:
    """Two shards and their index."""
    made, originals = folder(signed_set()), named(both())
    details = {
        "kid": VENDOR.public_key.id.hex(),
        "digest": digest_of(originals).hex(),
        "claims": claims_of(),
        "shards": sha256_of(originals),
    }
    return Made(files=made.files, details=tuple(details.items()))


@verifies_set("ok")
def set_with_other_files() -> Made:
    """A text file beside the shards is nobody's claim; and the index has no `metadata`."""
    made = folder(signed_set(), {"weight_map": WEIGHT_MAP}, README_md=b"# Two shards\n")
    return Made(files=made.files, details=set_of_two().details)


CARD, CONFIG = b"# Two shards\n", b"{}"
BESIDE = {"config.json": CONFIG, "docs/card.md": CARD}


def listed(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def set_with_files(files: dict[str, bytes] = BESIDE, names: dict[str, bytes] = BESIDE) -> Made:
    """Two shards and files beside them.

    Args:
        files: What lies there.
        names: What was signed, and is listed.
    """
    digest = digest_of(named(both()), names)
    shards = []
    for position, stream in enumerate(both()):
        shards.append(bytes(sign(stream, key=VENDOR, shard=[digest, position, 2])))
    made = folder(shards, {"weight_map": WEIGHT_MAP, "files": listed(names)})
    return Made(files=(*made.files, *files.items()))


@verifies_set("ok")
def set_that_covers_files() -> Made:
    """Two files beside the shards are listed and signed, one of them in a folder."""
    details = {**dict(set_of_two().details), "digest": digest_of(named(both()), BESIDE).hex()}
    return Made(files=set_with_files().files, details=tuple(details.items()))


@verifies_set("ok")
def set_with_a_file_more() -> Made:
    """What is not listed is not covered."""
    files = {**BESIDE, "notes.txt": b"mine", ".hidden/notes.txt": b"mine, too"}
    return Made(files=set_with_files(files).files, details=set_that_covers_files().details)


@verifies_set("VerificationError: a listed file changed", message="changed after signing: docs/card.md")
def set_with_a_changed_file() -> Made:
    """One byte."""
    return set_with_files({**BESIDE, "docs/card.md": CARD[:-1] + b" "})


@verifies_set("VerificationError: a listed file is missing", message="files are missing: config.json")
def set_without_a_listed_file() -> Made:
    """The configuration."""
    return set_with_files({"docs/card.md": CARD})


@verifies_set("VerificationError: the list is another", message="not the one that was signed")
def set_whose_list_was_changed() -> Made:
    """The file and its digest are others than those that were signed."""
    shards = set_with_files().files[:2]
    others = {**BESIDE, "config.json": b"[]"}
    index = {"weight_map": WEIGHT_MAP, "files": listed(others)}
    return Made(files=(*shards, (INDEX, json.dumps(index).encode()), *others.items()))


@verifies_set("VerificationError: the list is left out", message="not the one that was signed")
def set_whose_list_is_left_out() -> Made:
    """The files are there; the index does not list them."""
    made = set_with_files()
    index = {"weight_map": WEIGHT_MAP}
    return Made(files=(*made.files[:2], (INDEX, json.dumps(index).encode()), *made.files[3:]))


@verifies_set("FormatError: a listed name leads out of the folder", message="is not an index")
def set_that_lists_a_file_elsewhere() -> Made:
    """`../config.json`."""
    names = {"../config.json": CONFIG}
    return set_with_files({}, names)


@verifies_set("FormatError: a listed name is hidden", message="is not an index")
def set_that_lists_a_hidden_file() -> Made:
    """`docs/.card`."""
    names = {"docs/.card": CARD}
    return set_with_files(names, names)


@verifies_set("FormatError: a listed digest in capitals", message="is not an index")
def set_with_a_digest_in_capitals() -> Made:
    """Right but for that."""
    made = set_with_files()
    index = json.loads(made.files[2][1])
    index["files"] = {name: digest.upper() for name, digest in index["files"].items()}
    return Made(files=(*made.files[:2], (INDEX, json.dumps(index).encode()), *made.files[3:]))


# The index


@verifies_set("FormatError: no index", message="it needs one")
def set_without_index() -> Made:
    """The shards alone."""
    return Made(files=folder(signed_set()).files[:2])


@verifies_set("FormatError: two indices", message="it needs one")
def set_with_two_indices() -> Made:
    """The same one under two names."""
    made = folder(signed_set())
    return Made(files=(*made.files, ("other.nnc.index.json", made.files[2][1])))


@verifies_set("FormatError: another member in the index", message="is not an index")
def index_with_more() -> Made:
    """`total_size`, which nothing would verify."""
    return folder(signed_set(), {"metadata": {}, "weight_map": WEIGHT_MAP, "total_size": 1})


@verifies_set("FormatError: metadata in the index", message="is not an index")
def index_with_metadata() -> Made:
    """`total_size` there."""
    return folder(signed_set(), {"metadata": {"total_size": 1}, "weight_map": WEIGHT_MAP})


@verifies_set("FormatError: name twice in the index", message="is not an index")
def index_with_name_twice() -> Made:
    """A tensor has two places, of which the last is right."""
    text = b'{"weight_map": {"a.weight": "b.nnc", "a.weight": "a.nnc", "b.weight": "b.nnc"}}'
    return folder(signed_set(), text)


@verifies_set("FormatError: lone surrogate in the index", message="is not an index")
def index_with_surrogate() -> Made:
    """The name of a tensor."""
    return folder(signed_set(), b'{"weight_map": {"a.weight": "a.nnc", "\\ud800": "b.nnc"}}')


@verifies_set("FormatError: path in the index", message="is not an index")
def index_with_path() -> Made:
    """A file in the folder above."""
    return folder(signed_set(), {"weight_map": {**WEIGHT_MAP, "b.weight": "../b.nnc"}})


@verifies_set("FormatError: file of another kind in the index", message="is not an index")
def index_with_other_file() -> Made:
    """`b.bin`."""
    return folder(signed_set(), {"weight_map": {**WEIGHT_MAP, "b.weight": "b.bin"}})


@verifies_set("VerificationError: index swaps the shards", message="where the tensors are")
def index_swapped() -> Made:
    """Each tensor is said to be in the other file."""
    return folder(signed_set(), {"weight_map": {"a.weight": "b.nnc", "b.weight": "a.nnc"}})


@verifies_set("VerificationError: tensor that is not there", message="where the tensors are")
def index_with_tensor_more() -> Made:
    """The index lists a third tensor."""
    return folder(signed_set(), {"weight_map": {**WEIGHT_MAP, "c.weight": "b.nnc"}})


@verifies_set("VerificationError: tensor twice in the set", message="where the tensors are")
def set_with_tensor_twice() -> Made:
    """Both shards have a tensor of one name, which the index can map to one only."""
    index = {"weight_map": {"a.weight": "a.nnc", "b.weight": "b.nnc"}}
    return folder(signed_set([original(), original(seed=31)]), index)


@verifies_set("FormatError: name twice in one shard", message="same name")
def set_with_name_twice() -> Made:
    """The second has its tensor twice."""
    units = [unit.read() for unit in both()[1]]
    return folder(signed_set([original(), Stream.from_bytes(b"".join([*units, units[-1]]))]))


@verifies_set("FormatError: unit that is not to be decoded", message="tools of the standard")
def set_with_aggregate() -> Made:
    """The second shard has an aggregate unit; nobody can tell which tensors are in it."""
    units = [unit.read() for unit in both()[1]]
    more = Stream.from_bytes(b"".join([*units, bytes([0, 5, 6 << 2, 0, 0])]))
    return folder(signed_set([original(), more]))


# The files


@verifies_set("VerificationError: shard is missing", message="missing")
def set_without_shard() -> Made:
    """The second."""
    return folder(signed_set()[:1])


@verifies_set("VerificationError: stream that is not listed", message="not part of the set")
def set_with_stray() -> Made:
    """Its name ends in capitals, as some loaders take it."""
    shards = signed_set()
    return folder(shards, C_NNC=shards[0])


@verifies_set("VerificationError: stream in a folder", message="not part of the set")
def set_with_stray_in_a_folder() -> Made:
    """A shard, in a folder below."""
    shards = signed_set()
    return Made(files=(*folder(shards).files, ("more/a.nnc", shards[0])))


# The shards


@verifies_set("WrongKeyError: set of another vendor", message="not among")
def set_of_other_vendor() -> Made:
    """Both shards are signed by the other test key."""
    return folder(signed_set(key=OTHER))


@verifies_set("NoRecordError: shard is not signed", message="b.nnc")
def set_with_unsigned() -> Made:
    """The second; and the index swaps both, which comes later."""
    index = {"weight_map": {"a.weight": "b.nnc", "b.weight": "a.nnc"}}
    return folder([signed_set()[0], bytes(both()[1])], index)


@verifies_set("VerificationError: shard signed by itself", message="signed by itself")
def set_with_single() -> Made:
    """The second has no claim of a shard."""
    return folder([signed_set()[0], bytes(sign(both()[1]))])


@verifies_set("VerificationError: shards of three", message="one of 3")
def set_of_three() -> Made:
    """All is right but that each says it is one of three."""
    return folder(signed_set(count=3))


@verifies_set("VerificationError: shards in each other's place", message="place of another")
def set_swapped() -> Made:
    """Each under the name of the other; the index follows."""
    index = {"weight_map": {"a.weight": "b.nnc", "b.weight": "a.nnc"}}
    return folder(signed_set()[::-1], index)


@verifies_set("VerificationError: shard of another set", message="not of the same release")
def set_mixed() -> Made:
    """The second of a release in which the first is another; key and claims are the same."""
    return folder([signed_set()[0], signed_set([original(seed=32), both()[1]])[1]])


@verifies_set("VerificationError: shards by two vendors", message="other claims")
def set_of_two_vendors() -> Made:
    """Both keys are trusted."""
    return folder(signed_set(second={"key": PARTNER}))


@verifies_set("VerificationError: other claims in one shard", message="other claims")
def set_of_two_versions() -> Made:
    """Version 2.0 of the same weights."""
    return folder(signed_set(second={"version": "2.0"}))
