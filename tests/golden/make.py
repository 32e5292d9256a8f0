"""Makes the golden files of this version: one of each kind of file that nnguard writes.

    python tests/golden/make.py [FOLDER]

`README.md` says when this may be run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import nnguard
from nnguard._hiding import extract
from nnguard.licensing import Device, Issuer, Ledger, Policy, Terms, check, issue

SOLD = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
TODAY = SOLD + timedelta(days=10)
PASSPHRASE = "a passphrase of tests"
CLAIMS: dict[str, Any] = {
    "issuer": "vendor.example",
    "name": "small",
    "version": "1.0",
    "metadata": {"card": "Länge ✓"},
    "issued_at": SOLD,
}
TRAITS = [("host", "atelier"), ("machine-id", "0123"), ("disk", "ä")]


def weights(seed: int = 0) -> dict[str, Any]:
    """A network with every kind of tensor: carriers, small ones, other number formats."""
    random = np.random.default_rng(seed)
    return {
        "conv.weight": random.laplace(0, 0.05, (120, 14, 3, 3)).astype(np.float32),
        "conv.bias": random.laplace(0, 0.05, 120).astype(np.float32),
        "fc.weight": random.laplace(0, 0.05, (60, 100)).astype(ml_dtypes.bfloat16),
        "fc.mask": random.integers(0, 2, (60, 100)).astype(bool),
        "steps": np.array(2**40, np.int64),
    }


def sha256(stream: nnguard.Stream) -> str:
    """Of all bytes of a stream."""
    return hashlib.sha256(bytes(stream)).hexdigest()


def sha256_of_weights(stream: nnguard.Stream) -> str:
    """Of the tensors that a stream decodes to: names, number formats, shapes and values."""
    hashing = hashlib.sha256()
    for name, array in sorted(nnguard.decompress(stream).items()):
        hashing.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        hashing.update(np.ascontiguousarray(array).tobytes())
    return hashing.hexdigest()


def streams(folder: Path, key: nnguard.SigningKey) -> dict[str, Any]:
    """A release, one with an attachment, the record alone, and a set of two shards."""
    original = nnguard.compress(weights())
    original.save(folder / "original.nnc")
    signed = nnguard.sign(original, key, localize=True, **CLAIMS)
    signed.save(folder / "signed.nnc")
    (folder / "signed.record").write_bytes(extract(signed).record)
    attached = nnguard.attach(original, b"# Model card\n", media_type="text/markdown")
    nnguard.sign(attached, key, **CLAIMS).save(folder / "attached.nnc")
    shards = {
        f"model-{n}.nnc": nnguard.compress({f"{n}.weight": weights(n)["conv.weight"]})
        for n in (1, 2)
    }
    nnguard.sign(nnguard.StreamSet.of(shards), key, **CLAIMS).save(folder / "set")
    return {
        "original": sha256(original),
        "weights": sha256_of_weights(original),
        "shards": {name: sha256(shard) for name, shard in shards.items()},
    }


def carried(folder: Path, key: nnguard.SigningKey) -> dict[str, Any]:
    """Another network, which carries the release, and the key to it."""
    release = nnguard.Stream.open(folder / "signed.nnc")
    locked = nnguard.lock(release, trial=nnguard.compress(weights(3)), signer=key)
    locked.content_key.save(folder / "carried.key")
    locked.trial.save(folder / "carried.nnc")
    return {"carried": sha256(release)}


def sold_set(folder: Path, key: nnguard.SigningKey) -> dict[str, Any]:
    """Another network in one file, which carries the set of shards, and a license for it."""
    tier = nnguard.Tier("full", trial=nnguard.compress(weights(3)))
    (locked,) = nnguard.lock_tiers(folder / "set", [tier], signer=key)
    locked.trial.save(folder / "locked-set")
    issue(
        locked.trial,
        locked.content_key,
        to=folder / "eve.pub",
        signer=key,
        terms=Terms(issued_at=SOLD),
    ).save(folder / "set.license")
    released = nnguard.StreamSet.open(folder / "set").streams
    return {"locked_set": {name: sha256(stream) for name, stream in released.items()}}


def sale(folder: Path, key: nnguard.SigningKey) -> dict[str, Any]:
    """A trial of two tiers, its licenses, the revocation list and the ledger."""
    release = nnguard.Stream.open(folder / "signed.nnc")
    tiers = [
        nnguard.Tier("professional", soft=nnguard.Soft(fraction=1e-3)),
        nnguard.Tier("standard", scramble=0.2),
    ]
    content_key = nnguard.ContentKey(bytes(range(64, 96)))
    content_key.save(folder / "content.key")
    locks = nnguard.lock_tiers(release, tiers, content_key=content_key, signer=key)
    locks[-1].trial.save(folder / "trial.nnc")
    ada, eve = nnguard.Identity.generate(), nnguard.Identity.generate(post_quantum=True)
    keeper = nnguard.Identity.generate()
    keeper.save(folder / "desk.key")
    ada.save(folder / "ada.key", passphrase=PASSPHRASE)
    eve.save(folder / "eve.key")
    ada.recipient.save(folder / "ada.pub")
    eve.recipient.save(folder / "eve.pub")
    trial, device = folder / "trial.nnc", Device.of_values(TRAITS)
    eves = Terms(customer="Eve", issued_at=SOLD)
    adas = Terms(
        customer="Ada",
        issued_at=SOLD,
        expires_at=TODAY,
        grace=timedelta(days=7),
        features=["batch"],
        metadata={"order": "1234"},
        device=device,
    )
    with Ledger(folder / "ledger.db") as ledger:
        issuer = Issuer(ledger, key, keeper)
        for output, content, to, terms in (
            ("ada.license", content_key, ada, adas),
            ("eve.license", locks[-1].content_key, eve, eves),
            ("revoked.license", content_key, eve, eves),
        ):
            license_ = issuer.issue(
                trial, content, to=to.recipient, terms=terms, output=folder / output
            )
        issuer.revoke([license_.terms.id], reason="refunded", at=TODAY)
        issuer.revocation_list(issuer="vendor.example", at=TODAY).save(folder / "vendor.revoked")
        entries = [entry.to_json() for entry in ledger.entries()]
    policy = Policy(now=TODAY, state=folder / "state.json", device=device)
    trust = [key.public_key]
    check(folder / "ada.license", trust, license_policy=policy)
    marked = nnguard.unlock(
        trial, folder / "ada.license", ada, trust, license_policy=policy, watermark=True
    )
    marked.save(folder / "marked.nnc")
    return {
        "content_key": content_key.id.hex(),
        "release": sha256(release),
        "standard": sha256(locks[0].trial),
        "entries": entries,
    }


def main(folder: Path) -> None:
    """Make the files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    key = nnguard.SigningKey.generate()
    key.save(folder / "vendor.key", passphrase=PASSPHRASE)
    key.public_key.save(folder / "vendor.pub")
    expected = {
        "vendor": key.public_key.id.hex(),
        "passphrase": PASSPHRASE,
        "now": TODAY.isoformat(),
        "traits": TRAITS,
        "claims": {**CLAIMS, "issued_at": SOLD.isoformat()},
        **streams(folder, key),
        **sale(folder, key),
        **carried(folder, key),
        **sold_set(folder, key),
    }
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    (folder / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name(nnguard.__version__))
