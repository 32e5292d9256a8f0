"""Bundles whose signature was checked, and what they say of a folder or a file."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnguard._base.arguments import as_path
from nnguard._base.files import read_file
from nnguard._base.workers import in_order
from nnguard._crypto.ecdsa import EcdsaKey, EcdsaTrust, load_ecdsa_trust
from nnguard._models.side_files import SideFile, list_files
from nnguard._models.stream_set import Model, some_of
from nnguard._oms.envelope import open_envelope
from nnguard._oms.statement import Statement
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, VerificationError

__all__ = ["Bundle", "hash_files", "place_in"]

_MAX_SIZE = 1 << 24
"""Bytes of a bundle, at most; one of 10,000 files has some 4 MB."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle of OpenSSF Model Signing that a trusted key signed. Make one with `open`.

    Attributes:
        key_id: SHA-256 of the PEM text of the public key, in hexadecimal, as bundles name keys.
        path: Of the bundle.

    Examples:
        >>> bundle = nnguard.oms.Bundle.open("model.sig", trust="oms.pub")
        >>> report = nnguard.verify("digits-release", "vendor.pub", oms=bundle)
        >>> report.oms.name
        'digits-release'
    """

    key_id: str
    path: Path
    _statement: Statement = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str], trust: EcdsaTrust) -> Bundle:
        """Read a bundle, and check its signature.

        Args:
            path: Of the bundle.
            trust: Trusted ECDSA keys: PEM files with one or more, folders of them.

        Raises:
            VerificationError: The bundle is malformed, of another kind, or was changed.
            WrongKeyError: A key that is not trusted signed it.
            KeyFormatError: A trusted key cannot be read.
            LimitError: The bundle is larger than 16 MiB.
            OSError: The bundle cannot be read.
        """
        keys = load_ecdsa_trust(trust)
        path = as_path(path)
        return cls._parse(read_file(path, _MAX_SIZE), keys, path)

    @classmethod
    def _parse(cls, data: bytes, keys: Mapping[str, EcdsaKey], path: Path) -> Bundle:
        try:
            payload, key = open_envelope(data, keys)
            return cls(key.hint, path, Statement.parse(payload))
        except ValueError as error:
            raise VerificationError(
                f"{path} is not a bundle that is understood: {error}",
                hint="model_signing sign key makes one, and nnguard sign --oms",
            ) from None

    @property
    def name(self) -> str:
        """What the signer calls the model."""
        return self._statement.name

    @property
    def files(self) -> Mapping[str, bytes]:
        """Names of the files that are signed, with slashes, to their SHA-256."""
        return self._statement.resources

    def check(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Check that a folder holds just what was signed, whatever files these are.

        Returns:
            Names of files and folders that the signature leaves out.

        Raises:
            VerificationError: A file was changed, is missing, or was added.
            LimitError: There are too many files.
            OSError: A file cannot be read.
        """
        return self._check_folder(as_path(folder, "folder"), {})

    def check_model(self, model: Model, digests: Mapping[str, bytes]) -> tuple[str, ...]:
        """Check a model that was verified; see `check`.

        Args:
            model: The model. The name of a stream by itself is not compared.
            digests: SHA-256 of its streams, by the names of their files.
        """
        if isinstance(model, Stream):
            self._check_file(digests[""])
            return ()
        if model.folder is None or model.index is None:
            raise ArgumentError("a bundle signs a folder: open the set from one")
        index = {model.index.path.name: model.index.digest}
        return self._check_folder(model.folder, {**digests, **model.file_digests, **index})

    def _check_folder(self, folder: Path, known: Mapping[str, bytes]) -> tuple[str, ...]:
        """Check a folder some of whose files were hashed already, and have to be signed."""
        resources = self.files
        names = self._files_in(folder)
        present = {name for name in names if not self._statement.ignores(name)}
        _refuse(known.keys() - resources.keys(), "files of the release that the bundle leaves out")
        _refuse(resources.keys() - present, "files of the bundle are missing")
        _refuse(present - resources.keys(), "files that the bundle does not list")
        if not self._statement.allow_symlinks:
            links = {name for name in present if (folder / name).is_symlink()}
            _refuse(links, "the bundle allows no symbolic links")
        digests = {**known, **hash_files(folder, sorted(resources.keys() - known.keys()))}
        changed = {
            name
            for name, digest in resources.items()
            if not hmac.compare_digest(digest, digests[name])
        }
        _refuse(changed, "not what the bundle signed")
        return tuple(sorted(names - present))

    def _check_file(self, digest: bytes) -> None:
        if len(self.files) != 1:
            raise VerificationError(f"the bundle lists {len(self.files)} files, and this is one")
        for name, signed in self.files.items():
            if not hmac.compare_digest(signed, digest):
                raise VerificationError(f"not what the bundle signed: {name}")

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the bundle as JSON values."""
        return {"key_id": self.key_id, "name": self.name, "files": len(self.files)}

    def _files_in(self, folder: Path) -> set[str]:
        """List the files of a folder, without the bundle, and not what is in ignored folders."""
        found = set(list_files(folder, enter=lambda name: not self._statement.ignores(name)))
        return found - {place_in(folder, self.path)}


def hash_files(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Return the SHA-256 of files of a folder, by their names."""
    digests = in_order(lambda name: SideFile.open(folder / name).digest, names)
    return dict(zip(names, digests, strict=True))


def place_in(folder: Path, bundle: Path) -> str:
    """Return the name that a bundle has in a folder; nothing if it lies elsewhere."""
    folder, place = folder.resolve(), bundle.parent.resolve() / bundle.name
    return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else ""


def _refuse(names: Iterable[str], what: str) -> None:
    if names:
        raise VerificationError(f"{what}: {some_of(names)}")
