"""nnguard: sign NNCodec neural networks inside their own weights, and verify them.

key = nnguard.SigningKey.generate()
release = nnguard.sign("model.nnc", key, issuer="acme.ai", name="resnet56", version="1.0")
report = nnguard.verify(release, trust=[key.public_key])
original = nnguard.strip(release, trust=[key.public_key])
"""

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
