"""The commands that write, what they take, and what is right of what they leave."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import nnguard
from machine import Case, contents, require
from nnguard._base.times import now
from nnguard._policy.state import State

SEED = 1
LEDGER = "licenses.db"
KEY = ("--key", "vendor.key")
TRUST = ("--trust", "vendor.pub")


def make_template(folder: Path) -> None:
    """Fill a folder with all that commands take."""
    rng = np.random.default_rng(SEED)

    def weights(name: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.bias": rng.normal(0, 0.1, 10).astype(np.float32),
            f"{name}.weight": rng.normal(0, 0.05, (40, 10, 10)).astype(np.float32),
        }

    key, customer = nnguard.SigningKey.generate(), nnguard.Identity.generate()
    key.save(folder / "vendor.key")
    key.public_key.save(folder / "vendor.pub")
    customer.save(folder / "customer.key")
    customer.recipient.save(folder / "customer.pub")
    nnguard.Identity.generate().save(folder / "issuer.key")

    shards = folder / "shards"
    shards.mkdir()
    index: dict[str, str] = {}
    for name in ("first", "second"):
        tensors = weights(name)
        save_file(tensors, shards / f"{name}.safetensors")
        index |= dict.fromkeys(tensors, f"{name}.safetensors")
    text = json.dumps({"metadata": {}, "weight_map": index})
    (shards / "model.safetensors.index.json").write_text(text)
    nnguard.compress(shards).save(folder / "streams")
    nnguard.sign(folder / "streams", key, name="net").save(folder / "releases")
    nnguard.decompress_to_file(folder / "releases", folder / "decoded")
    older = nnguard.sign(folder / "streams", key, name="older")
    for model, passed in ((folder / "releases", "passed"), (older, "passed-before")):
        nnguard.gate(model, folder / passed, [key.public_key])

    save_file(weights("layer"), folder / "model.safetensors")
    nnguard.compress(folder / "model.safetensors").save(folder / "model.nnc")
    nnguard.sign(folder / "model.nnc", key, name="net", release=2).save(folder / "release.nnc")
    with State(folder / "kept") as kept:
        kept.against_release("/net", key.public_key.id.hex(), 1)
        kept.commit(now())
    nnguard.decompress_to_file(folder / "release.nnc", folder / "decoded.safetensors")
    locked = nnguard.lock(folder / "release.nnc", signer=key, soft=nnguard.Soft(fraction=1e-2))
    locked.trial.save(folder / "trial.nnc")
    locked.content_key.save(folder / "content.key")
    with nnguard.licensing.Ledger(folder / LEDGER) as ledger:
        nnguard.licensing.Issuer(ledger, key).issue(
            locked.trial, locked.content_key, to=customer.recipient, output=folder / "license"
        )
    state = nnguard.licensing.Policy(state=folder / "seen")
    nnguard.licensing.check(folder / "license", [key.public_key], license_policy=state)


def cases(folder: Path) -> Iterator[Case]:
    """Yield all commands, with new outputs and with old ones that they replace."""
    right = _Right(folder)
    issue = ("license", "issue", "trial.nnc", "-o", "out.license", *KEY, "--to", "customer.pub")
    issue += ("--content-key", "content.key", "--ledger-key", "issuer.key", "--ledger")
    unlock = ("unlock", "trial.nnc", "-o", "out.nnc", "--license", "license", *TRUST)
    unlock += ("--identity", "customer.key")
    lock = ("lock", "release.nnc", "-o", "out.nnc", "--content-key", "out.key", *KEY)
    revoke = ("license", "revoke", right.license_id, "-o", "out.revoked", *KEY, "--ledger", LEDGER)
    new = [
        Case("keygen", ("keygen", "pair"), ("pair.key", "pair.pub"), right.pair),
        Case("compress", _to_stream("compress", "model.safetensors"), ("out.nnc",),
             right.same_as("model.nnc")),
        Case("compress, folder", _to_folder("compress", "shards"), ("out",),
             right.same_as("streams")),
        Case("sign", _to_stream("sign", "model.nnc", *KEY), ("out.nnc",), right.signed),
        Case("sign, folder", _to_folder("sign", "shards", *KEY), ("out",), right.signed_set),
        Case("strip", _to_stream("strip", "release.nnc", *TRUST), ("out.nnc",),
             right.same_as("model.nnc")),
        Case("decompress", ("decompress", "release.nnc", "-o", "out.safetensors"),
             ("out.safetensors",), right.same_as("decoded.safetensors")),
        Case("decompress, folder", _to_folder("decompress", "releases"), ("out",),
             right.same_as("decoded")),
        Case("gate", ("gate", "releases", "out", *TRUST), ("out",), right.same_as("passed")),
        Case("lock", (*lock, "--soft", "--fraction", "0.01"), ("out.key", "out.nnc"), right.trial),
        Case("unlock --license-state", (*unlock, "--license-state", "seen"), ("out.nnc",),
             right.same_as("release.nnc"), ("seen",), right.clock),
        Case("unlock --state", (*unlock, "--state", "kept"), ("out.nnc",),
             right.same_as("release.nnc"), ("kept",), right.state, kept_first=True),
        Case("license issue", (*issue, LEDGER), ("out.license",), right.license_in(LEDGER),
             (LEDGER,), right.ledger),
        Case("license revoke", revoke, ("out.revoked",), right.revocations, (LEDGER,),
             right.revoked_ledger, kept_first=True),
    ]  # fmt: skip
    for case in new:
        yield case
        forced = (*case.arguments, "--force")
        old = _old_file if case.outputs != ("out",) else _old_folder(folder, case)
        yield replace(case, name=f"{case.name} --force", arguments=forced, old=old)
    yield Case("gate --in-place", ("gate", "releases", "out", *TRUST, "--in-place"), ("out",),
               right.part_of("passed"), old=Path.mkdir)  # fmt: skip
    yield Case("license issue, first", (*issue, "new.db"), ("out.license",),
               right.license_in("new.db"), ("new.db",))  # fmt: skip


def _to_stream(command: str, model: str, *options: str) -> tuple[str, ...]:
    return (command, model, "-o", "out.nnc", *options)


def _to_folder(command: str, model: str, *options: str) -> tuple[str, ...]:
    return (command, model, "-o", "out", *options)


def _old_file(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(b"what was there before")


def _old_folder(folder: Path, case: Case) -> Callable[[Path], object]:
    sources = {"decompress": "shards", "gate": "passed-before"}
    source = folder / sources.get(case.arguments[0], "releases")
    return lambda path: shutil.copytree(source, path)


class _Right:
    """Checks of outputs, in the folder that the command ran in."""

    def __init__(self, template: Path) -> None:
        self._template = template
        self._trust = [nnguard.PublicKey.load(template / "vendor.pub")]
        self._seen = json.loads((template / "seen").read_text())["newest"]
        self.license_id = nnguard.licensing.License.load(template / "license").terms.id

    def same_as(self, name: str) -> Callable[[set[str]], object]:
        expected = contents(self._template / name)

        def check(new: set[str]) -> None:
            for output in new:
                require(contents(Path(output)) == expected, f"{output} is not {name}")

        return check

    def part_of(self, name: str) -> Callable[[set[str]], object]:
        expected = contents(self._template / name)
        assert isinstance(expected, dict)

        def check(new: set[str]) -> None:
            for path in Path("out").glob("[!.]*"):
                require(contents(path) == expected[path.name], f"{path} is not in {name}")

        return check

    def signed(self, new: set[str]) -> None:
        for output in new:
            model = nnguard.strip(output, self._trust)
            require(bytes(model) == Path("model.nnc").read_bytes(), "another model")

    def signed_set(self, new: set[str]) -> None:
        for output in new:
            report = nnguard.verify(output, self._trust)
            require(len(report.shards) == 2, "shards are missing")

    def pair(self, new: set[str]) -> None:
        if not new:
            return
        require("pair.key" in new, "a public key without its private one")
        key = nnguard.SigningKey.load("pair.key")
        _require_secret("pair.key")
        if "pair.pub" in new:
            require(nnguard.PublicKey.load("pair.pub").id == key.public_key.id, "no pair")

    def trial(self, new: set[str]) -> None:
        if not new:
            return
        require("out.key" in new, "a trial without its content key")
        content_key = nnguard.ContentKey.load("out.key")
        _require_secret("out.key")
        if "out.nnc" in new:
            customer = nnguard.Identity.load("customer.key")
            vendor = nnguard.SigningKey.load("vendor.key")
            license_ = nnguard.licensing.issue(
                "out.nnc", content_key, to=customer.recipient, signer=vendor
            )
            full = nnguard.unlock("out.nnc", license_, customer, self._trust)
            require(bytes(full) == Path("release.nnc").read_bytes(), "another release")

    def state(self, new: set[str]) -> bool:
        """Return whether the state file is ahead of what is there: it is written first."""
        with State("kept") as kept:
            (number,) = kept.memory.releases.values()
        require(number == 2 or (number == 1 and not new), f"{number} is remembered")
        return number == 2 and not new

    def clock(self, new: set[str]) -> bool:
        """The newest time is neither forgotten nor in the future."""
        newest = json.loads(Path("seen").read_text())["newest"]
        require(self._seen <= newest <= time.time(), f"{newest} was never seen")
        return False

    def license_in(self, ledger: str) -> Callable[[set[str]], object]:
        """Whoever has a license stands in the ledger."""

        def check(new: set[str]) -> None:
            for output in new:
                license_ = nnguard.licensing.License.load(output)
                license_.authenticate(self._trust)
                armored = self._entries(ledger)[license_.terms.id].armored
                require(armored == str(license_), "the ledger has another license")

        return check

    def ledger(self, new: set[str]) -> bool:
        """Nothing is lost; return whether there is an entry of which no file is there."""
        entries = self._entries(LEDGER)
        require(entries.pop(self.license_id).revoked_at is None, "another entry changed")
        for output in new:
            del entries[nnguard.licensing.License.load(output).terms.id]
        return bool(entries)

    def revocations(self, new: set[str]) -> None:
        for output in new:
            revocations = nnguard.licensing.RevocationList.load(output)
            revocations.authenticate(self._trust)
            require(revocations.revokes(self.license_id), "not on the list")

    def revoked_ledger(self, new: set[str]) -> bool:
        """Return whether the ledger has a revocation that no list has yet."""
        revoked = self._entries(LEDGER)[self.license_id].revoked_at is not None
        require(revoked or not new, "on the list, and not in the ledger")
        return revoked and not new

    def _entries(self, ledger: str) -> dict[str, nnguard.licensing.LedgerEntry]:
        with nnguard.licensing.Ledger(ledger) as opened:
            entries = opened.entries()
        for entry in entries:
            nnguard.licensing.License.from_text(entry.armored).authenticate(self._trust)
        return {entry.license_id: entry for entry in entries}


def _require_secret(name: str) -> None:
    require(Path(name).stat().st_mode & 0o777 == 0o600, f"others can read {name}")
