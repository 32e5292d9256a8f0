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
    from nnguard._compression.compress import compress
    from nnguard._compression.decompress import (
        decompress,
        decompress_to_file,
        iter_tensors,
    )
    from nnguard._compression.settings import Settings
    from nnguard._crypto.content_key import ContentKey
    from nnguard._crypto.identity import Identity, Recipient
    from nnguard._crypto.keys import PublicKey, Signer, SigningKey, load_trust
    from nnguard._licensing.device import Device
    from nnguard._licensing.license import License, LicenseTerms
    from nnguard._licensing.policy import Checks, LicenseStatus, check_license
    from nnguard._licensing.revocation import RevocationList
    from nnguard._locking.search import CurvePoint
    from nnguard._locking.tiers import Locked, LockedSet, LockScores, Tier
    from nnguard._models.stream_set import StreamSet
    from nnguard._operations.attach import attach, detach
    from nnguard._operations.inspect import Capacity, Inspection, capacity, inspect
    from nnguard._operations.lock import lock, lock_tiers
    from nnguard._operations.lock_sharded import lock_set
    from nnguard._operations.sharded import (
        SetReport,
        compress_set,
        decompress_set,
        shard_names,
        sign_set,
        strip_set,
        verify_set,
    )
    from nnguard._operations.sign import NestedRecord, Report, sign, strip, verify
    from nnguard._operations.unlock import unlock, unlock_set
    from nnguard._records.signature import Attachment, Claims, Shard
    from nnguard._selling.issue import issue_license
    from nnguard._selling.issuer import Desk
    from nnguard._selling.ledger import Entry, Ledger
    from nnguard._stream import Stream
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
    "attach": "_operations.attach",
    "detach": "_operations.attach",
    "compress": "_compression.compress",
    "decompress": "_compression.decompress",
    "decompress_to_file": "_compression.decompress",
    "iter_tensors": "_compression.decompress",
    "Settings": "_compression.settings",
    "ContentKey": "_crypto.content_key",
    "Identity": "_crypto.identity",
    "Recipient": "_crypto.identity",
    "PublicKey": "_crypto.keys",
    "Signer": "_crypto.keys",
    "SigningKey": "_crypto.keys",
    "load_trust": "_crypto.keys",
    "Desk": "_selling.issuer",
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
    "Capacity": "_operations.inspect",
    "Inspection": "_operations.inspect",
    "capacity": "_operations.inspect",
    "inspect": "_operations.inspect",
    "Entry": "_selling.ledger",
    "Ledger": "_selling.ledger",
    "Checks": "_licensing.policy",
    "LicenseStatus": "_licensing.policy",
    "check_license": "_licensing.policy",
    "Device": "_licensing.device",
    "License": "_licensing.license",
    "LicenseTerms": "_licensing.license",
    "RevocationList": "_licensing.revocation",
    "LockScores": "_locking.tiers",
    "Locked": "_locking.tiers",
    "Tier": "_locking.tiers",
    "lock": "_operations.lock",
    "lock_tiers": "_operations.lock",
    "CurvePoint": "_locking.search",
    "Attachment": "_records.signature",
    "Claims": "_records.signature",
    "Shard": "_records.signature",
    "SetReport": "_operations.sharded",
    "StreamSet": "_models.stream_set",
    "compress_set": "_operations.sharded",
    "decompress_set": "_operations.sharded",
    "shard_names": "_operations.sharded",
    "sign_set": "_operations.sharded",
    "strip_set": "_operations.sharded",
    "verify_set": "_operations.sharded",
    "NestedRecord": "_operations.sign",
    "Report": "_operations.sign",
    "sign": "_operations.sign",
    "strip": "_operations.sign",
    "verify": "_operations.sign",
    "Stream": "_stream",
    "issue_license": "_selling.issue",
    "unlock": "_operations.unlock",
    "unlock_set": "_operations.unlock",
    "lock_set": "_operations.lock_sharded",
    "LockedSet": "_locking.tiers",
}


def __getattr__(name: str) -> Any:
    """Load the module that a public name comes from."""
    if name in ("plotting", "torch"):
        return importlib.import_module(f"nnguard.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'nnguard' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nnguard.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
