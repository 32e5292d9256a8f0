"""The outside of a bundle: sigstore's bundle v0.3 around a DSSE envelope, signed by one ECDSA key.

Whatever is not signed in it has one valid form: no member more, no second signature, no base64 that
decodes to the same bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from nnguard._base.strict_json import parse_json
from nnguard._crypto.ecdsa import EcdsaKey, sign_in_der
from nnguard._crypto.keys import Signer
from nnguard._oms.statement import members
from nnguard.errors import VerificationError, WrongKeyError

__all__ = ["open_envelope", "seal"]

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"


def seal(payload: bytes, signer: Signer) -> bytes:
    """Return the bundle of a statement.

    Raises:
        KeyFormatError: The signer's key is not ECDSA.
        ArgumentError: What the signer returns does not verify.
    """
    hint = EcdsaKey.from_pem(signer.public_key.pem).hint
    signature = sign_in_der(signer, _to_be_signed(payload))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def open_envelope(data: bytes, keys: Mapping[str, EcdsaKey]) -> tuple[bytes, EcdsaKey]:
    """Return the statement in a bundle, and the key that signed it.

    Args:
        data: The bundle.
        keys: Trusted keys by their hints.

    Raises:
        ValueError: The bundle is malformed; the message says how.
        WrongKeyError: No trusted key signed it.
        VerificationError: Its signature is not right.
    """
    hint, payload, signature = _parse(data)
    key = keys.get(hint)
    if key is None:
        raise WrongKeyError(
            f"the bundle is signed with key {hint}, which is not among the {len(keys)} trusted",
            hint="the number is the SHA-256 of the public key's PEM",
        )
    if not key.verifies(signature, _to_be_signed(payload)):
        raise VerificationError("the signature of the bundle is not right: it was changed")
    return payload, key


def _to_be_signed(payload: bytes) -> bytes:
    """Return what is signed of a payload: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _parse(data: bytes) -> tuple[str, bytes, bytes]:
    """Return the hint of the key, the payload and the signature of a bundle.

    Raises:
        ValueError: It is malformed.
    """
    bundle = members(
        parse_json(data), "bundle", "mediaType", "verificationMaterial", "dsseEnvelope"
    )
    if bundle["mediaType"] != _BUNDLE:
        raise ValueError(f"its media type is not {_BUNDLE}")
    material = members(
        bundle["verificationMaterial"],
        "verification material",
        "publicKey",
        optional=("tlogEntries",),
    )
    if material.get("tlogEntries", []) != []:
        raise ValueError("it has entries of a transparency log; only keys are verified here")
    hint = members(material["publicKey"], "public key", "hint")["hint"]
    envelope = members(bundle["dsseEnvelope"], "envelope", "payload", "payloadType", "signatures")
    if envelope["payloadType"] != _PAYLOAD:
        raise ValueError(f"its payload is not {_PAYLOAD}")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ValueError("it does not have exactly one signature")
    signature = members(signatures[0], "signature", "sig", optional=("keyid",))
    if not isinstance(hint, str) or signature.get("keyid", "") != "":
        raise ValueError("the hint of its key is malformed")
    return hint, _decode(envelope["payload"]), _decode(signature["sig"])


def _decode(text: Any) -> bytes:
    """Decode base64 that is as it would be encoded.

    Raises:
        ValueError: It is not.
    """
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if base64.b64encode(data).decode() != text:
        raise ValueError("its base64 is malformed")
    return data
