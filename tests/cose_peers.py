"""Public keys as other people's COSE has them: `cwt` for all, with `dilithium-py` for ML-DSA."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cwt import COSEKey, VerifyError
from cwt.cose_key_interface import COSEKeyInterface
from dilithium_py.ml_dsa import ML_DSA_65, ML_DSA_87

import nnguard
from nnguard._crypto.pem import pem_blocks

_OKP, _VERIFY = 1, 2


class _MlDsa(COSEKeyInterface):
    """A key that `cwt` does not know yet."""

    def __init__(self, key: Any, kid: bytes) -> None:
        super().__init__({1: _OKP, 2: kid, 4: [_VERIFY]})
        self._raw = key.public_bytes_raw()
        self._scheme = ML_DSA_65 if isinstance(key, MLDSA65PublicKey) else ML_DSA_87

    @property
    def key(self) -> bytes:
        return self._raw

    def verify(self, msg: bytes, sig: bytes) -> None:
        if not self._scheme.verify(self._raw, msg, sig):
            raise VerifyError("ML-DSA")


def peers_of(key: nnguard.PublicKey) -> list[COSEKeyInterface]:
    """The keys of `cwt` that verify each part of a key, in their order."""
    blocks = pem_blocks(key.pem)
    first = COSEKey.from_pem(blocks[0], alg=key.parts[0].algorithm.name, kid=key.id)
    return [first, *(_MlDsa(part.key, key.id) for part in key.parts[1:])]
