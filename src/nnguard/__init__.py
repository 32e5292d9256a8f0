"""nnguard: sign NNCodec neural networks inside their own weights, verify them, and sell them.

    key = nnguard.SigningKey.generate()
    model = nnguard.compress("model.safetensors")
    release = nnguard.sign(model, key, issuer="acme.ai", name="resnet56", version="1.0")
    report = nnguard.verify(release, trust=[key.public_key])
    original = nnguard.strip(release, trust=[key.public_key])

Every verb takes a stream or a folder of shards: an object, a path, bytes, or a binary file.
Licenses are in `nnguard.licensing`, OpenSSF Model Signing in `nnguard.oms`, errors in
`nnguard.errors`, PyTorch in `nnguard.torch`, pictures in `nnguard.plotting`.

Importing nnguard loads next to nothing: NumPy and the entropy coder come with the first name that
is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnguard import errors, licensing, oms, plotting
    from nnguard import torch as torch
    from nnguard._compression.compress import compress
    from nnguard._compression.decompress import decompress, decompress_to_file, iter_tensors
    from nnguard._compression.settings import Settings
    from nnguard._crypto.content_key import ContentKey
    from nnguard._crypto.identity import Identity, Recipient
    from nnguard._crypto.keys import PublicKey, Signer, SigningKey
    from nnguard._locking.tiers import Locked, Soft, Tier
    from nnguard._models.stream_set import StreamSet
    from nnguard._operations.attach import attach, detach
    from nnguard._operations.capacity import Capacity, capacity
    from nnguard._operations.expect import Expect
    from nnguard._operations.gate import gate
    from nnguard._operations.inspect import Inspection, inspect
    from nnguard._operations.lock import lock, lock_tiers
    from nnguard._operations.report import Report
    from nnguard._operations.sign import sign
    from nnguard._operations.strip import strip
    from nnguard._operations.trace import Trace, trace
    from nnguard._operations.unlock import unlock
    from nnguard._operations.verify import verify
    from nnguard._policy.latest import LatestStatement
    from nnguard._policy.policy import TrustPolicy
    from nnguard._records.attachment import Attachment
    from nnguard._records.claims import Claims
    from nnguard._stream import Stream
    from nnguard.errors import NnguardError

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Capacity",
    "Claims",
    "ContentKey",
    "Expect",
    "Identity",
    "Inspection",
    "LatestStatement",
    "Locked",
    "NnguardError",
    "PublicKey",
    "Recipient",
    "Report",
    "Settings",
    "Signer",
    "SigningKey",
    "Soft",
    "Stream",
    "StreamSet",
    "Tier",
    "Trace",
    "TrustPolicy",
    "__version__",
    "attach",
    "capacity",
    "compress",
    "decompress",
    "decompress_to_file",
    "detach",
    "errors",
    "gate",
    "inspect",
    "iter_tensors",
    "licensing",
    "lock",
    "lock_tiers",
    "oms",
    "plotting",
    "sign",
    "strip",
    "trace",
    "unlock",
    "verify",
]

if not TYPE_CHECKING:  # a type checker knows the names above, and reports all others
    from nnguard._base.lazy import loader

    _modules = ("errors", "licensing", "oms", "plotting", "torch")
    _homes = {
        "_compression.compress": "compress",
        "_compression.decompress": "decompress decompress_to_file iter_tensors",
        "_compression.settings": "Settings",
        "_crypto.content_key": "ContentKey",
        "_crypto.identity": "Identity Recipient",
        "_crypto.keys": "PublicKey Signer SigningKey",
        "_locking.tiers": "Locked Soft Tier",
        "_models.stream_set": "StreamSet",
        "_operations.attach": "attach detach",
        "_operations.capacity": "Capacity capacity",
        "_operations.expect": "Expect",
        "_operations.gate": "gate",
        "_operations.inspect": "Inspection inspect",
        "_operations.lock": "lock lock_tiers",
        "_operations.report": "Report",
        "_operations.sign": "sign",
        "_operations.strip": "strip",
        "_operations.trace": "Trace trace",
        "_operations.unlock": "unlock",
        "_operations.verify": "verify",
        "_policy.latest": "LatestStatement",
        "_policy.policy": "TrustPolicy",
        "_records.attachment": "Attachment",
        "_records.claims": "Claims",
        "_stream": "Stream",
        "errors": "NnguardError",
    }
    _load = loader(__name__, _homes)

    def __getattr__(name: str) -> Any:
        """Load a public name, or a public module."""
        return importlib.import_module(f"nnguard.{name}") if name in _modules else _load(name)

    def __dir__() -> list[str]:
        return __all__
