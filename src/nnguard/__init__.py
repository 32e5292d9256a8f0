"""nnguard: sign NNCodec neural networks inside their own weights, and verify them.

    key = nnguard.SigningKey.generate()
    release = nnguard.sign("model.nnc", key, issuer="acme.ai", name="resnet56", version="1.0")
    report = nnguard.verify(release, trust=[key.public_key])
    original = nnguard.strip(release, trust=[key.public_key])

Importing nnguard loads next to nothing: NumPy and the entropy coder come with the first name that
is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnguard.attachment import attach, detach
    from nnguard.crypto.keys import PublicKey, Signer, SigningKey, load_trust
    from nnguard.errors import (
        CapacityError,
        FormatError,
        KeyFormatError,
        LicenseError,
        LimitError,
        NnguardError,
        NoRecordError,
        UnlockError,
        VerificationError,
        WrongKeyError,
    )
    from nnguard.inspection import Capacity, Inspection, capacity, inspect, plot_carrier
    from nnguard.records import Attachment, Claims
    from nnguard.signing import NestedRecord, Report, sign, strip, verify
    from nnguard.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Capacity",
    "CapacityError",
    "Claims",
    "FormatError",
    "Inspection",
    "KeyFormatError",
    "LicenseError",
    "LimitError",
    "NestedRecord",
    "NnguardError",
    "NoRecordError",
    "PublicKey",
    "Report",
    "Signer",
    "SigningKey",
    "Stream",
    "UnlockError",
    "VerificationError",
    "WrongKeyError",
    "__version__",
    "attach",
    "capacity",
    "detach",
    "inspect",
    "load_trust",
    "plot_carrier",
    "sign",
    "strip",
    "verify",
]

_HOMES = {
    "attach": "attachment",
    "detach": "attachment",
    "PublicKey": "crypto.keys",
    "Signer": "crypto.keys",
    "SigningKey": "crypto.keys",
    "load_trust": "crypto.keys",
    "CapacityError": "errors",
    "FormatError": "errors",
    "KeyFormatError": "errors",
    "LicenseError": "errors",
    "LimitError": "errors",
    "NnguardError": "errors",
    "NoRecordError": "errors",
    "UnlockError": "errors",
    "VerificationError": "errors",
    "WrongKeyError": "errors",
    "Capacity": "inspection",
    "Inspection": "inspection",
    "capacity": "inspection",
    "inspect": "inspection",
    "plot_carrier": "inspection",
    "Attachment": "records",
    "Claims": "records",
    "NestedRecord": "signing",
    "Report": "signing",
    "sign": "signing",
    "strip": "signing",
    "verify": "signing",
    "Stream": "stream",
}


def __getattr__(name: str) -> Any:
    """Load the module that a public name comes from."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nnguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nnguard.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
