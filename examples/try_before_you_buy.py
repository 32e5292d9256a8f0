"""Sell a network: give a weaker one away that carries it, issue a license, unlock.

    make sell                                     a network for digits, trained by examples/digits
    make sell NETWORK=resnet20 DATA=folder WEAKER=early.nnc
                                                  a ResNet on CIFAR-10; needs PyTorch

The seller and the customer are two folders. What passes between them is the seller's public key,
the trial, the customer's public key, and the license. The trial is the same network after a few
steps of training, and the release is in its weights, encrypted. Every accuracy is that of the
weights that the stock NNCodec decoder reads from a file, on images that no training saw.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

import nnguard
from model import accuracy as digits_accuracy
from nnguard.licensing import Terms
from stock import decode

DIGITS = Path(__file__).parent / "digits"

Weights = Mapping[str, npt.NDArray[np.generic]]


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", default="digits", help="digits, resnet20 or resnet56")
    parser.add_argument("--data", type=Path, help="folder with streams/ and cifar10_test.npz")
    parser.add_argument("--weaker", type=Path, help="stream to give away; that of digits is here")
    options = parser.parse_args()
    model, accuracy = load(options.network, options.data)
    weaker = options.weaker or DIGITS / "weaker.nnc"
    if options.network != "digits" and options.weaker is None:
        raise SystemExit("this network needs a weaker one to give away: give --weaker")
    with tempfile.TemporaryDirectory() as folder:
        seller, customer = Path(folder, "seller"), Path(folder, "customer")
        seller.mkdir()
        customer.mkdir()
        publish(seller, customer, model, weaker, options.network)
        try_out(customer)
        order(seller, customer)
        issue(seller, customer)
        unlock(customer)
        compare(seller, customer, weaker, accuracy)


def publish(seller: Path, customer: Path, model: Path, weaker: Path, name: str) -> None:
    """Sign the network, lock it in the weaker one, and give that away."""
    key = nnguard.SigningKey.generate()
    key.save(seller / "vendor.key")
    key.public_key.save(customer / "vendor.pub")

    release = nnguard.sign(model, key, issuer="acme.ai", name=name, version="1.0")
    release.save(seller / "release.nnc")

    locked = nnguard.lock(release, trial=weaker, signer=key)
    locked.content_key.save(seller / "content.key")
    locked.trial.save(customer / "trial.nnc")
    print(f"{locked.carried:,} of {release.size:,} bytes are in the trial: {locked.worth}.")


def try_out(customer: Path) -> None:
    """Find out what the file is: from the seller, unchanged, and not the product."""
    trial, trust = customer / "trial.nnc", customer / "vendor.pub"
    report = nnguard.verify(trial, trust, allow_trial=True)
    print(f"\nThe trial is {report.claims.issuer}'s, unchanged.")
    try:
        nnguard.verify(trial, trust)
    except nnguard.errors.LockedTrialError as error:
        print(f"Without allow_trial, nnguard refuses it: {error}.")


def order(seller: Path, customer: Path) -> None:
    """Make a pair of keys, and send the public one with the order."""
    identity = nnguard.Identity.generate()
    identity.save(customer / "ada.key")
    identity.recipient.save(seller / "ada.pub")


def issue(seller: Path, customer: Path) -> None:
    """Make out a license that only this customer's key opens."""
    license = nnguard.licensing.issue(  # noqa: A001
        customer / "trial.nnc",
        seller / "content.key",
        to=seller / "ada.pub",
        signer=seller / "vendor.key",
        terms=Terms(customer="Ada", expires_at=datetime.now(timezone.utc) + timedelta(days=365)),
    )
    license.save(customer / "ada.license")
    print(f"\n{license}")


def unlock(customer: Path) -> None:
    """Check everything, and restore the release."""
    full = nnguard.unlock(
        customer / "trial.nnc",
        license=customer / "ada.license",
        identity=customer / "ada.key",
        trust=customer / "vendor.pub",
    )
    full.save(customer / "full.nnc")


def compare(
    seller: Path, customer: Path, weaker: Path, accuracy: Callable[[Weights], float]
) -> None:
    """Print what each file is worth; stop where the release did not come back."""
    files = {
        "release": seller / "release.nnc",
        "weaker": weaker,
        "trial": customer / "trial.nnc",
        "unlocked": customer / "full.nnc",
    }
    print(f"{'':<12} accuracy       bytes   SHA-256")
    for name, path in files.items():
        data = path.read_bytes()
        score, digest = accuracy(decode(data)), hashlib.sha256(data).hexdigest()
        print(f"  {name:<10} {100 * score:6.2f} % {len(data):>11,}   {digest[:32]}...")
    if files["unlocked"].read_bytes() != files["release"].read_bytes():
        raise SystemExit("the unlocked file is not the release")
    print("\nThe unlocked file is the release, byte for byte.")


def load(network: str, data: Path | None) -> tuple[Path, Callable[[Weights], float]]:
    """Return a network's stream and a function that scores weights, from 0 to 1."""
    if network == "digits":
        test = np.load(DIGITS / "digits_test.npz")
        images, labels = test["images"], test["labels"]
        return DIGITS / "digits.nnc", lambda weights: digits_accuracy(weights, images, labels)
    if data is None:
        raise SystemExit("this network is in the data folder: give --data")
    import cifar10
    import networks
    import nnguard.torch

    module = networks.NETWORKS[network]()
    test = cifar10.load(data, "test")
    score = nnguard.torch.evaluator(module, lambda module: networks.accuracy(module, *test) / 100)
    return data / "streams" / f"{network}.default.nnc", score


if __name__ == "__main__":
    main()
