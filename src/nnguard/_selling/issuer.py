"""The license issuer: licenses made out, written down, and revoked.

with Ledger("licenses.db") as ledger:
    issuer = Issuer(ledger, signer="vendor.key")
    license = issuer.issue("trial.nnc", "content.key", to="ada.pub", terms=Terms(customer="Ada"))
    issuer.revoke([license.terms.id], reason="refund")
    issuer.revocation_list().save("acme.revoked")
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta

from nnguard._base.arguments import check_text, check_type, loaded
from nnguard._base.atomic import named_together
from nnguard._base.mappings import EMPTY
from nnguard._base.progress import Progress
from nnguard._base.times import TimeLike, time_or_now
from nnguard._crypto.content_key import ContentKey, ContentKeyLike
from nnguard._crypto.identity import Identity, IdentityLike, Recipient, RecipientLike
from nnguard._crypto.keys import Signer, SignerLike, as_signer
from nnguard._licensing.license import License
from nnguard._licensing.receipt import Receipt
from nnguard._licensing.request import Request
from nnguard._licensing.revocation import RevocationList
from nnguard._locking.opening import lock_id
from nnguard._models.stream_set import StreamSet, as_model
from nnguard._selling.answering import Answer, Answerer
from nnguard._selling.catalog import open_product
from nnguard._selling.content_keys import ContentKeys
from nnguard._selling.entry import LedgerEntry, check_storable
from nnguard._selling.issue import issue
from nnguard._selling.ledger import Ledger
from nnguard._selling.order import Order, Seat
from nnguard._selling.order_code import LABEL as CODES
from nnguard._selling.order_code import make_code, read_code
from nnguard._selling.ordering import add_opened, add_order, make_order, unknown_order
from nnguard._selling.product import Product
from nnguard._selling.returning import cancel, give_back, revoke_licenses, take_back
from nnguard._selling.terms import Terms
from nnguard._stream import StreamLike
from nnguard.errors import KeyFormatError, LedgerError, LedgerReason

__all__ = ["Issuer"]

_LONGEST_NAME = 200


class Issuer:
    """Issues licenses and keeps a ledger of them.

    Args:
        ledger: Where it is written down who got what.
        signer: Signs licenses and lists: the vendor's key, its path, or your own `Signer`. None
            for what needs no signature, such as orders.
        identity: The vendor's own pair, or its path. The ledger then keeps content keys, wrapped
            to it, and orders have codes.
        actor: Who does it, for the audit log.
        server: URL of the license server that licenses are refreshed from, if there is one.

    Examples:
        >>> with licensing.Ledger("issuer.db") as ledger:
        ...     issuer = licensing.Issuer(ledger, "vendor.key")
        ...     license = issuer.issue("trial.nnc", "content.key", to="ada.pub")
        ...     issuer.revoke([license.terms.id], reason="refund")
        ...     issuer.revocation_list().save("issuer.revoked")
        [LedgerEntry(...)]

        An order gives licenses to so many machines, whoever asks with its code:

        >>> with licensing.Ledger("shop.db") as ledger:
        ...     issuer = licensing.Issuer(ledger, "vendor.key", "shop.key")
        ...     code = issuer.code(issuer.order("digits", seats=1, customer="Eve"))
        ...     asked = licensing.request("trial.nnc", nnguard.Identity.generate(), order=code)
        ...     issuer.answer(asked) == issuer.answer(asked)
        True
    """

    def __init__(
        self,
        ledger: Ledger,
        signer: SignerLike | None,
        identity: IdentityLike | None = None,
        *,
        actor: str = "desk",
        server: str = "",
    ) -> None:
        check_type(ledger, Ledger, "ledger")
        self._actor = check_storable(actor, "actor")
        self._server = check_storable(server, "server")
        self._ledger = ledger
        self._signer_or_none = None if signer is None else as_signer(signer)
        self._identity = None if identity is None else loaded(identity, Identity, "identity")
        self._fits = False

    def issue(
        self,
        trial: StreamLike | StreamSet,
        content_key: ContentKeyLike | None = None,
        *,
        to: RecipientLike,
        terms: Terms = Terms(),  # noqa: B008 - it is frozen
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        any_signer: bool = False,
    ) -> License:
        """Make out a license and write it down.

        The file is whole on the disk before the ledger has the license, and gets its name after: no
        license is ever out that the ledger does not know. What a kill leaves between the two is an
        entry, of which `armored` is the file.

        Args:
            trial: The stream or set that the customer has, or its path.
            content_key: As for `nnguard.licensing.issue`; the one that the ledger keeps, if None.
            to: The customer's public key, or its path.
            terms: What you choose: customer, expiry, device and so on.
            output: File to write the license to, if any.
            overwrite: Replace a file that exists.
            progress: See `nnguard.unlock`.
            any_signer: See `nnguard.licensing.issue`.

        Raises:
            KeyFormatError: There is no content key, neither given nor in the ledger.
            LedgerError: The ledger cannot be written; neither is the file.
            OSError: The file cannot be written; neither is the ledger.
            NnguardError: See `nnguard.licensing.issue`.
        """
        model = as_model(trial)
        lock = lock_id(model)
        given = None if content_key is None else loaded(content_key, ContentKey, "content_key")
        key = self._content_keys.get(lock) if given is None else given
        license = issue(  # noqa: A001
            model,
            key,
            to=to,
            signer=self._signer,
            terms=terms,
            progress=progress,
            any_signer=any_signer,
        )
        with named_together():
            if output is not None:
                license.save(output, overwrite=overwrite)
            if given is not None:
                self._content_keys.keep(lock, license.terms.product, given)
            self._ledger.add(LedgerEntry.of(license), actor=self._actor)
        return license

    def revoke(
        self, license_ids: Sequence[str], *, reason: str = "", at: TimeLike | None = None
    ) -> list[LedgerEntry]:
        """Note that licenses hold no longer. Deployments learn it from `revocation_list`.

        With a license of a seat go all others of that seat, which gets no new ones.

        Args:
            license_ids: Identifiers, or as much of them as is unambiguous.
            reason: For the ledger only.
            at: Now, if not given.

        Raises:
            LedgerError: One is not in the ledger; nothing is revoked then.
        """
        when = time_or_now(at, "at")
        check_storable(reason, "reason")
        found = [self._ledger.get(license_id).license_id for license_id in license_ids]
        if not found:
            return []
        with self._ledger.writing() as rows:
            revoke_licenses(rows, found, when, reason, self._actor)
            return [rows.licenses.find(license_id) for license_id in found]

    def revocation_list(self, *, issuer: str = "", at: TimeLike | None = None) -> RevocationList:
        """Sign the list of all licenses that were revoked."""
        ids = self._ledger.revoked_ids()
        return RevocationList.make(ids, self._signer, issuer=issuer, issued_at=at)

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self._ledger

    def acting_as(self, actor: str) -> Issuer:
        """Return the same issuer, with somebody else in the audit log."""
        other = copy.copy(self)
        other._actor = check_storable(actor, "actor")
        return other

    def add_product(
        self,
        trial: StreamLike | StreamSet,
        content_key: ContentKeyLike,
        *,
        name: str = "",
        progress: Progress | None = None,
    ) -> Product:
        """Open a trial once, and keep what orders of it need.

        Adding the same trial again changes nothing, unless the key is that of a higher tier.
        """
        recipient = self._own().recipient.id.hex()
        model = as_model(trial)
        key = loaded(content_key, ContentKey, "content_key")
        opened = open_product(model, key, name, self._signer.public_key, progress)
        with self._ledger.writing() as rows:
            self._content_keys.keep(opened.product.lock, opened.product.name, key)
            return add_opened(rows, opened, recipient, self._actor, renamed=bool(name))

    def order(
        self,
        product: Product | str,
        *,
        seats: int = 1,
        customer: str = "",
        reference: str = "",
        tier: str = "",
        lasts: timedelta | None = None,
        grace: timedelta = timedelta(0),
        expires_at: TimeLike | timedelta | None = None,
        cooling: timedelta = timedelta(days=7),
        warn_only: bool = False,
        named_devices: bool = True,
        features: Sequence[str] = (),
        metadata: Mapping[str, str] = EMPTY,
    ) -> Order:
        """Write down what somebody bought; `code` tells what the customer needs of it.

        The same reference again, with the same content, gives the same order. `expires_at` may be
        a timedelta: so long after the order was made.

        Raises:
            LedgerError: There is no such product, or an order with this reference and other
                content.
            ArgumentError: A value cannot be.
        """
        name = product.name if isinstance(product, Product) else product
        made = make_order(
            self._ledger.product(name),
            seats=seats,
            customer=customer,
            reference=reference,
            tier=tier,
            lasts=lasts,
            grace=grace,
            expires_at=expires_at,
            cooling=cooling,
            warn_only=warn_only,
            named_devices=named_devices,
            features=features,
            metadata=metadata,
        )
        relative = isinstance(expires_at, timedelta)
        with self._ledger.writing() as rows:
            return add_order(rows, made, self._actor, relative=relative)

    def code(self, order: Order | str) -> str:
        """Return the code of an order, or of that of this id: who has it, can take its seats."""
        order_id = order.id if isinstance(order, Order) else self._ledger.order(order).id
        return make_code(self.secret(CODES), order_id)

    def order_of(self, code: str) -> Order:
        """Return the order of a code.

        Raises:
            ActivationError: There is none (UNKNOWN_ORDER).
        """
        try:
            return self._ledger.order(self._id_of(code))
        except LedgerError as error:
            if error.reason != LedgerReason.MISSING:
                raise
            raise unknown_order() from None  # a code of ours, from before a backup was restored

    def answer(self, request: Request, *, at: TimeLike | None = None) -> License:
        """Answer a request with a license.

        Raises:
            ActivationError: There is none for it.
        """
        return self.answer_once(request, at=at).license

    def answer_once(self, request: Request, *, at: TimeLike | None = None) -> Answer:
        """Answer a request, and tell whether it was answered before; see `answer`."""
        check_type(request, Request, "request")
        request.authenticate_self()
        if request.license:
            order_id = self._order_of_license(request.license)
        else:
            order_id = self._id_of(request.order)
        when = time_or_now(at, "at")
        with self._ledger.writing() as rows:
            return self._answerer().answer(rows, order_id, request, when)

    def grant(
        self,
        order: Order | str,
        recipient: RecipientLike,
        *,
        name: str = "",
        at: TimeLike | None = None,
    ) -> License:
        """Make out a license of an order for a public key; it takes a seat.

        Raises:
            ActivationError: There is none for it.
        """
        order_id = order.id if isinstance(order, Order) else order
        check_storable(check_text(name, "name", _LONGEST_NAME), "name")
        customer = loaded(recipient, Recipient, "recipient")
        when = time_or_now(at, "at")
        with self._ledger.writing() as rows:
            return self._answerer().grant(rows, order_id, customer, name, when)

    def give_back(self, receipt: Receipt, *, at: TimeLike | None = None) -> Seat:
        """Free the seat of a receipt, and revoke its licenses."""
        check_type(receipt, Receipt, "receipt")
        receipt.authenticate_self()
        order_id = self._order_of_license(receipt.license_id)
        when = time_or_now(at, "at")
        with self._ledger.writing() as rows:
            return give_back(rows, order_id, receipt, when, self._actor)

    def take_back(self, seat_id: str, *, reason: str = "", at: TimeLike | None = None) -> Seat:
        """Revoke the licenses of a seat, and free it after the order's cooling period."""
        check_storable(reason, "reason")
        order_id = self._ledger.seat(seat_id).order_id
        when = time_or_now(at, "at")
        with self._ledger.writing() as rows:
            return take_back(rows, order_id, seat_id, when, reason, self._actor)

    def cancel(self, order_id: str, *, reason: str = "", at: TimeLike | None = None) -> Order:
        """Cancel an order, and revoke its licenses."""
        check_storable(reason, "reason")
        self._ledger.order(order_id)
        when = time_or_now(at, "at")
        with self._ledger.writing() as rows:
            return cancel(rows, order_id, when, reason, self._actor)

    def __repr__(self) -> str:
        signer = self._signer_or_none
        key = "without a key" if signer is None else signer.public_key.id.hex()
        return f"<nnguard.licensing.Issuer {key} {self._ledger!r}>"

    @property
    def _signer(self) -> Signer:
        if self._signer_or_none is None:
            raise KeyFormatError("there is no key to sign with", hint="give the vendor's key")
        return self._signer_or_none

    def secret(self, label: bytes) -> bytes:
        """Return 32 bytes that come from the identity, for one use: see `Identity.derive`."""
        return self._own().derive(label)

    def _own(self) -> Identity:
        """Return the identity that order codes and content keys come from."""
        if self._identity is None:
            raise KeyFormatError(
                "orders need your own identity: codes come from it, and it opens content keys",
                hint="give the ledger's key (--ledger-key)",
            )
        if not self._fits:
            self._content_keys.check()
            self._fits = True
        return self._identity

    def _id_of(self, code: str) -> str:
        """Return the id of the order of a code, which need not be in the ledger."""
        order_id = read_code(self.secret(CODES), code)
        if order_id is None:
            raise unknown_order()
        return order_id

    @property
    def _content_keys(self) -> ContentKeys:
        return ContentKeys(self._ledger, self._identity, self._actor)

    def _answerer(self) -> Answerer:
        return Answerer(self._signer, self._content_keys.get, self._actor, self._server)

    def _order_of_license(self, license_id: str) -> str:
        seat = self._ledger.seat_of(license_id)
        if seat is None:
            raise unknown_order(f"license {license_id} is of no order")
        return seat.order_id
