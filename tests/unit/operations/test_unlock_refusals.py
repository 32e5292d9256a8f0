"""What does not unlock, and the error that says why. Each refusal has a test of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import nnguard
import samples
from nnguard._licensing.license import License
from nnguard._licensing.unwrapped import Unwrapped
from nnguard._records.signature import model_digest
from sales import Sale, flips, sell

Reason = nnguard.licensing.Refusal


@pytest.fixture(scope="module")
def sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=False)


@pytest.fixture(scope="module")
def signed_sale(key: nnguard.SigningKey) -> Sale:
    return sell(key, sign_trial=True)


@pytest.fixture(scope="module")
def other_sale(key: nnguard.SigningKey) -> Sale:
    """Another release of the same vendor."""
    return sell(key, sign_trial=False, seed=1)


def test_what_is_refused_below_unlocks_otherwise(sale: Sale, signed_sale: Sale) -> None:
    for each in (sale, signed_sale):
        assert bytes(each.unlock(each.license())) == bytes(each.release)


# Keys


def test_license_of_another_customer(sale: Sale) -> None:
    stranger = nnguard.Identity.generate()
    license_ = sale.license()
    with pytest.raises(nnguard.errors.WrongKeyError, match=license_.terms.recipient):
        nnguard.unlock(sale.locked.trial, license_, stranger, sale.trust)


def test_license_of_another_customer_with_other_kind_of_key(sale: Sale) -> None:
    stranger = nnguard.Identity.generate(post_quantum=True)
    with pytest.raises(nnguard.errors.WrongKeyError, match="made out to"):
        nnguard.unlock(sale.locked.trial, sale.license(), stranger, sale.trust)


def test_content_key_that_is_wrapped_to_somebody_else(sale: Sale) -> None:
    """A license that names one customer, with a content key that only another can read."""
    terms = sale.license().terms
    stranger = nnguard.Identity.generate().recipient
    license_ = License.make(terms, Unwrapped(sale.locked.content_key), stranger, sale.vendor)
    with pytest.raises(nnguard.errors.WrongKeyError):
        sale.unlock(license_)


def test_license_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    license_ = sale.license(signer=other_key)
    with pytest.raises(nnguard.errors.WrongKeyError, match=other_key.public_key.id.hex()):
        sale.unlock(license_)


def test_license_that_names_a_key_which_did_not_sign_it(
    sale: Sale, other_key: nnguard.SigningKey
) -> None:
    class Liar:
        public_key = sale.vendor.public_key

        def sign(self, data: bytes) -> bytes:
            return other_key.sign(data)

    with pytest.raises(ValueError, match="does not verify"):
        sale.license(signer=Liar())
    license_ = sale.license(signer=other_key)
    encoded = license_.encoded.replace(other_key.public_key.id, sale.vendor.public_key.id)
    assert sale.refusal(nnguard.licensing.License.parse(encoded)) is Reason.MALFORMED


def test_trial_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    """The license is by a trusted vendor, the signature on the trial is not."""
    locked = nnguard.lock(sale.release, signer=other_key, soft=nnguard.Soft(fraction=0.005))
    theirs = replace(sale, locked=locked)
    terms = theirs.license(signer=other_key).terms
    license_ = License.make(
        terms, Unwrapped(locked.content_key), sale.customer.recipient, sale.vendor
    )
    with pytest.raises(nnguard.errors.WrongKeyError, match="not among the 1 trusted"):
        theirs.unlock(license_)


def test_release_of_another_vendor(sale: Sale, other_key: nnguard.SigningKey) -> None:
    """The license is by a trusted vendor, the release in the trial is not."""
    model = nnguard.Stream.from_bytes(samples.small_stream())
    stolen = nnguard.sign(model, other_key)
    theirs = replace(
        sale, release=stolen, locked=nnguard.lock(stolen, soft=nnguard.Soft(fraction=0.005))
    )
    with pytest.raises(nnguard.errors.WrongKeyError, match="not among the 1 trusted"):
        theirs.unlock(theirs.license())


def test_content_key_of_another_release(sale: Sale, other_sale: Sale) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError, match="content key"):
        nnguard.licensing.issue(
            sale.locked.trial,
            other_sale.locked.content_key,
            to=sale.customer.recipient,
            signer=sale.vendor,
        )
    terms = sale.license().terms
    wrong = other_sale.locked.content_key
    license_ = License.make(terms, Unwrapped(wrong), sale.customer.recipient, sale.vendor)
    with pytest.raises(nnguard.errors.WrongKeyError, match="content key"):
        sale.unlock(license_)


# Streams


def test_license_of_another_stream(sale: Sale, other_sale: Sale) -> None:
    license_ = other_sale.license(to=sale.customer.recipient)
    assert sale.refusal(license_) is Reason.OTHER_STREAM


def test_license_of_the_same_release_locked_again(sale: Sale) -> None:
    again = replace(sale, locked=nnguard.lock(sale.release, soft=nnguard.Soft(fraction=0.005)))
    assert again.refusal(sale.license()) is Reason.OTHER_STREAM


def test_license_of_the_signed_trial_for_the_trial_without_signature(signed_sale: Sale) -> None:
    bare = nnguard.strip(signed_sale.locked.trial, signed_sale.trust, allow_trial=True)
    with pytest.raises(
        nnguard.errors.VerificationError, match="changed since the license was issued"
    ):
        nnguard.unlock(bare, signed_sale.license(), signed_sale.customer, signed_sale.trust)


def test_stream_that_is_not_locked(sale: Sale, model: nnguard.Stream) -> None:
    for stream in (model, sale.release):
        with pytest.raises(nnguard.errors.LicenseError) as caught:
            nnguard.unlock(stream, sale.license(), sale.customer, sale.trust)
        assert caught.value.reason is Reason.OTHER_STREAM
        with pytest.raises(nnguard.errors.NoRecordError):
            nnguard.licensing.issue(
                stream,
                sale.locked.content_key,
                to=sale.customer.recipient,
                signer=sale.vendor,
            )


def test_license_that_names_a_stream_which_is_not_locked(sale: Sale, model: nnguard.Stream) -> None:
    for stream in (model, sale.release):
        digest = model_digest(stream.sha256_of_units()).hex()
        terms = replace(sale.license().terms, stream=digest)
        key, recipient = sale.locked.content_key, sale.customer.recipient
        license_ = License.make(terms, Unwrapped(key), recipient, sale.vendor)
        with pytest.raises(nnguard.errors.NoRecordError):
            nnguard.unlock(stream, license_, sale.customer, sale.trust)


def test_license_that_promises_something_else(sale: Sale) -> None:
    terms = replace(sale.license().terms, opens="00" * 32)
    key, recipient = sale.locked.content_key, sale.customer.recipient
    license_ = License.make(terms, Unwrapped(key), recipient, sale.vendor)
    with pytest.raises(nnguard.errors.UnlockError, match="not what the license says"):
        sale.unlock(license_)


def unlock(data: bytes, sold: Sale, license_: nnguard.licensing.License, out: Path) -> None:
    """Unlock a trial to a file."""
    trial = nnguard.Stream.from_bytes(data)
    nnguard.unlock(trial, license_, sold.customer, sold.trust).save(out)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_changed_trial(sale: Sale, signed_sale: Sale, tmp_path: Path, *, signed: bool) -> None:
    """No flipped bit gets through, and none leaves a file."""
    sold = signed_sale if signed else sale
    trial, license_ = sold.locked.trial, sold.license()
    for changed in flips(bytes(trial), 29):
        with pytest.raises(nnguard.NnguardError):
            unlock(changed, sold, license_, tmp_path / "full.nnc")
    assert list(tmp_path.iterdir()) == []
    unlock(bytes(trial), sold, license_, tmp_path / "full.nnc")
    assert (tmp_path / "full.nnc").read_bytes() == bytes(sold.release)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_trial_that_was_cut_or_made_longer(
    sale: Sale, signed_sale: Sale, tmp_path: Path, *, signed: bool
) -> None:
    sold = signed_sale if signed else sale
    license_, data = sold.license(), bytes(sold.locked.trial)
    units = samples.split(data)
    others = [data[:-1], data[: len(data) // 2], data + b"\0", data + units[-1], b""]
    others += [b"".join([*units[:at], *units[at + 1 :]]) for at in range(len(units))]
    for other in others:
        with pytest.raises(nnguard.NnguardError):
            unlock(other, sold, license_, tmp_path / "full.nnc")
    assert list(tmp_path.iterdir()) == []


def test_trial_that_was_trained_further(sale: Sale) -> None:
    """A weight that the lock left alone was changed: the license is of the trial as it was sold."""
    units = samples.split(bytes(sale.locked.trial))
    bias = [unit.name for unit in sale.locked.trial].index("conv.bias")
    units[bias] = units[bias][:-2] + bytes([units[bias][-2] ^ 1]) + units[bias][-1:]
    trial = nnguard.Stream.from_bytes(b"".join(units))
    with pytest.raises(
        nnguard.errors.VerificationError, match="changed since the license was issued"
    ):
        nnguard.unlock(trial, sale.license(), sale.customer, sale.trust)


# Tiers


def test_wrong_tier(sale: Sale) -> None:
    license_ = sale.license()
    assert license_.terms.tier == "full"
    with pytest.raises(nnguard.errors.LicenseError, match="professional") as caught:
        sale.unlock(license_, tier="professional")
    assert caught.value.reason is Reason.OTHER_TIER
    assert bytes(sale.unlock(license_, tier="full")) == bytes(sale.release)
