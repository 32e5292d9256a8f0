"""Every algorithm signs releases, sets, trials, licenses and revocation lists."""

from __future__ import annotations

import pytest

import nnguard
from nnguard.errors import NnguardError, WrongKeyError
from nnguard.licensing import License, RevocationList, Terms, issue


@pytest.fixture(scope="module")
def release(roomy: nnguard.Stream, each_key: nnguard.SigningKey) -> nnguard.Stream:
    return nnguard.sign(roomy, each_key, name="small", localize=True)


def test_release(
    roomy: nnguard.Stream, release: nnguard.Stream, each_key: nnguard.SigningKey
) -> None:
    report = nnguard.verify(release, each_key.public_key)
    assert report.algorithm == each_key.public_key.algorithm
    assert report.key_id == each_key.public_key.id.hex()
    assert report.to_json()["algorithm"] == each_key.public_key.algorithm
    assert (
        nnguard.inspect(release).records[0].unverified["algorithm"] == each_key.public_key.algorithm
    )
    assert bytes(nnguard.strip(release, each_key.public_key)) == bytes(roomy)


def test_signed_on_top(release: nnguard.Stream, each_key: nnguard.SigningKey) -> None:
    outer = nnguard.SigningKey.generate()
    report = nnguard.verify(nnguard.sign(release, outer), [outer.public_key, each_key.public_key])
    assert [record.verified for record in report.nested] == [True]


def test_release_of_another_key(release: nnguard.Stream, each_key: nnguard.SigningKey) -> None:
    other = nnguard.SigningKey.generate(each_key.public_key.algorithm)
    with pytest.raises(WrongKeyError):
        nnguard.verify(release, other.public_key)
    if each_key.public_key.post_quantum:
        half = nnguard.PublicKey(each_key.public_key.parts[0].key)
        with pytest.raises(WrongKeyError):
            nnguard.verify(release, half)


def test_changed_release(release: nnguard.Stream, each_key: nnguard.SigningKey) -> None:
    data = bytearray(bytes(release))
    for at in range(len(data) // 3, len(data), len(data) // 5):
        changed = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        with pytest.raises(NnguardError):
            nnguard.verify(changed, each_key.public_key)


def test_sale(release: nnguard.Stream, each_key: nnguard.SigningKey) -> None:
    locked = nnguard.lock(release, tier="gold", soft=nnguard.Soft(fraction=0.003), signer=each_key)
    ada = nnguard.Identity.generate()
    trial = locked.trial
    assert nnguard.verify(trial, each_key.public_key, allow_trial=True).locked
    sold = issue(
        trial, locked.content_key, to=ada.recipient, signer=each_key, terms=Terms(customer="A")
    )
    again = License.from_text(str(sold))
    assert again == sold
    opened = nnguard.unlock(trial, again, ada, each_key.public_key, watermark=True)
    report = nnguard.verify(opened, each_key.public_key)
    assert report.licensed_to == sold.terms


def test_revocation_list(each_key: nnguard.SigningKey) -> None:
    revoked = RevocationList.make(["00" * 16], each_key, issuer="acme")
    RevocationList.from_text(str(revoked)).authenticate([each_key.public_key])
    other = nnguard.SigningKey.generate()
    with pytest.raises(WrongKeyError):
        revoked.authenticate([other.public_key])
