"""What a trusted vendor signed passes a gate; of all else, nothing is at the destination."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.numpy import load_file, save_file

import nnguard
import samples
from nnguard import errors
from nnguard._models.index import SAFETENSORS_INDEX
from nnguard._operations import gate as gate_module
from nnguard._operations.authority import authority_of
from nnguard._operations.destination import MANIFEST, Destination
from nnguard._operations.gate import Gate

SHARDS = [f"model-{at:05}-of-00002" for at in (1, 2)]
FIRST = f"{SHARDS[0]}.nnc"


def arrays_of(at: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((seed, at))
    return {
        f"layers.{at}.weight": rng.normal(0, 0.05, (80, 10, 10)).astype(np.float32),
        f"layers.{at}.half": rng.normal(0, 0.05, (20, 10)).astype(np.float16),
        f"layers.{at}.steps": np.array(at + 5, np.int64),
    }


def vendors_folder(folder: Path, seed: int = 0) -> Path:
    """Write a model as hubs have them: shards, index, configuration and tokenizer."""
    (folder / "tokenizer").mkdir(parents=True)
    weight_map = {}
    for at, name in enumerate(SHARDS):
        arrays = arrays_of(at, seed)
        save_file(arrays, folder / f"{name}.safetensors", {"format": "pt"})
        weight_map |= dict.fromkeys(arrays, f"{name}.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / SAFETENSORS_INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text(f'{{"model_type": "small", "seed": {seed}}}')
    (folder / "tokenizer" / "vocab.txt").write_text("one\ntwo\n")
    return folder


@pytest.fixture(scope="module")
def released(
    tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey
) -> Callable[[int], Path]:
    """Sign releases of a vendor's folder, from the first on."""
    folder = tmp_path_factory.mktemp("vendor")

    def release(number: int) -> Path:
        done = folder / f"release-{number}"
        if not done.exists():
            source = vendors_folder(folder / f"hub-{number}", number)
            streams = nnguard.compress(source, nnguard.Settings(qp=-20))
            nnguard.sign(streams, key, issuer="acme.ai", name="small", version=f"{number}.0").save(
                done
            )
        return done

    return release


@pytest.fixture
def source(released: Callable[[int], Path], tmp_path: Path) -> Path:
    """A copy of the first release."""
    return Path(shutil.copytree(released(1), tmp_path / "source"))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The folder that the destination is in, and nothing else."""
    room = tmp_path / "room"
    room.mkdir()
    return room


@pytest.fixture
def trust(key: nnguard.SigningKey) -> list[nnguard.PublicKey]:
    return [key.public_key]


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What passes


def test_a_folder_that_any_server_loads(
    source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    (source / "added.py").write_text("not the vendor's")
    steps: list[str] = []
    report = nnguard.gate(source, room / "net", trust, tell=lambda name, *_: steps.append(name))

    assert steps == ["copied", "verified", "decoded", "placed"]
    assert report == nnguard.verify(source, trust)
    assert [path.name for path in room.iterdir()] == ["net"]
    side_files = {"config.json", "tokenizer/vocab.txt"}
    weights = {f"{name}.safetensors" for name in SHARDS}
    assert names_in(room / "net") == {*side_files, *weights, SAFETENSORS_INDEX, MANIFEST}
    for name in side_files:
        assert (room / "net" / name).read_bytes() == (source / name).read_bytes()
    index = json.loads((room / "net" / SAFETENSORS_INDEX).read_text())
    expected = nnguard.decompress(source)
    assert set(index["weight_map"]) == set(expected)
    for tensor, file in index["weight_map"].items():
        found = load_file(room / "net" / file)[tensor]
        assert found.dtype == expected[tensor].dtype
        np.testing.assert_array_equal(found, expected[tensor])


def test_what_is_there_is_listed(source: Path, room: Path, trust: list[nnguard.PublicKey]) -> None:
    report = nnguard.gate(source, room / "net", trust)
    listed = json.loads((room / "net" / MANIFEST).read_text())
    assert {*listed["files"], MANIFEST} == names_in(room / "net")
    assert listed["report"] == report.to_json()


def test_others_may_read_it_as_they_may_what_is_written_here(
    source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    nnguard.gate(source, room / "net", trust)
    (room / "usual").mkdir()
    (room / "usual" / "file").touch()
    assert (room / "net").stat().st_mode == (room / "usual").stat().st_mode
    assert (room / "net" / MANIFEST).stat().st_mode == (room / "usual" / "file").stat().st_mode


def test_one_stream(
    release: nnguard.Stream, key: nnguard.SigningKey, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    assert nnguard.gate(release, room / "net", trust).claims.name == "small"
    assert names_in(room / "net") == {"model.safetensors", MANIFEST}
    found = load_file(room / "net" / "model.safetensors")
    for name, array in nnguard.decompress(release).items():
        np.testing.assert_array_equal(found[name], array)


def test_signed_by_the_deployment(source: Path, room: Path, trust: list[nnguard.PublicKey]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (room.parent / "oms.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (room.parent / "oms.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    steps: list[str] = []
    nnguard.gate(
        source,
        room / "net",
        trust,
        oms_key=room.parent / "oms.key",
        tell=lambda name, *_: steps.append(name),
    )
    assert steps == ["copied", "verified", "decoded", "signed", "placed"]
    bundle = nnguard.oms.Bundle.open(room / "net" / "model.sig", room.parent / "oms.pub")
    assert bundle.name == "net"
    assert bundle.check(room / "net") == ()
    assert {*bundle.files, "model.sig"} == names_in(room / "net")
    nnguard.gate(source, room / "net", trust, overwrite=True)
    assert not (room / "net" / "model.sig").exists()


# What does not


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def resigned(source: Path, model: nnguard.StreamSet) -> None:
    model.save(source.with_name("changed"))
    shutil.rmtree(source)
    source.with_name("changed").rename(source)


def unsigned(source: Path) -> None:
    vendor = vendors_folder(source.with_name("hub"))
    resigned(source, nnguard.compress(vendor, nnguard.Settings(qp=-20)))


def by_another(source: Path) -> None:
    resigned(source, nnguard.sign(source, nnguard.SigningKey.generate(), name="small"))


DAMAGED = (errors.FormatError, errors.VerificationError)

CHANGES: dict[str, tuple[Callable[[Path], object], Any]] = {
    "a shard": (lambda source: flip(source / FIRST), DAMAGED),
    "the configuration": (lambda source: flip(source / "config.json"), errors.VerificationError),
    "a shard is gone": (lambda source: (source / FIRST).unlink(), errors.VerificationError),
    "a file is gone": (lambda s: (s / "config.json").unlink(), errors.VerificationError),
    "a stray shard": (
        lambda source: shutil.copy(source / FIRST, source / "more.nnc"),
        errors.VerificationError,
    ),
    "not signed": (unsigned, errors.NoRecordError),
    "another vendor's": (by_another, errors.WrongKeyError),
    "not a stream": (lambda s: (s / FIRST).write_bytes(b"\x80\x02weights"), errors.FormatError),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_there(
    change: str, source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    make, error = CHANGES[change]
    make(source)
    with pytest.raises(error):
        nnguard.gate(source, room / "net", trust)
    assert not [*room.iterdir()]


def test_nothing_is_there_of_a_release_that_was_not_expected(
    source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    with pytest.raises(errors.ClaimsError):
        nnguard.gate(source, room / "net", trust, expect=nnguard.Expect(version=">=2"))
    assert not [*room.iterdir()]


def test_what_is_decoded_is_what_was_verified(
    source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    """Whoever can write the source exchanges it after it was copied: that is not looked at."""
    expected = nnguard.decompress(source)

    def exchange(step: str, *_: object) -> None:
        if step == "copied":
            for name in SHARDS:
                nnguard.Stream.from_bytes(samples.small_stream()).save(
                    source / f"{name}.nnc", overwrite=True
                )

    nnguard.gate(source, room / "net", trust, tell=exchange)
    for tensor, array in load_file(room / "net" / f"{SHARDS[0]}.safetensors").items():
        np.testing.assert_array_equal(array, expected[tensor])


def test_a_file_that_changes_after_it_was_verified(
    source: Path, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    def change(step: str, *_: object) -> None:
        if step == "verified":
            flip(source / "config.json")

    with pytest.raises(errors.VerificationError):
        nnguard.gate(source, room / "net", trust, tell=change)
    assert not [*room.iterdir()]


def test_a_signed_file_that_has_the_name_of_the_list(
    source: Path, room: Path, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    (source / MANIFEST).write_text('{"files": []}')
    release = nnguard.sign(nnguard.strip(source, trust), key, name="small")
    with pytest.raises(FileExistsError):
        nnguard.gate(release, room / "net", trust)
    assert not [*room.iterdir()]


# Trials


@pytest.fixture(scope="module")
def customer() -> nnguard.Identity:
    return nnguard.Identity.generate()


@pytest.fixture(scope="module")
def locked(release: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.Locked:
    return nnguard.lock(release, signer=key, soft=nnguard.Soft(fraction=0.002))


def test_a_trial_is_unlocked(
    release: nnguard.Stream,
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    room: Path,
    trust: list[nnguard.PublicKey],
) -> None:
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    sale = {"license": license_, "identity": customer}
    steps: list[str] = []
    nnguard.gate(
        locked.trial, room / "net", trust, **sale, tell=lambda name, *_: steps.append(name)
    )
    assert steps == ["copied", "unlocked", "verified", "decoded", "placed"]
    assert [path.name for path in room.iterdir()] == ["net"]
    found = load_file(room / "net" / "model.safetensors")
    for name, array in nnguard.decompress(release).items():
        np.testing.assert_array_equal(found[name], array)


def test_a_trial_without_a_license(
    locked: nnguard.Locked, room: Path, trust: list[nnguard.PublicKey]
) -> None:
    with pytest.raises(errors.LockedTrialError):
        nnguard.gate(locked.trial, room / "net", trust)
    assert not [*room.iterdir()]
    nnguard.gate(locked.trial, room / "net", trust, allow_trial=True)


def test_a_license_that_does_not_hold(
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    room: Path,
    trust: list[nnguard.PublicKey],
) -> None:
    terms = nnguard.licensing.Terms(issued_at="2026-01-01", expires_at="2026-06-01")
    sale: dict[str, Any] = {
        "license": nnguard.licensing.issue(
            locked.trial, locked.content_key, to=customer.recipient, signer=key, terms=terms
        ),
        "identity": customer,
    }
    with pytest.raises(errors.LicenseError) as caught:
        nnguard.gate(
            locked.trial,
            room / "net",
            trust,
            **sale,
            license_policy=nnguard.licensing.Policy(now="2026-06-02"),
        )
    assert caught.value.reason is errors.Refusal.EXPIRED
    assert not [*room.iterdir()]


def test_what_a_license_opens_has_to_be_signed(
    model: nnguard.Stream,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    room: Path,
    trust: list[nnguard.PublicKey],
) -> None:
    locked = nnguard.lock(model, signer=key, soft=nnguard.Soft(fraction=0.002))
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    with pytest.raises(errors.NoRecordError):
        nnguard.gate(locked.trial, room / "net", trust, license=license_, identity=customer)
    assert not [*room.iterdir()]


@pytest.mark.parametrize("given", ["license", "identity", "license_policy"])
def test_arguments_that_belong_together(
    given: str, release: nnguard.Stream, customer: nnguard.Identity, room: Path
) -> None:
    values: dict[str, Any] = {
        "license": "some.license",
        "identity": customer,
        "license_policy": nnguard.licensing.Policy(),
    }
    with pytest.raises(errors.ArgumentError):
        nnguard.gate(release, room / "net", [], **{given: values[given]})


# Watching


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[object]], None]:
    """Do things instead of sleeping, one between every two checks."""

    def install(deeds: Iterator[object]) -> None:
        monkeypatch.setattr(gate_module.time, "sleep", lambda _: next(deeds))

    return install


def exchange_folder(source: Path, other: Path) -> None:
    shutil.rmtree(source)
    shutil.copytree(other, source)


def test_watching(
    released: Callable[[int], Path],
    source: Path,
    room: Path,
    trust: list[nnguard.PublicKey],
    between: Callable[[Iterator[object]], None],
) -> None:
    steps: list[str] = []
    gate = Gate(
        source=source,
        destination=Destination(room / "net"),
        authority=partial(authority_of, trust),
        tell=lambda name, *_: steps.append(name),
    )
    report = gate.let_pass(overwrite=False)
    first = (room / "net").stat().st_ino
    seen: list[tuple[str, bool]] = []

    def deeds() -> Iterator[object]:
        def look() -> None:
            version = json.loads((room / "net" / MANIFEST).read_text())["report"]["claims"]
            seen.append((version["version"], (room / "net").stat().st_ino == first))

        yield None
        yield look()
        yield exchange_folder(source, released(2))
        yield look()
        yield flip(source / FIRST)
        pytest.fail("what was changed has passed")

    between(deeds())
    steps.clear()
    with pytest.raises(DAMAGED):
        gate.watch(60, report)
    assert seen == [("1.0", True), ("2.0", False)]
    passed = ["copied", "verified", "decoded", "placed"]
    assert steps == ["verified", "verified", "verified", *passed, "verified"]
    assert [path.name for path in room.iterdir()] == ["net"]
    index = json.loads((room / "net" / SAFETENSORS_INDEX).read_text())
    assert set(index["weight_map"]) == set(nnguard.decompress(released(2)))


def test_watching_a_license(
    locked: nnguard.Locked,
    customer: nnguard.Identity,
    key: nnguard.SigningKey,
    room: Path,
    trust: list[nnguard.PublicKey],
    between: Callable[[Iterator[object]], None],
) -> None:
    license_ = nnguard.licensing.issue(
        locked.trial, locked.content_key, to=customer.recipient, signer=key
    )
    revocations = room.parent / "revoked"
    gate = Gate(
        source=locked.trial,
        destination=Destination(room / "net"),
        authority=partial(authority_of, trust),
        license=license_,
        identity=customer,
        license_policy=nnguard.licensing.Policy(revocations=revocations),
    )

    def revoke(*ids: str) -> None:
        nnguard.licensing.RevocationList.make(ids, key).save(revocations, overwrite=True)

    revoke()
    report = gate.let_pass(overwrite=False)

    def deeds() -> Iterator[object]:
        yield None
        yield revoke("00" * 16)
        yield revoke(license_.terms.id)
        pytest.fail("a license that was revoked holds")

    between(deeds())
    with pytest.raises(errors.LicenseError) as caught:
        gate.watch(60, report)
    assert caught.value.reason is errors.Refusal.REVOKED


def test_signed_again_is_another_release(
    source: Path,
    room: Path,
    key: nnguard.SigningKey,
    trust: list[nnguard.PublicKey],
    between: Callable[[Iterator[object]], None],
) -> None:
    """The digest is that of the original, which is the same."""
    gate = Gate(
        source=source,
        destination=Destination(room / "net"),
        authority=partial(authority_of, trust),
    )
    report = gate.let_pass(overwrite=False)
    again = nnguard.sign(nnguard.strip(source, trust), key, name="small", version="1.1")

    def deeds() -> Iterator[object]:
        yield resigned(source, again)
        raise KeyboardInterrupt

    between(deeds())
    with pytest.raises(KeyboardInterrupt):
        gate.watch(60, report)
    found = json.loads((room / "net" / MANIFEST).read_text())["report"]
    assert found["claims"]["version"] == "1.1"
    assert found["digest"] == report.digest
