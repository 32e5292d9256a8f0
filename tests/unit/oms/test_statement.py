"""Statements are read in one way, or refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nnguard._oms.statement import GIT, Statement

NO_NAME = "is not the name of a file|surrogates not allowed|UTF-8 cannot hold|a name is not text"
FILES = {"a.b": bytes([1]) * 32, "a/b": bytes([2]) * 32, "z": bytes([3]) * 32}


def test_statement_is_read_back_equal() -> None:
    for statement in (
        Statement("model", FILES, ("model.sig", *GIT), allow_symlinks=True),
        Statement("", {"only": bytes(32)}),
    ):
        assert Statement.parse(statement.encode()) == statement


def test_resources_stand_in_the_order_of_paths() -> None:
    value = json.loads(Statement("model", FILES).encode())
    assert [each["name"] for each in value["predicate"]["resources"]] == ["a/b", "a.b", "z"]


def test_what_is_ignored() -> None:
    statement = Statement("model", FILES, ("skip", "sub/skip"))
    for name in ("skip", "skip/a", "sub/skip/a/b"):
        assert statement.ignores(name)
    for name in ("skipped", "sub", "sub/skipped", "a/skip"):
        assert not statement.ignores(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a\\b", "a\0b", "\ud800", 7, None],
)
def test_names_of_nothing_in_the_folder(name: Any) -> None:
    value = json.loads(Statement("model", FILES).encode())
    value["predicate"]["resources"][1]["name"] = name
    with pytest.raises(ValueError, match=NO_NAME):
        Statement.parse(json.dumps(value).encode())
    value = json.loads(Statement("model", FILES).encode())
    value["predicate"]["serialization"]["ignore_paths"] = [name]
    with pytest.raises(ValueError, match=NO_NAME):
        Statement.parse(json.dumps(value).encode())


@pytest.mark.parametrize("name", ["..", "a\\b", "/a", "\udcff"])
def test_names_that_are_not_signed(name: str) -> None:
    with pytest.raises(ValueError, match=NO_NAME):
        Statement("model", {name: bytes(32)}).encode()


def resource(value: Any) -> Any:
    return value["predicate"]["resources"][0]


def serialization(value: Any) -> Any:
    return value["predicate"]["serialization"]


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another type": ("type", lambda v: v.update(_type="https://in-toto.io/Statement/v0.1")),
    "another predicate": ("predicate type", lambda v: v.update(predicateType="https://other")),
    "the predicate of version 0.2": (
        "predicate type",
        lambda v: v.update(predicateType="https://model_signing/Digests/v0.1"),
    ),
    "a member more": ("extra member", lambda v: v.update(more=1)),
    "a member less": ("has no", lambda v: v.pop("predicate")),
    "no object": ("not an object", lambda v: v.update(predicate=[])),
    "a predicate with more": ("extra member", lambda v: v["predicate"].update(more=1)),
    "no subject": ("one subject", lambda v: v.update(subject=[])),
    "two subjects": ("one subject", lambda v: v.update(subject=v["subject"] * 2)),
    "a subject with more": ("extra member", lambda v: v["subject"][0].update(uri="https://x")),
    "two digests of the subject": (
        "extra member",
        lambda v: v["subject"][0]["digest"].update(sha512="00"),
    ),
    "another digest of the subject": (
        "the subject's digest",
        lambda v: v["subject"][0]["digest"].update(sha256="00" * 32),
    ),
    "a digest that is not text": (
        "not text",
        lambda v: v["subject"][0]["digest"].update(sha256=7),
    ),
    "another method": ("method", lambda v: serialization(v).update(method="shards")),
    "another kind of hash": ("kind of hash", lambda v: serialization(v).update(hash_type="blake3")),
    "a size of shards": ("extra member", lambda v: serialization(v).update(shard_size=1000)),
    "ignored text": ("malformed", lambda v: serialization(v).update(ignore_paths="a")),
    "links allowed by text": ("malformed", lambda v: serialization(v).update(allow_symlinks="no")),
    "no resources": ("no resources", lambda v: v["predicate"].update(resources=[])),
    "resources that are an object": ("no resources", lambda v: v["predicate"].update(resources={})),
    "another algorithm": ("algorithm", lambda v: resource(v).update(algorithm="blake2")),
    "a resource with more": ("extra member", lambda v: resource(v).update(size=3)),
    "uppercase digest": ("lowercase", lambda v: resource(v).update(digest="AB" * 32)),
    "spaces in a digest": ("lowercase", lambda v: resource(v).update(digest="ab " * 32)),
    "a short digest": ("lowercase", lambda v: resource(v).update(digest="ab" * 31)),
    "a file twice": (
        "there twice",
        lambda v: v["predicate"]["resources"].append(dict(resource(v))),
    ),
    "resources in another order": (
        "the subject's digest",
        lambda v: v["predicate"]["resources"].reverse(),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_statements_of_another_kind(change: str) -> None:
    value = json.loads(Statement("model", FILES).encode())
    message, apply = CHANGES[change]
    apply(value)
    with pytest.raises(ValueError, match=message):
        Statement.parse(json.dumps(value).encode())


ODD: list[Any] = [
    None, True, 0, -1, 1e400, "", "a", "\ud800", "é", [], {}, [[]], [None], {"a": 1}, {"sha256": []}
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a value, and each key or index in it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def test_anything_in_any_place_is_read_or_refused() -> None:
    """With an error of its own, and nothing else."""
    count = len(list(places(json.loads(Statement("model", FILES, GIT).encode()))))
    read = []
    for at in range(count):
        for odd in ODD:
            value = json.loads(Statement("model", FILES, GIT).encode())
            container, key = next(itertools.islice(places(value), at, None))
            container[key] = odd
            try:
                read.append((key, odd, Statement.parse(json.dumps(value).encode())))
            except ValueError:
                continue
    # Names, what is ignored, and whether links are allowed may be something else.
    assert {key for key, _, _ in read} <= {
        "name",
        "ignore_paths",
        "allow_symlinks",
        *range(len(GIT)),
    }
    digests = sorted(FILES.values())
    assert all(sorted(statement.resources.values()) == digests for _, _, statement in read)


def test_annotations_of_the_subject_are_read_over() -> None:
    value = json.loads(Statement("model", FILES).encode())
    value["subject"][0]["annotations"] = {"license": "MIT"}
    assert Statement.parse(json.dumps(value).encode()) == Statement("model", FILES)


def test_one_file_that_is_the_whole_model() -> None:
    value = json.loads(Statement("model", {"a": bytes(32)}).encode())
    resource(value)["name"] = "."
    assert Statement.parse(json.dumps(value).encode()).resources == {".": bytes(32)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff", "invalid start byte"),
        (b'{"a": 1, "a": 1}', "there twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'["\\ud800"]', "UTF-8 cannot hold"),
    ],
)
def test_not_json(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Statement.parse(data)
