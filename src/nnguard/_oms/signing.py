"""Bundles for a folder that is there, and for a release while it is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from nnguard._base.arguments import as_path
from nnguard._base.atomic import make_folder_atomically, named_together
from nnguard._base.files import write_bytes
from nnguard._crypto.ecdsa import EcdsaKey
from nnguard._crypto.keys import Signer, SignerLike, as_signer
from nnguard._models.index import is_set
from nnguard._models.side_files import is_side_name, list_files
from nnguard._models.stream_set import Model, StreamSet
from nnguard._oms.bundle import hash_files, place_in
from nnguard._oms.envelope import seal
from nnguard._oms.statement import GIT, Statement
from nnguard.errors import ArgumentError

__all__ = ["save", "sign"]


def sign(
    folder: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    key: SignerLike,
    *,
    overwrite: bool = False,
) -> None:
    """Sign all files of a folder, whatever they are, but those of Git.

    Args:
        folder: The folder.
        bundle: File to write, in the folder or elsewhere.
        key: Signs: an ECDSA `SigningKey` ("p256", "p384"), the path of one, or your own `Signer`.
        overwrite: Replace a bundle that is there already.

    Raises:
        ArgumentError: There is nothing to sign, or a file's name is none that a bundle may hold.
        KeyFormatError: The key cannot be read.
        LimitError: There are too many files.
        OSError: A file cannot be read or written.

    Examples:
        >>> nnguard.oms.sign("digits-hf", "digits-hf.sig", "oms.key")
        >>> nnguard.oms.Bundle.open("digits-hf.sig", "oms.pub").check("digits-hf")
        ()
    """
    folder, bundle = as_path(folder, "folder"), as_path(bundle, "bundle")
    signer = _ecdsa_signer(key)
    ignored = _ignored(folder, bundle)
    rules = Statement("", {}, ignored)
    files = list_files(folder, enter=lambda name: not rules.ignores(name))
    names = [name for name in files if not rules.ignores(name.rstrip("/"))]
    if links := [name for name in names if (folder / name).is_symlink()]:
        raise ArgumentError(f"a symbolic link is not signed: {links[0]!a}")
    sealed = _seal(folder.resolve().name, hash_files(folder, names), ignored, signer)
    write_bytes(bundle, sealed, overwrite=overwrite)


def save(
    model: Model,
    path: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    key: SignerLike,
    *,
    overwrite: bool = False,
) -> None:
    """Write a release and its bundle; files are hashed while they are written.

    The bundle of a single stream lists it by the name of its file, as if that lay in a folder by
    itself: so `model_signing` verifies the folder. Neither appears without the other, but where the
    process is killed between the two names.

    Args:
        model: A signed stream or set.
        path: File or folder to make.
        bundle: File to write: beside them, or in the folder.
        key: Signs: an ECDSA `SigningKey` ("p256", "p384"), the path of one, or your own `Signer`.
        overwrite: Replace what is there already.

    Raises:
        ArgumentError: The bundle would take the place of a file of the release.
        FileExistsError: A file or the folder exists and `overwrite` is false.
        KeyFormatError: The key cannot be read.
        VerificationError: What was written is not what was verified; nothing is left behind.
        OSError: A file cannot be written; nothing is left behind.

    Examples:
        >>> release = nnguard.sign("model.nnc", "vendor.key", name="digits")
        >>> nnguard.oms.save(release, "bundled.nnc", "bundled.sig", "oms.key")
        >>> [*nnguard.oms.Bundle.open("bundled.sig", "oms.pub").files]
        ['bundled.nnc']
    """
    path, bundle = as_path(path), as_path(bundle, "bundle")
    signer = _ecdsa_signer(key)
    ignored = _ignored(path, bundle)
    if isinstance(model, StreamSet):
        _save_set(model, path, bundle, ignored, signer, overwrite=overwrite)
        return
    if path.resolve() == bundle.resolve():
        raise ArgumentError("the bundle is a file of its own: name another one")
    with named_together():
        digest = model.save_hashed(path, overwrite=overwrite)
        sealed = _seal(path.name, {path.name: digest}, ignored, signer)
        write_bytes(bundle, sealed, overwrite=overwrite)


def _ecdsa_signer(key: SignerLike) -> Signer:
    """Return what signs bundles; another key is refused before any work is done."""
    signer = as_signer(key, "key")
    EcdsaKey.from_pem(signer.public_key.pem)
    return signer


def _save_set(
    model: StreamSet,
    folder: Path,
    bundle: Path,
    ignored: tuple[str, ...],
    signer: Signer,
    *,
    overwrite: bool,
) -> None:
    inside = place_in(folder, bundle)
    if inside and (inside in model.files or not is_side_name(inside)):
        raise ArgumentError(
            f"{inside} is a file of the release",
            hint="give the bundle another name; if it is one of before, delete that first",
        )
    is_ours = partial(is_set, suffix=".nnc", more=(inside,))
    with make_folder_atomically(folder, overwrite=overwrite, is_ours=is_ours) as temporary:
        digests = model.write_hashed(temporary)
        sealed = _seal(folder.resolve().name, digests, ignored, signer)
        place = temporary / inside if inside else bundle
        write_bytes(place, sealed, overwrite=overwrite)


def _ignored(folder: Path, bundle: Path) -> tuple[str, ...]:
    """Return what a bundle leaves out of a folder: itself, and what belongs to Git."""
    inside = place_in(folder, bundle)
    return (inside, *GIT) if inside else GIT


def _seal(
    name: str, digests: Mapping[str, bytes], ignored: tuple[str, ...], signer: Signer
) -> bytes:
    if not digests:
        raise ArgumentError("there are no files to sign")
    try:
        statement = Statement(name, digests, ignored).encode()
    except ValueError as error:
        raise ArgumentError(f"a bundle cannot hold this: {error}") from None
    return seal(statement, signer)
