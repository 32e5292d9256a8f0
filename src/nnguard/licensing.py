"""Licenses: issue them for a locked trial, check them, revoke them, and keep a ledger.

The vendor issues a license, and writes down who got it:

    from nnguard.licensing import Issuer, Ledger, Terms

    with Ledger("licenses.db") as ledger:
        issuer = Issuer(ledger, signer="vendor.key")
        terms = Terms(customer="Ada", expires_at="2027-12-31")
        license = issuer.issue("trial.nnc", "content.key", to="ada.pub", terms=terms)
        license.save("ada.license")

The customer checks it, and unlocks the trial with it (`nnguard.unlock`):

    status = nnguard.licensing.check("ada.license", trust="vendor.pub")

An order sells a product to so many machines (`Issuer.add_product`, `order`, `answer`): the customer
asks with the order's code, gets a license for each machine, and gives it back when it is no longer
needed.

`issue` does without a ledger, which alone needs SQLAlchemy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnguard._licensing.device import Device
    from nnguard._licensing.lease import Lease
    from nnguard._licensing.license import License, LicenseTerms
    from nnguard._licensing.policy import Policy, Status
    from nnguard._licensing.receipt import Receipt
    from nnguard._licensing.request import Request
    from nnguard._licensing.revocation import RevocationList
    from nnguard._operations.activation import (
        activate,
        refresh,
        release,
        renewal,
        request,
        send,
    )
    from nnguard._operations.check_license import check
    from nnguard._selling.audit import AuditEntry
    from nnguard._selling.entry import LedgerEntry
    from nnguard._selling.issue import issue
    from nnguard._selling.issuer import Issuer
    from nnguard._selling.ledger import Ledger
    from nnguard._selling.order import Order, Seat
    from nnguard._selling.outbox import Event
    from nnguard._selling.product import Product, Tier
    from nnguard._selling.terms import Terms
    from nnguard._selling.tokens import Token
    from nnguard.errors import ActivationReason, Refusal

__all__ = [
    "ActivationReason",
    "AuditEntry",
    "Device",
    "Event",
    "Issuer",
    "Lease",
    "Ledger",
    "LedgerEntry",
    "License",
    "LicenseTerms",
    "Order",
    "Policy",
    "Product",
    "Receipt",
    "Refusal",
    "Request",
    "RevocationList",
    "Seat",
    "Status",
    "Terms",
    "Tier",
    "Token",
    "activate",
    "check",
    "issue",
    "refresh",
    "release",
    "renewal",
    "request",
    "send",
]

if not TYPE_CHECKING:  # a type checker knows the names above, and reports all others
    from nnguard._base.lazy import loader

    __getattr__ = loader(
        __name__,
        {
            "_licensing.device": "Device",
            "_licensing.lease": "Lease",
            "_licensing.license": "License LicenseTerms",
            "_licensing.policy": "Policy Status",
            "_licensing.receipt": "Receipt",
            "_licensing.request": "Request",
            "_licensing.revocation": "RevocationList",
            "_operations.activation": "activate refresh release renewal request send",
            "_operations.check_license": "check",
            "_selling.audit": "AuditEntry",
            "_selling.entry": "LedgerEntry",
            "_selling.issue": "issue",
            "_selling.issuer": "Issuer",
            "_selling.ledger": "Ledger",
            "_selling.order": "Order Seat",
            "_selling.outbox": "Event",
            "_selling.product": "Product Tier",
            "_selling.terms": "Terms",
            "_selling.tokens": "Token",
            "errors": "ActivationReason Refusal",
        },
    )

    def __dir__() -> list[str]:
        return __all__
