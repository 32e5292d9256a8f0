"""Independent implementations of COSE and ML-DSA verify the signature that is in a stream."""

from __future__ import annotations

import cbor2
import pytest
from cwt import COSE, VerifyError

import nnguard
from cose_peers import peers_of
from nnguard._hiding import extract
from nnguard._records.digest import model_digest

DOMAIN = b"nnguard signature v1\0"
NUMBERS = {
    "ed25519": [-19],
    "p256": [-9],
    "p384": [-51],
    "ml-dsa-65": [-19, -49],
    "ml-dsa-87": [-19, -50],
}


@pytest.fixture(scope="module")
def release(each_key: nnguard.SigningKey, roomy: nnguard.Stream) -> nnguard.Stream:
    return nnguard.sign(roomy, each_key, issuer="acme.ai", name="small")


def aad_of(release: nnguard.Stream) -> bytes:
    return DOMAIN + bytes(extract(release).header)


def test_cwt_verifies_each_part(
    release: nnguard.Stream, roomy: nnguard.Stream, each_key: nnguard.SigningKey
) -> None:
    peers = peers_of(each_key.public_key)
    assert len(peers) == len(NUMBERS[each_key.public_key.algorithm])
    for peer in peers:
        payload = COSE.new().decode(extract(release).record, peer, external_aad=aad_of(release))
        assert payload == model_digest(roomy.sha256_of_units())


def test_cwt_refuses_other_data_and_other_keys(
    release: nnguard.Stream, each_key: nnguard.SigningKey
) -> None:
    other = nnguard.SigningKey.generate(each_key.public_key.algorithm).public_key
    record, aad = extract(release).record, aad_of(release)
    for peer, wrong in zip(peers_of(each_key.public_key), peers_of(other), strict=True):
        with pytest.raises(VerifyError):
            COSE.new().decode(record, peer, external_aad=aad[:-1])
        wrong._kid = peer.kid
        with pytest.raises(VerifyError):
            COSE.new().decode(record, wrong, external_aad=aad)


def test_fields_are_where_the_standards_say(
    release: nnguard.Stream, each_key: nnguard.SigningKey
) -> None:
    message = cbor2.loads(extract(release).record)
    header = cbor2.loads(message.value[0])
    assert header[15] == {1: "acme.ai", 2: "small", 6: header[15][6]}
    assert header[258] == -16
    kid, numbers = each_key.public_key.id, NUMBERS[each_key.public_key.algorithm]
    if len(numbers) == 1:
        assert message.tag == 18
        assert [header[1], header[4]] == [*numbers, kid]
    else:
        assert message.tag == 98
        assert not {1, 4} & set(header)
        headers = [cbor2.loads(signature[0]) for signature in message.value[3]]
        assert headers == [{1: number, 4: kid} for number in numbers]
