"""Every algorithm signs releases, sets, trials, licenses and revocation lists."""

from __future__ import annotations

from typing import get_args

import pytest

import nnguard
import samples
from nnguard._crypto.keys import AlgorithmName
from nnguard.errors import NnguardError, WrongKeyError
from nnguard.licensing import License, RevocationList, Terms, issue


@pytest.fixture(scope="module", params=get_args(AlgorithmName))
def key(request: pytest.FixtureRequest) -> nnguard.SigningKey:
    return nnguard.SigningKey.generate(request.param)


@pytest.fixture(scope="module")
def model() -> nnguard.Stream:
    return nnguard.Stream.from_bytes(samples.small_stream(weights=9000))


@pytest.fixture(scope="module")
def release(model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(model, key, name="small", localize=True)


def test_release(model: nnguard.Stream, release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    report = nnguard.verify(release, key.public_key)
    assert report.algorithm == key.public_key.algorithm
    assert report.key_id == key.public_key.id.hex()
    assert report.to_json()["algorithm"] == key.public_key.algorithm
    assert nnguard.inspect(release).records[0].unverified["algorithm"] == key.public_key.algorithm
    assert bytes(nnguard.strip(release, key.public_key)) == bytes(model)


def test_signed_on_top(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    outer = nnguard.SigningKey.generate()
    report = nnguard.verify(nnguard.sign(release, outer), [outer.public_key, key.public_key])
    assert [record.verified for record in report.nested] == [True]


def test_release_of_another_key(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    other = nnguard.SigningKey.generate(key.public_key.algorithm)
    with pytest.raises(WrongKeyError):
        nnguard.verify(release, other.public_key)
    if key.public_key.post_quantum:
        half = nnguard.PublicKey(key.public_key.parts[0].key)
        with pytest.raises(WrongKeyError):
            nnguard.verify(release, half)


def test_changed_release(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    data = bytearray(bytes(release))
    for at in range(len(data) // 3, len(data), len(data) // 5):
        changed = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        with pytest.raises(NnguardError):
            nnguard.verify(changed, key.public_key)


def test_sale(release: nnguard.Stream, key: nnguard.SigningKey) -> None:
    locked = nnguard.lock(release, tier="gold", soft=nnguard.Soft(fraction=0.003), signer=key)
    ada = nnguard.Identity.generate()
    trial = locked.trial
    assert nnguard.verify(trial, key.public_key, allow_trial=True).locked
    sold = issue(trial, locked.content_key, to=ada.recipient, signer=key, terms=Terms(customer="A"))
    again = License.from_text(str(sold))
    assert again == sold
    opened = nnguard.unlock(trial, again, ada, key.public_key, watermark=True)
    report = nnguard.verify(opened, key.public_key)
    assert report.licensed_to == sold.terms


def test_revocation_list(key: nnguard.SigningKey) -> None:
    revoked = RevocationList.make(["00" * 16], key, issuer="acme")
    RevocationList.from_text(str(revoked)).authenticate([key.public_key])
    other = nnguard.SigningKey.generate()
    with pytest.raises(WrongKeyError):
        revoked.authenticate([other.public_key])
