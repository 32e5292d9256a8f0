"""What a bundle signs: the files of a model with their SHA-256, as an in-toto statement (v1).

The predicate is `https://model_signing/signature/v1.0`. Law: what is encoded is read back equal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnguard._base.strict_json import parse_json, parse_sha256
from nnguard._base.texts import shown

__all__ = ["GIT", "Statement", "check_name", "members"]

GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What `model_signing` leaves out, so that a folder may become a repository."""

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_ALGORITHM = "sha256"
_WHOLE = "."
"""What `model_signing` calls the one file of a model that is not a folder."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The files of a model.

    Attributes:
        name: Of the model; says nothing that is checked.
        resources: Names of the files, with slashes, to their SHA-256.
        ignored: Names of files and folders that the signature leaves out.
        allow_symlinks: A file may be a symbolic link.
    """

    name: str
    resources: Mapping[str, bytes]
    ignored: tuple[str, ...] = ()
    allow_symlinks: bool = False

    def ignores(self, name: str) -> bool:
        """Tell whether the signature leaves out a file or folder."""
        return any(name == each or name.startswith(f"{each}/") for each in self.ignored)

    def encode(self) -> bytes:
        """Return the statement as JSON, its resources in the order of `model_signing`.

        Raises:
            ValueError: A name is none that a resource may have.
        """
        names = sorted(self.resources, key=lambda name: name.split("/"))
        for name in (*names, *self.ignored):
            check_name(name)
        digests = [self.resources[name] for name in names]
        resources = [
            {"name": name, "algorithm": _ALGORITHM, "digest": digest.hex()}
            for name, digest in zip(names, digests, strict=True)
        ]
        serialization = {
            "method": "files",
            "hash_type": _ALGORITHM,
            "allow_symlinks": self.allow_symlinks,
            "ignore_paths": list(self.ignored),
        }
        statement = {
            "_type": _STATEMENT,
            "subject": [{"name": self.name, "digest": {_ALGORITHM: _joined(digests)}}],
            "predicateType": _PREDICATE,
            "predicate": {"serialization": serialization, "resources": resources},
        }
        return json.dumps(statement, indent=2).encode()

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """Read a statement, once its signature was checked.

        Raises:
            ValueError: It is malformed, or of another kind; the message says what.
        """
        statement = members(
            parse_json(data), "statement", "_type", "subject", "predicateType", "predicate"
        )
        _expect(statement["_type"], _STATEMENT, "type")
        _expect(statement["predicateType"], _PREDICATE, "predicate type")
        predicate = members(statement["predicate"], "predicate", "serialization", "resources")
        ignored, allow_symlinks = _read_serialization(predicate["serialization"])
        resources = _read_resources(predicate["resources"])
        name, digest = _read_subject(statement["subject"])
        if not hmac.compare_digest(digest, _joined(resources.values())):
            raise ValueError("the subject's digest is not that of the resources")
        return cls(name, resources, ignored, allow_symlinks)


def members(
    value: Any, what: str, *required: str, optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return an object of JSON that has these members, and no others.

    Raises:
        ValueError: It has not.
    """
    if not isinstance(value, dict):
        raise ValueError(f"the {what} is not an object")
    if missing := set(required) - set(value):
        raise ValueError(f"the {what} has no {min(missing)!r}")
    if extra := set(value) - {*required, *optional}:
        raise ValueError(f"the {what} has an extra member: {shown(min(extra))!r}")
    return value


def check_name(name: Any) -> str:
    """Return the name of a file in a folder, and of nothing outside.

    Raises:
        ValueError: It is not such a name.
    """
    if not isinstance(name, str):
        raise ValueError("a name is not text")
    if set(name) & set("\\\0") or set(name.split("/")) & {"", ".", ".."}:
        raise ValueError(f"{shown(name)!r} is not the name of a file in a folder")
    name.encode()
    return name


def _expect(value: Any, expected: str, what: str) -> None:
    if value != expected:
        raise ValueError(f"the {what} is {shown(repr(value))}, not {expected!r}")


def _read_subject(subject: Any) -> tuple[str, str]:
    """Return the model's name, and the digest of all digests in hexadecimal."""
    if not isinstance(subject, list) or len(subject) != 1:
        raise ValueError("it does not have exactly one subject")
    found = members(subject[0], "subject", "name", "digest", optional=("annotations",))
    digest = members(found["digest"], "subject's digest", _ALGORITHM)[_ALGORITHM]
    if not isinstance(found["name"], str) or not isinstance(digest, str) or not digest.isascii():
        raise ValueError("the subject's name or digest is not text")
    return found["name"], digest


def _read_serialization(value: Any) -> tuple[tuple[str, ...], bool]:
    """Return what is ignored, and whether there may be symbolic links."""
    found = members(
        value, "serialization", "method", "hash_type", "allow_symlinks", optional=("ignore_paths",)
    )
    _expect(found["method"], "files", "method")
    _expect(found["hash_type"], _ALGORITHM, "kind of hash")
    ignored, allow_symlinks = found.get("ignore_paths", []), found["allow_symlinks"]
    if not isinstance(ignored, list) or not isinstance(allow_symlinks, bool):
        raise ValueError("the serialization is malformed")
    return tuple(check_name(name) for name in ignored), allow_symlinks


def _read_resources(value: Any) -> dict[str, bytes]:
    if not isinstance(value, list) or not value:
        raise ValueError("there are no resources")
    resources: dict[str, bytes] = {}
    for each in value:
        found = members(each, "resource", "name", "algorithm", "digest")
        _expect(found["algorithm"], _ALGORITHM, "algorithm of a resource")
        alone = len(value) == 1 and found["name"] == _WHOLE
        name = _WHOLE if alone else check_name(found["name"])
        if name in resources:
            raise ValueError(f"{shown(name)!r} is there twice")
        resources[name] = parse_sha256(found["digest"])
    return resources


def _joined(digests: Any) -> str:
    """Return the SHA-256 of digests in a row, in hexadecimal."""
    return hashlib.sha256(b"".join(digests)).hexdigest()
