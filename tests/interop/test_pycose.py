"""An independent COSE implementation verifies the signature that is hidden in a stream."""

import pytest
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message

import nnguard
from nnguard._hiding import Extraction, extract
from nnguard._records.digest import model_digest

DOMAIN = b"nnguard signature v1\0"


def message_of(extraction: Extraction, key: nnguard.PublicKey) -> Sign1Message:
    message = CoseMessage.decode(extraction.record, allow_unknown_attributes=True)
    assert isinstance(message, Sign1Message)
    message.key = OKPKey(crv=Ed25519, x=key.raw)
    return message


def test_pycose_verifies_the_record(
    release: nnguard.Stream, model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    extraction = extract(release)
    message = message_of(extraction, key.public_key)
    message.external_aad = DOMAIN + bytes(extraction.header)
    assert message.verify_signature()
    assert message.payload == model_digest(model.sha256_of_units())


@pytest.mark.parametrize("aad", [b"", DOMAIN, b"nnguard signature v2\0"])
def test_pycose_refuses_other_associated_data(
    release: nnguard.Stream, key: nnguard.SigningKey, aad: bytes
) -> None:
    message = message_of(extract(release), key.public_key)
    message.external_aad = aad
    assert not message.verify_signature()


def test_pycose_refuses_another_key(release: nnguard.Stream, other_key: nnguard.SigningKey) -> None:
    extraction = extract(release)
    message = message_of(extraction, other_key.public_key)
    message.external_aad = DOMAIN + bytes(extraction.header)
    assert not message.verify_signature()


def test_claims_are_where_the_standards_say(
    release: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    message = message_of(extract(release), key.public_key)
    header = {getattr(label, "identifier", label): v for label, v in message.phdr.items()}
    assert header[4] == key.public_key.id
    assert header[15][1] == "acme.ai"
    assert header[15][2] == "small"
    assert header[258] == -16
    assert message.uhdr == {}
