"""Opening a trial once, and keeping what its licenses say."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

from nnguard._base.arguments import check_text
from nnguard._base.progress import Progress
from nnguard._base.times import now
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.keys import PublicKey
from nnguard._locking.opening import lock_id, open_files
from nnguard._models.stream_set import StreamSet
from nnguard._operations.signatures import signer_of
from nnguard._records.hashed import digest_of, hash_files
from nnguard._selling.entry import check_storable
from nnguard._selling.issue import signed_claims
from nnguard._selling.product import Product, Tier
from nnguard._stream import Stream
from nnguard.errors import ArgumentError, NoRecordError

__all__ = ["Opened", "open_product"]

_LONGEST_NAME = 200
"""Bytes: databases have limits for what they find by an index."""


class Opened(NamedTuple):
    """A trial that was opened.

    Attributes:
        product: What orders need of it.
        signed_by: Identifier of the key that signed the trial; empty where none did.
    """

    product: Product
    signed_by: str


def open_product(
    model: Stream | StreamSet,
    content_key: ContentKey,
    name: str,
    key: PublicKey,
    progress: Progress | None,
) -> Opened:
    """Open a trial in memory with the key of its highest tier and those below.

    Args:
        model: The trial.
        content_key: Of the highest tier that is to be sold.
        name: Of the product; the name in the trial's signature, if empty.
        key: Signs the licenses; a trial that is signed has to be signed by it.
        progress: Called with the number of bytes done since the last call.

    Raises:
        ArgumentError: The product would have no name.
        NnguardError: See `nnguard.licensing.issue`.
    """
    files = hash_files(model, progress)
    lock = lock_id(model)
    claims = signed_claims(model, files, key)
    name = check_storable(check_text(name or claims.name, "name", _LONGEST_NAME), "name")
    if not name:
        raise ArgumentError("the product has no name", hint="the trial says none: give it a name")
    spool = None if "" in files else tempfile.gettempdir()
    opened = open_files(files, content_key, spool=spool, progress=progress)
    if opened.masks is not None:
        raise ArgumentError(
            "the trial is traceable: each license has a copy of its own, and orders cannot make it",
            hint="issue its licenses with nnguard license, one by one",
        )
    names = opened.tiers
    tiers = [Tier(names[-1], digest_of(opened.files).hex())]
    for steps, tier in enumerate(reversed(names[:-1]), 1):
        below = open_files(files, content_key.below(steps), spool=spool).files
        tiers.insert(0, Tier(tier, digest_of(below).hex()))
    product = Product(name, digest_of(files).hex(), lock, claims.issuer, tuple(tiers), now())
    return Opened(product, _signer_of(model))


def _signer_of(model: Stream | StreamSet) -> str:
    try:
        return signer_of(model)
    except NoRecordError:
        return ""
