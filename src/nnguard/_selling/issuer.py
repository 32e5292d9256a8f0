"""The issuing desk: licenses made out, written down, and revoked.

with nnguard.Ledger("licenses.db") as ledger:
    desk = nnguard.Desk(ledger, signer=key)
    license = desk.issue("trial.nnc", content_key, to="customer.pub", customer="Ada")
    desk.revoke([license.terms.id], reason="refund")
    desk.revocation_list().save("acme.revoked")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from nnguard._base.files import named_together
from nnguard._crypto.content_key import ContentKey
from nnguard._crypto.identity import Identity
from nnguard._crypto.keys import Signer
from nnguard._licensing.license import License
from nnguard._licensing.revocation import RevocationList
from nnguard._locking.opening import lock_id
from nnguard._locking.tiers import MAX_TIERS
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._selling.issue import issue_license
from nnguard._selling.ledger import Entry, Ledger
from nnguard._stream import StreamLike
from nnguard.errors import KeyFormatError, WrongKeyError

__all__ = ["Desk"]

_WRAPPING = b"nnguard ledger content key v1\0"


class Desk:
    """Issues licenses and keeps a ledger of them.

    Args:
        ledger: Where it is written down who got what.
        signer: Signs licenses and lists: the vendor's key, or your own `Signer`.
        identity: The vendor's own pair. The ledger then keeps content keys, wrapped to it.
    """

    def __init__(self, ledger: Ledger, signer: Signer, identity: Identity | None = None) -> None:
        self._ledger = ledger
        self._signer = signer
        self._identity = identity

    def issue(
        self,
        trial: StreamLike | StreamSet,
        content_key: ContentKey | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> License:
        """Make out a license and write it down.

        The file is whole on the disk before the ledger has the license, and gets its name after: no
        license is ever out that the ledger does not know. What a kill leaves between the two is an
        entry, of which `armored` is the file.

        Args:
            trial: The stream or set that the customer has, or its path.
            content_key: As for `nnguard.issue_license`; the one that the ledger keeps, if not
                given.
            output: File to write the license to, if any.
            overwrite: Replace a file that exists.
            **options: Of `nnguard.issue_license`, but for `signer`.

        Raises:
            KeyFormatError: There is no content key, neither given nor in the ledger.
            LedgerError: The ledger cannot be written; neither is the file.
            OSError: The file cannot be written; neither is the ledger.
            NnguardError: See `nnguard.issue_license`.
        """
        model = as_model(trial)
        lock = lock_id(model)
        key = self._kept(lock) if content_key is None else content_key
        license = issue_license(model, key, signer=self._signer, **options)  # noqa: A001
        entry = _entry_of(license)
        with named_together():
            if output is not None:
                license.save(output, overwrite=overwrite)
            if content_key is not None:
                self._keep(lock, license.terms.product, key)
            self._ledger.add(entry)
        return license

    def revoke(
        self, license_ids: Sequence[str], *, reason: str = "", at: datetime | None = None
    ) -> list[Entry]:
        """Note that licenses hold no longer. Deployments learn it from `revocation_list`.

        Args:
            license_ids: Identifiers, or as much of them as is unambiguous.
            reason: For the ledger only.
            at: Now, if not given.

        Raises:
            LedgerError: One is not in the ledger; nothing is revoked then.
        """
        when = datetime.now(timezone.utc) if at is None else at
        found = [self._ledger.get(license_id).license_id for license_id in license_ids]
        return [self._ledger.revoke(license_id, at=when, reason=reason) for license_id in found]

    def revocation_list(self, *, issuer: str = "", at: datetime | None = None) -> RevocationList:
        """Sign the list of all licenses that were revoked."""
        ids = self._ledger.revoked_ids()
        return RevocationList.make(ids, self._signer, issuer=issuer, issued_at=at)

    def _kept(self, lock: str) -> ContentKey:
        wrapped = self._ledger.wrapped_content_key(lock)
        if wrapped is None:
            raise KeyFormatError(
                f"the ledger has no content key for lock {lock}", hint="give the content key once"
            )
        key = self._unwrap(lock, wrapped)
        if key is None:
            raise WrongKeyError("the content key in the ledger is wrapped to another key")
        return key

    def _keep(self, lock: str, product: str, key: ContentKey) -> None:
        """Keep a content key, unless the ledger has that of a higher tier."""
        if self._identity is None:
            return
        kept = self._unwrap(lock, self._ledger.wrapped_content_key(lock))
        if kept is None or not any(kept.below(steps) == key for steps in range(MAX_TIERS)):
            wrapped = self._identity.recipient.wrap(key.secret, _info(lock))
            self._ledger.keep_content_key(lock, product, wrapped)

    def _unwrap(self, lock: str, wrapped: bytes | None) -> ContentKey | None:
        """Return the content key that the ledger keeps; None where it keeps none for us."""
        if wrapped is None or self._identity is None:
            return None
        secret = self._identity.unwrap(wrapped, _info(lock))
        return None if secret is None else ContentKey(secret)


def _info(lock: str) -> bytes:
    return _WRAPPING + bytes.fromhex(lock)


def _entry_of(license: License) -> Entry:  # noqa: A002
    terms = license.terms
    return Entry(
        license_id=terms.id,
        product=terms.product,
        customer=terms.customer,
        recipient=terms.recipient,
        tier=terms.tier,
        stream=terms.stream,
        content_key_id=terms.lock,
        issued_at=terms.issued_at,
        not_before=terms.not_before,
        expires_at=terms.expires_at,
        armored=str(license),
    )
