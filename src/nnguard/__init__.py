"""nnguard: sign NNCodec neural networks inside their own weights, and verify them.

    key = nnguard.SigningKey.generate()
    stream = nnguard.compress("model.safetensors")
    release = nnguard.sign(stream, key, issuer="acme.ai", name="resnet56", version="1.0")
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
    from nnguard.compression.compress import compress
    from nnguard.compression.decompress import (
        decompress,
        decompress_to_file,
        iter_tensors,
    )
    from nnguard.compression.settings import Settings
    from nnguard.crypto.content import ContentKey
    from nnguard.crypto.identity import Identity, Recipient
    from nnguard.crypto.keys import PublicKey, Signer, SigningKey, load_trust
    from nnguard.desk import Desk
    from nnguard.errors import (
        CapacityError,
        FormatError,
        KeyFormatError,
        LedgerError,
        LicenseError,
        LimitError,
        ModelError,
        NnguardError,
        NoRecordError,
        Refusal,
        UnlockError,
        VerificationError,
        WorkerError,
        WrongKeyError,
    )
    from nnguard.inspection import Capacity, Inspection, capacity, inspect, plot_carrier
    from nnguard.issuing import issue_license
    from nnguard.ledger import Entry, Ledger
    from nnguard.licensing.checks import Checks, LicenseStatus, check_license
    from nnguard.licensing.device import Device
    from nnguard.licensing.license import License, LicenseTerms
    from nnguard.licensing.revocation import RevocationList
    from nnguard.locking.lock import lock, lock_tiers
    from nnguard.locking.plotting import plot_curves
    from nnguard.locking.search import CurvePoint
    from nnguard.locking.sets import lock_set
    from nnguard.locking.tiers import Locked, LockedSet, LockScores, Tier
    from nnguard.records import Attachment, Claims, Shard
    from nnguard.shards import (
        SetReport,
        StreamSet,
        compress_set,
        decompress_set,
        shard_names,
        sign_set,
        strip_set,
        verify_set,
    )
    from nnguard.signing import NestedRecord, Report, sign, strip, verify
    from nnguard.stream import Stream
    from nnguard.unlocking import unlock, unlock_set

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Capacity",
    "CapacityError",
    "Checks",
    "Claims",
    "ContentKey",
    "CurvePoint",
    "Desk",
    "Device",
    "Entry",
    "FormatError",
    "Identity",
    "Inspection",
    "KeyFormatError",
    "Ledger",
    "LedgerError",
    "License",
    "LicenseError",
    "LicenseStatus",
    "LicenseTerms",
    "LimitError",
    "LockScores",
    "Locked",
    "LockedSet",
    "ModelError",
    "NestedRecord",
    "NnguardError",
    "NoRecordError",
    "PublicKey",
    "Recipient",
    "Refusal",
    "Report",
    "RevocationList",
    "SetReport",
    "Settings",
    "Shard",
    "Signer",
    "SigningKey",
    "Stream",
    "StreamSet",
    "Tier",
    "UnlockError",
    "VerificationError",
    "WorkerError",
    "WrongKeyError",
    "__version__",
    "attach",
    "capacity",
    "check_license",
    "compress",
    "compress_set",
    "decompress",
    "decompress_set",
    "decompress_to_file",
    "detach",
    "inspect",
    "issue_license",
    "iter_tensors",
    "load_trust",
    "lock",
    "lock_set",
    "lock_tiers",
    "plot_carrier",
    "plot_curves",
    "shard_names",
    "sign",
    "sign_set",
    "strip",
    "strip_set",
    "unlock",
    "unlock_set",
    "verify",
    "verify_set",
]

_HOMES = {
    "attach": "attachment",
    "detach": "attachment",
    "compress": "compression.compress",
    "decompress": "compression.decompress",
    "decompress_to_file": "compression.decompress",
    "iter_tensors": "compression.decompress",
    "Settings": "compression.settings",
    "ContentKey": "crypto.content",
    "Identity": "crypto.identity",
    "Recipient": "crypto.identity",
    "PublicKey": "crypto.keys",
    "Signer": "crypto.keys",
    "SigningKey": "crypto.keys",
    "load_trust": "crypto.keys",
    "Desk": "desk",
    "CapacityError": "errors",
    "FormatError": "errors",
    "KeyFormatError": "errors",
    "LedgerError": "errors",
    "LicenseError": "errors",
    "LimitError": "errors",
    "ModelError": "errors",
    "NnguardError": "errors",
    "NoRecordError": "errors",
    "Refusal": "errors",
    "UnlockError": "errors",
    "VerificationError": "errors",
    "WorkerError": "errors",
    "WrongKeyError": "errors",
    "Capacity": "inspection",
    "Inspection": "inspection",
    "capacity": "inspection",
    "inspect": "inspection",
    "plot_carrier": "inspection",
    "Entry": "ledger",
    "Ledger": "ledger",
    "Checks": "licensing.checks",
    "LicenseStatus": "licensing.checks",
    "check_license": "licensing.checks",
    "Device": "licensing.device",
    "License": "licensing.license",
    "LicenseTerms": "licensing.license",
    "RevocationList": "licensing.revocation",
    "LockScores": "locking.tiers",
    "Locked": "locking.tiers",
    "Tier": "locking.tiers",
    "lock": "locking.lock",
    "lock_tiers": "locking.lock",
    "plot_curves": "locking.plotting",
    "CurvePoint": "locking.search",
    "Attachment": "records",
    "Claims": "records",
    "Shard": "records",
    "SetReport": "shards",
    "StreamSet": "shards",
    "compress_set": "shards",
    "decompress_set": "shards",
    "shard_names": "shards",
    "sign_set": "shards",
    "strip_set": "shards",
    "verify_set": "shards",
    "NestedRecord": "signing",
    "Report": "signing",
    "sign": "signing",
    "strip": "signing",
    "verify": "signing",
    "Stream": "stream",
    "issue_license": "issuing",
    "unlock": "unlocking",
    "unlock_set": "unlocking",
    "lock_set": "locking.sets",
    "LockedSet": "locking.tiers",
}


def __getattr__(name: str) -> Any:
    """Load the module that a public name comes from."""
    if name == "torch":
        return importlib.import_module("nnguard.torch")
    if name not in _HOMES:
        raise AttributeError(f"module 'nnguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nnguard.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
