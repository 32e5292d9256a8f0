"""A folder of shards is one model: every shard of this release, each in its place, or none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nnguard
import stock
from nnguard._models.index import SAFETENSORS_INDEX
from nnguard._models.stream_set import STREAM_INDEX
from nnguard._operations import verify
from nnguard._records.claims import Shard
from nnguard._records.digest import set_digest

SETTINGS = nnguard.Settings(qp=-20)
WHEN = datetime(2025, 3, 1, tzinfo=timezone.utc)
NAMES = [f"model-{at:05}-of-00003" for at in (1, 2, 3)]
FIRST, SECOND, THIRD = (f"{name}.nnc" for name in NAMES)


def shard_of(at: int, seed: int = 0) -> dict[str, stock.Array]:
    """Return the tensors of a shard, with room for a signature."""
    rng = np.random.default_rng((seed, at))
    return {
        f"layers.{at}.bias": rng.normal(0, 0.1, 10).astype(np.float32),
        f"layers.{at}.steps": np.array(at + 5, np.int64),
        f"layers.{at}.weight": rng.normal(0, 0.05, (80, 10, 10)).astype(np.float32),
    }


def write_model(folder: Path, seed: int = 0) -> Path:
    """Write safetensors shards and their index, as model hubs have them."""
    folder.mkdir()
    weight_map = {}
    for at, name in enumerate(NAMES):
        arrays = shard_of(at, seed)
        save_file(arrays, folder / f"{name}.safetensors", {"format": "pt"})
        weight_map |= dict.fromkeys(arrays, f"{name}.safetensors")
    index = {"metadata": {"total_size": 3}, "weight_map": weight_map}
    (folder / SAFETENSORS_INDEX).write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    key: nnguard.SigningKey,
    other_key: nnguard.SigningKey,
) -> Path:
    """A model, its streams, its release, and sets that look like it."""
    folder = tmp_path_factory.mktemp("built")
    nnguard.compress(write_model(folder / "model"), SETTINGS).save(folder / "streams")
    nnguard.compress(write_model(folder / "model0", 1), SETTINGS).save(folder / "streams0")

    def sign(streams: str, name: str, signer: nnguard.SigningKey, version: str) -> None:
        signed = nnguard.sign(
            folder / streams, signer, issuer="acme.ai", name="net", version=version, issued_at=WHEN
        )
        signed.save(folder / name)

    sign("streams", "release", key, "1.0")
    sign("streams0", "older", key, "1.0")
    sign("streams", "again", key, "1.1")
    sign("streams", "partner", other_key, "1.0")
    return folder


@pytest.fixture
def release(built: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the release, to be changed; nothing may be left beside it."""
    shutil.copytree(built / "release", tmp_path / "release")
    yield tmp_path / "release"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture
def trust(key: nnguard.SigningKey, other_key: nnguard.SigningKey) -> list[nnguard.PublicKey]:
    return [key.public_key, other_key.public_key]


def read_index(folder: Path, name: str = STREAM_INDEX) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / name).read_text())
    return loaded


def write_map(folder: Path, weight_map: object, name: str = STREAM_INDEX) -> None:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(folder: Path, trust: list[nnguard.PublicKey], match: str) -> None:
    """Check that the set is refused by all that verify it, and nothing is written."""
    with pytest.raises(nnguard.errors.VerificationError, match=match):
        nnguard.verify(folder, trust)
    with pytest.raises(nnguard.errors.VerificationError, match=match):
        nnguard.strip(folder, trust)


def test_streams_are_those_of_the_shards(built: Path) -> None:
    assert sorted(content(built / "streams")) == [FIRST, SECOND, THIRD, STREAM_INDEX]
    for at, name in enumerate(NAMES):
        source = built / "model" / f"{name}.safetensors"
        data = (built / "streams" / f"{name}.nnc").read_bytes()
        assert data == bytes(nnguard.compress(source, SETTINGS))
        assert set(stock.decode(data)) == set(shard_of(at))
    before = read_index(built / "model", SAFETENSORS_INDEX)["weight_map"]
    after = read_index(built / "streams")["weight_map"]
    assert after == {name: Path(file).stem + ".nnc" for name, file in before.items()}


def test_release_verifies(
    release: Path, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    report = nnguard.verify(release, trust)
    assert (report.claims.issuer, report.claims.name, report.claims.version) == (
        "acme.ai",
        "net",
        "1.0",
    )
    assert report.claims.issued_at == WHEN
    assert report.claims.shard is None
    assert report.key_id == key.public_key.id.hex()
    assert list(report.shards) == [FIRST, SECOND, THIRD]
    digests = {name: bytes.fromhex(shard.digest) for name, shard in report.shards.items()}
    assert report.digest == set_digest(digests).hex()
    printed = json.loads(json.dumps(report.to_json()))
    assert printed["shards"][SECOND]["claims"]["shard"] == {
        "set_digest": report.digest,
        "position": 1,
        "count": 3,
    }


def test_stripping_gives_the_streams_back(
    built: Path, release: Path, trust: list[nnguard.PublicKey], tmp_path: Path
) -> None:
    nnguard.strip(release, trust).save(tmp_path / "original")
    original = content(tmp_path / "original")
    assert original == content(built / "streams")
    assert original != content(release)


def test_decompressing_gives_the_weights_back(built: Path, tmp_path: Path) -> None:
    nnguard.decompress_to_file(built / "streams", tmp_path / "restored")
    assert sorted(content(tmp_path / "restored")) == sorted(content(built / "model"))
    before = read_index(built / "model", SAFETENSORS_INDEX)["weight_map"]
    assert read_index(tmp_path / "restored", SAFETENSORS_INDEX)["weight_map"] == before
    for at, name in enumerate(NAMES):
        expected = nnguard.decompress(built / "streams" / f"{name}.nnc")
        restored = load_file(tmp_path / "restored" / f"{name}.safetensors")
        assert restored.keys() == expected.keys()
        for tensor, array in shard_of(at).items():
            assert restored[tensor].dtype == array.dtype
            assert restored[tensor].shape == array.shape
            assert np.array_equal(restored[tensor], expected[tensor])
            assert np.abs(restored[tensor] - array).max() < 0.05


def test_release_is_loaded_whole(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    torch = pytest.importorskip("torch")
    for original, source in ((False, release), (True, built / "streams")):
        state = nnguard.torch.load(release, trust, original=original)
        expected: dict[str, stock.Array] = {}
        for name in (FIRST, SECOND, THIRD):
            expected |= stock.decode((source / name).read_bytes())
        assert list(state) == list(expected)
        for name, array in expected.items():
            assert np.array_equal(state[name].numpy().reshape(array.shape), array)
        assert state["layers.1.steps"].dtype == torch.int64
    (release / SECOND).write_bytes((built / "older" / SECOND).read_bytes())
    with pytest.raises(nnguard.errors.VerificationError, match=SECOND):
        nnguard.torch.load(release, trust)


def test_single_shard_verifies_and_says_which_it_is(
    release: Path, trust: list[nnguard.PublicKey]
) -> None:
    whole = nnguard.verify(release, trust)
    claims = nnguard.verify(release / SECOND, trust).claims
    assert claims.shard == Shard(whole.digest, 1, 3)
    assert claims.name == "net"


def test_set_may_be_signed_again(
    release: Path, other_key: nnguard.SigningKey, trust: list[nnguard.PublicKey], tmp_path: Path
) -> None:
    """A partner signs on top of the vendor's signatures, which come back."""
    nnguard.sign(release, other_key, name="partner's").save(tmp_path / "twice")
    report = nnguard.verify(tmp_path / "twice", other_key.public_key)
    assert report.claims.name == "partner's"
    assert [shard.nested[0].kind for shard in report.shards.values()] == ["signature"] * 3
    nnguard.strip(tmp_path / "twice", trust).save(tmp_path / "once")
    assert content(tmp_path / "once") == content(release)


def test_localized_set_names_the_tensor(
    built: Path, key: nnguard.SigningKey, tmp_path: Path
) -> None:
    signed = nnguard.sign(built / "streams", key, localize=True)
    signed.save(tmp_path / "release")
    flip(tmp_path / "release" / SECOND, b"layers.1.bias")
    with pytest.raises(nnguard.errors.VerificationError, match=SECOND) as caught:
        nnguard.verify(tmp_path / "release", key.public_key)
    assert caught.value.tensors == ("layers.1.bias",)


def flip(path: Path, name: bytes) -> None:
    """Change the last bit of a tensor's unit."""
    data = bytearray(path.read_bytes())
    at = data.index(name)
    units = nnguard.Stream.open(path)
    end = next(unit.offset + unit.size for unit in units if unit.offset + unit.size > at)
    data[end - 1] ^= 1
    path.write_bytes(data)


def test_changed_shard(release: Path, trust: list[nnguard.PublicKey]) -> None:
    flip(release / THIRD, b"layers.2.bias")
    refused(release, trust, f"{THIRD}: .*changed")
    with pytest.raises(nnguard.errors.VerificationError) as caught:
        nnguard.verify(release, trust)
    assert "localize" in caught.value.hint


def test_missing_shard(release: Path, trust: list[nnguard.PublicKey]) -> None:
    (release / SECOND).unlink()
    refused(release, trust, f"missing: {SECOND}")


def test_shard_that_is_gone_from_folder_and_index(
    release: Path, trust: list[nnguard.PublicKey]
) -> None:
    (release / THIRD).unlink()
    weight_map = read_index(release)["weight_map"]
    write_map(release, {name: file for name, file in weight_map.items() if file != THIRD})
    refused(release, trust, f"{FIRST} is one of 3 shards, and there are 2")


def test_swapped_shards(release: Path, trust: list[nnguard.PublicKey]) -> None:
    (release / FIRST).rename(release / "x")
    (release / SECOND).rename(release / FIRST)
    (release / "x").rename(release / SECOND)
    refused(release, trust, f"{FIRST} is in the place of another shard")
    swapped = {FIRST: SECOND, SECOND: FIRST, THIRD: THIRD}
    weight_map = read_index(release)["weight_map"]
    write_map(release, {name: swapped[file] for name, file in weight_map.items()})
    refused(release, trust, f"{FIRST} is in the place of another shard")


def test_renamed_shards(release: Path, trust: list[nnguard.PublicKey]) -> None:
    """Names are signed: loaders go by them."""
    (release / THIRD).rename(release / "model-00004-of-00003.nnc")
    renamed = {FIRST: FIRST, SECOND: SECOND, THIRD: "model-00004-of-00003.nnc"}
    weight_map = read_index(release)["weight_map"]
    write_map(release, {name: renamed[file] for name, file in weight_map.items()})
    refused(release, trust, "not the one that was signed")


def test_shard_twice(release: Path, trust: list[nnguard.PublicKey]) -> None:
    (release / SECOND).write_bytes((release / FIRST).read_bytes())
    refused(release, trust, f"{SECOND} is in the place of another shard")


def test_shard_of_an_older_release(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    shutil.copy(built / "older" / SECOND, release / SECOND)
    refused(release, trust, f"not of the same release: {SECOND}$")


def test_shard_of_the_same_weights_with_other_claims(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    shutil.copy(built / "again" / SECOND, release / SECOND)
    refused(release, trust, f"{SECOND} has other claims")


def test_shard_by_another_trusted_key(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    """The same weights, claims and set, and yet not signed by the one who signed the rest."""
    shutil.copy(built / "partner" / SECOND, release / SECOND)
    refused(release, trust, f"{SECOND} has other claims")
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.verify(release, trust[:1])


def test_shard_that_was_signed_by_itself(
    built: Path, release: Path, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    alone = nnguard.sign(
        built / "streams" / SECOND, key, issuer="acme.ai", name="net", version="1.0", issued_at=WHEN
    )
    alone.save(release / SECOND, overwrite=True)
    refused(release, trust, f"{SECOND} was signed by itself")


def test_all_shards_signed_by_themselves(
    built: Path, release: Path, key: nnguard.SigningKey, trust: list[nnguard.PublicKey]
) -> None:
    for name in (FIRST, SECOND, THIRD):
        nnguard.sign(built / "streams" / name, key).save(release / name, overwrite=True)
    refused(release, trust, "signed by itself")


def test_shard_that_is_not_signed(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    shutil.copy(built / "streams" / SECOND, release / SECOND)
    with pytest.raises(nnguard.errors.NoRecordError):
        nnguard.verify(release, trust)


def test_set_by_someone_else(release: Path, other_key: nnguard.SigningKey) -> None:
    with pytest.raises(nnguard.errors.WrongKeyError):
        nnguard.verify(release, other_key.public_key)


def test_stray_stream(built: Path, release: Path, trust: list[nnguard.PublicKey]) -> None:
    shutil.copy(built / "older" / SECOND, release / "extra.nnc")
    refused(release, trust, "not part of the set: extra.nnc")


def test_other_files_may_lie_beside(release: Path, trust: list[nnguard.PublicKey]) -> None:
    (release / "config.json").write_text("{}")
    (release / "README.md").write_text("# Net")
    assert nnguard.verify(release, trust)


def move_tensor(weight_map: dict[str, str]) -> None:
    weight_map["layers.1.bias"] = FIRST


def remove_tensor(weight_map: dict[str, str]) -> None:
    del weight_map["layers.1.bias"]


def invent_tensor(weight_map: dict[str, str]) -> None:
    weight_map["layers.9.bias"] = FIRST


def rename_tensor(weight_map: dict[str, str]) -> None:
    weight_map["layers.1.b"] = weight_map.pop("layers.1.bias")


@pytest.mark.parametrize("change", [move_tensor, remove_tensor, invent_tensor, rename_tensor])
def test_changed_index(
    release: Path, trust: list[nnguard.PublicKey], change: Callable[[dict[str, str]], None]
) -> None:
    weight_map = read_index(release)["weight_map"]
    change(weight_map)
    write_map(release, weight_map)
    refused(release, trust, "index does not say where the tensors are")


def test_tensors_of_the_same_name(built: Path, key: nnguard.SigningKey, tmp_path: Path) -> None:
    """Two shards with one name: what is loaded would depend on the loader."""
    streams = tmp_path / "streams"
    shutil.copytree(built / "streams", streams)
    twin = shard_of(1) | {"layers.0.bias": np.ones(10, np.float32)}
    nnguard.compress(twin, SETTINGS).save(streams / SECOND, overwrite=True)
    with pytest.raises(
        nnguard.errors.FormatError, match="index does not say where the tensors are"
    ):
        nnguard.sign(streams, key)


def test_index_that_is_wrong_is_neither_signed_nor_decoded(
    built: Path, key: nnguard.SigningKey, tmp_path: Path
) -> None:
    streams = tmp_path / "streams"
    shutil.copytree(built / "streams", streams)
    index = streams / "model.nnc.index.json"
    index.write_text(index.read_text().replace("layers.0.bias", "layers.0.other"))
    for work in (
        lambda: nnguard.sign(streams, key),
        lambda: nnguard.decompress_to_file(streams, tmp_path / "restored"),
    ):
        with pytest.raises(
            nnguard.errors.FormatError, match="index does not say where the tensors are"
        ):
            work()
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize(
    "file",
    ["../secret.nnc", "/secret.nnc", "sub/model.nnc", "a\\b.nnc", "a\0.nnc", "model.bin", "", 7],
)
def test_index_leads_nowhere_else(
    release: Path, trust: list[nnguard.PublicKey], file: object
) -> None:
    shutil.copy(release / FIRST, release.parent / "secret.nnc")
    weight_map = read_index(release)["weight_map"]
    write_map(release, {**weight_map, "layers.0.bias": file})
    with pytest.raises(nnguard.errors.FormatError, match="is not an index"):
        nnguard.verify(release, trust)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": []}',
        b'{"weight_map": "model.nnc"}',
        b'{"weight_map": ["model.nnc"]}',
        b'{"weight_map": null}',
        b'{"weight_map": {"a": null}}',
        b'{"weight_map": {"a": {"model.nnc": 1}}}',
        b"[" * 100_000,
    ],
)
def test_malformed_index(release: Path, trust: list[nnguard.PublicKey], text: bytes) -> None:
    (release / STREAM_INDEX).write_bytes(text)
    with pytest.raises(nnguard.errors.FormatError, match="is not an index"):
        nnguard.verify(release, trust)


def test_index_that_is_too_long(release: Path, trust: list[nnguard.PublicKey]) -> None:
    with (release / STREAM_INDEX).open("r+b") as file:
        file.truncate((1 << 28) + 1)  # sparse
    with pytest.raises(nnguard.errors.LimitError, match="index"):
        nnguard.verify(release, trust)


def test_two_indexes_or_none(release: Path, trust: list[nnguard.PublicKey]) -> None:
    shutil.copy(release / STREAM_INDEX, release / "other.nnc.index.json")
    with pytest.raises(nnguard.errors.FormatError, match="has 2 files"):
        nnguard.verify(release, trust)
    (release / STREAM_INDEX).unlink()
    assert nnguard.verify(release, trust), "the index may have another name"
    (release / "other.nnc.index.json").unlink()
    with pytest.raises(nnguard.errors.FormatError, match="has 0 files"):
        nnguard.verify(release, trust)


def test_folder_that_is_none(tmp_path: Path, trust: list[nnguard.PublicKey]) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(NotADirectoryError):
            nnguard.StreamSet.open(path)


def test_shard_that_is_damaged(release: Path, trust: list[nnguard.PublicKey]) -> None:
    (release / SECOND).write_bytes((release / SECOND).read_bytes()[:-1])
    with pytest.raises(nnguard.errors.FormatError):
        nnguard.verify(release, trust)


def test_set_of_one(tmp_path: Path, key: nnguard.SigningKey) -> None:
    streams = tmp_path / "streams"
    streams.mkdir()
    nnguard.compress(shard_of(0), SETTINGS).save(streams / "model.nnc")
    write_map(streams, dict.fromkeys(shard_of(0), "model.nnc"))
    nnguard.sign(streams, key).save(tmp_path / "release")
    report = nnguard.verify(tmp_path / "release", key.public_key)
    assert list(report.shards) == ["model.nnc"]


def test_set_digest_depends_on_names_digests_and_number() -> None:
    one, two = bytes(32), bytes([1]) * 32
    sets: list[dict[str, bytes]] = [
        {},
        {"a": one},
        {"b": one},
        {"a": two},
        {"a": one, "b": two},
        {"a": two, "b": one},
        {"a": one, "b": one},
        {"ab": one},
    ]
    assert len({set_digest(digests) for digests in sets}) == len(sets)
    assert set_digest({"a": one, "b": two}) == set_digest({"b": two, "a": one})


def test_in_memory_set_is_what_was_read(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    streams = nnguard.StreamSet.open(release).in_memory()
    shutil.copy(built / "older" / SECOND, release / SECOND)
    assert nnguard.verify(streams, trust)
    refused(release, trust, SECOND)


@pytest.mark.parametrize("original", [False, True])
def test_what_was_verified_is_what_is_decoded(
    built: Path,
    release: Path,
    trust: list[nnguard.PublicKey],
    original: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The files change, where they lie, the moment after their signatures were checked."""
    torch = pytest.importorskip("torch")
    expected = nnguard.torch.load(release, trust, original=original)
    check = verify._check_digest

    def check_and_change(*arguments: Any) -> list[bytes]:
        digests = check(*arguments)
        for name in (FIRST, SECOND, THIRD):
            (release / name).write_bytes((built / "older" / name).read_bytes())
        return digests

    monkeypatch.setattr(verify, "_check_digest", check_and_change)
    state = nnguard.torch.load(release, trust, original=original)
    assert content(release)[FIRST] == content(built / "older")[FIRST]
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_release_may_replace_its_own_folder(
    built: Path, release: Path, trust: list[nnguard.PublicKey]
) -> None:
    before = content(release)
    original = nnguard.strip(release, trust)
    with pytest.raises(FileExistsError):
        original.save(release)
    assert content(release) == before
    original.save(release, overwrite=True)
    assert content(release) == content(built / "streams")


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_left_of_a_compression_that_fails(tmp_path: Path, workers: int) -> None:
    model = write_model(tmp_path / "model")
    arrays = shard_of(2)
    arrays["layers.2.bias"][3] = np.inf
    save_file(arrays, model / f"{NAMES[2]}.safetensors")
    with pytest.raises(nnguard.errors.ModelError, match=r"layers\.2\.bias has infinite"):
        nnguard.compress(model, workers=workers).save(tmp_path / "streams")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_shards_have_their_limit_together(tmp_path: Path) -> None:
    names = [f"{n}.safetensors" for n in range(3)]
    for name in names:
        save_file({name: np.zeros((1 << 8, 1 << 16), np.float32)}, tmp_path / name)
    index = {"weight_map": {name: name for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    nnguard.compress(tmp_path).save(tmp_path / "streams")
    with pytest.raises(
        nnguard.errors.LimitError, match="decode to 201326592, or take as long; limit 134217728"
    ):
        nnguard.decompress_to_file(tmp_path / "streams", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_nothing_is_left_of_a_decompression_that_fails(release: Path, tmp_path: Path) -> None:
    with pytest.raises(nnguard.errors.LimitError):
        nnguard.decompress_to_file(release, tmp_path / "restored", max_size=96_143)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    nnguard.decompress_to_file(release, tmp_path / "restored", max_size=96_144)
    before = content(tmp_path / "restored")
    with pytest.raises(FileExistsError):
        nnguard.decompress_to_file(release, tmp_path / "restored")
    assert content(tmp_path / "restored") == before


def test_nothing_is_left_of_a_release_that_cannot_be_saved(
    built: Path, tmp_path: Path, key: nnguard.SigningKey
) -> None:
    shutil.copytree(built / "streams", tmp_path / "streams")
    signed = nnguard.sign(tmp_path / "streams", key)
    with (tmp_path / "streams" / THIRD).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(nnguard.errors.FormatError, match="shorter"):
        signed.save(tmp_path / "release")
    assert [path.name for path in tmp_path.iterdir()] == ["streams"]


def test_index_of_the_model_has_to_fit(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    weight_map = read_index(model, SAFETENSORS_INDEX)["weight_map"]
    moved = {**weight_map, "layers.0.bias": f"{NAMES[1]}.safetensors"}
    less = {name: file for name, file in weight_map.items() if name != "layers.0.bias"}
    more = {**weight_map, "layers.0.gain": f"{NAMES[0]}.safetensors"}
    for changed in (moved, less, more):
        write_map(model, changed, SAFETENSORS_INDEX)
        with pytest.raises(
            nnguard.errors.ModelError, match=r"does not list the tensors of model-00001"
        ):
            nnguard.compress(model).save(tmp_path / "streams")
    write_map(model, {"a": "../model.safetensors"}, SAFETENSORS_INDEX)
    with pytest.raises(nnguard.errors.ModelError, match="is not an index"):
        nnguard.compress(model).save(tmp_path / "streams")
    write_map(model, weight_map, SAFETENSORS_INDEX)
    (model / f"{NAMES[1]}.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        nnguard.compress(model).save(tmp_path / "streams")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_settings_of_tensors_reach_their_shards(built: Path, tmp_path: Path) -> None:
    settings = nnguard.Settings(qp=-20, qp_per_tensor={"layers.1.weight": -30})
    nnguard.compress(built / "model", settings).save(tmp_path / "finer")
    before, after = content(built / "streams"), content(tmp_path / "finer")
    assert len(after[SECOND]) > len(before[SECOND])
    assert (after[FIRST], after[THIRD]) == (before[FIRST], before[THIRD])
    unknown = nnguard.Settings(qp_per_tensor={"layers.7.weight": -30})
    with pytest.raises(ValueError, match=r"layers\.7\.weight"):
        nnguard.compress(built / "model", unknown).save(tmp_path / "other")


def test_progress_counts_all_shards(built: Path, key: nnguard.SigningKey, tmp_path: Path) -> None:
    streams = nnguard.StreamSet.open(built / "streams")
    counted: list[int] = []
    signed = nnguard.sign(streams, key, progress=counted.append)
    assert sum(counted) == 2 * streams.size
    counted.clear()
    nnguard.verify(signed, key.public_key, progress=counted.append)
    assert sum(counted) == signed.size
    counted.clear()
    nnguard.decompress_to_file(signed, tmp_path / "restored", progress=counted.append)
    arrays = [array for at in range(3) for array in shard_of(at).values()]
    assert sum(counted) == sum(array.nbytes for array in arrays)


def test_key_that_signs_wrongly_signs_nothing(built: Path, key: nnguard.SigningKey) -> None:
    class Wrong:
        public_key = key.public_key

        def sign(self, data: bytes) -> bytes:
            return bytes(64)

    with pytest.raises(ValueError, match="signature"):
        nnguard.sign(built / "streams", Wrong())


@pytest.mark.parametrize(
    "text",
    [
        '{"weight_map": {"a": "x.nnc"}, "weight_map": MAP}',
        '{"weight_map": {"layers.0.bias": "x.nnc", REST}',
        '{"metadata": {"a": 1, "a": 2}, "weight_map": MAP}',
        '{"weight_map": MAP, "other": 1}',
        '{"weight_map": {"\\ud800": "x.nnc", REST}',
        '{"weight_map": {"a": "\\ud800.nnc", REST}',
        '{"weight_map": {"a": "\\udcff.nnc", REST}',
    ],
)
def test_index_that_says_more(release: Path, trust: list[nnguard.PublicKey], text: str) -> None:
    weight_map = json.dumps(read_index(release)["weight_map"])
    given = text.replace("MAP", weight_map).replace("REST", weight_map[1:])
    (release / STREAM_INDEX).write_text(given)
    (release / os.fsdecode(b"\xff.nnc")).write_bytes(b"")
    with pytest.raises(nnguard.errors.FormatError, match="is not an index"):
        nnguard.verify(release, trust)


@pytest.mark.parametrize("metadata", [{"note": "verified, they say"}, None, 0, []])
def test_metadata_of_an_index_would_not_be_verified(
    built: Path, release: Path, trust: list[nnguard.PublicKey], metadata: object
) -> None:
    weight_map = read_index(release)["weight_map"]
    index = {"metadata": metadata, "weight_map": weight_map}
    (release / STREAM_INDEX).write_text(json.dumps(index))
    with pytest.raises(nnguard.errors.FormatError, match="is not an index"):
        nnguard.verify(release, trust)
    assert read_index(built / "model", SAFETENSORS_INDEX)["metadata"], "others have metadata"


@pytest.mark.parametrize("name", ["x.NNC", "x.Nnc", ".nnc", "sub/x.nnc", "sub/.nnc", b"\xff.nnc"])
def test_stray_streams_and_folders(
    release: Path, trust: list[nnguard.PublicKey], name: str | bytes
) -> None:
    stray = release / os.fsdecode(name)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"")
    with pytest.raises(nnguard.errors.VerificationError, match="not part of the set") as caught:
        nnguard.verify(release, trust)
    str(caught.value).encode()
