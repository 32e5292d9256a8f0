"""Signed policies: COSE_Sign around a policy's JSON, in armor, one for each version (SPEC 12.4).

Law: `read_signed(write_signed(messages)) == messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnguard._base.texts import shown
from nnguard._crypto.armor import read_armor, write_armor
from nnguard._crypto.cose import Signed, parse_signed, sign_by_all
from nnguard._crypto.keys import Signer
from nnguard._policy.document import Root
from nnguard._policy.reading import malformed
from nnguard.errors import PolicyError, PolicyReason, VerificationError

__all__ = ["check_signed", "is_signed", "read_signed", "sign_policy", "write_signed"]

_ARMOR = "NNGUARD POLICY"
_BEGIN = f"-----BEGIN {_ARMOR}-----"
_DOMAIN = b"nnguard policy v1\0"
_HEADER = {3: 50}
"""Content type (RFC 9052, section 3.1): application/json (RFC 7252, section 12.3)."""


def is_signed(text: str) -> bool:
    """Tell whether a text holds armor of signed policies."""
    return _BEGIN in text


def read_signed(text: str) -> list[Signed]:
    """Read the messages in a text, in order; their signatures are not checked.

    Raises:
        PolicyError: One of them is malformed.
    """
    found = []
    for block in text.split(_BEGIN)[1:]:
        try:
            message = parse_signed(read_armor(_ARMOR, _BEGIN + block), open=True)
        except (ValueError, VerificationError) as error:
            raise malformed(f"not a signed policy, or it was changed: {error}") from None
        if message.protected != _HEADER:
            raise malformed("the protected header of the signed policy is malformed")
        found.append(message)
    return found


def write_signed(messages: Iterable[Signed]) -> str:
    """Return the armor of signed policies, one after the other."""
    return "".join(write_armor(_ARMOR, bytes(message)) for message in messages)


def sign_policy(payload: bytes, signers: Sequence[Signer], message: Signed | None) -> Signed:
    """Sign a policy's JSON, or add signatures to a message around it.

    Raises:
        ArgumentError: There are no signers, or one twice; or a signature does not verify.
    """
    encoded = sign_by_all(signers, _HEADER, payload, _DOMAIN, open=True)
    signed = parse_signed(encoded, open=True)
    return signed if message is None else message.joined(signed)


def check_signed(message: Signed, root: Root, what: str) -> None:
    """Make sure that as many keys of a root signed as it asks for.

    Args:
        message: A signed policy.
        root: That of the policy itself, or of the version before it.
        what: Whose root it is, for the message.

    Raises:
        PolicyError: They did not.
    """
    named = {*message.key_ids}
    signed = [
        key for key in root.keys if key.key.id in named and message.verified_by(key.key, _DOMAIN)
    ]
    if len(signed) < root.threshold:
        names = shown(", ".join(key.name for key in root.keys))
        raise PolicyError(
            f"{what} asks for signatures of {root.threshold} of its root keys ({names}), and "
            f"{len(signed)} are there",
            reason=PolicyReason.POLICY_SIGNATURES,
            hint="have the others sign it, with nnguard policy sign",
        )
