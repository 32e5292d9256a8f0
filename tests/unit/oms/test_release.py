"""A release has both: the signature in its weights, and a bundle beside its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import nnguard
import stock
from nnguard._models import side_files
from nnguard._models.stream_set import STREAM_INDEX
from nnguard._oms.envelope import seal
from nnguard._oms.statement import Statement
from nnguard._stream.source import FileSource
from nnguard.errors import ArgumentError, KeyFormatError, VerificationError
from nnguard.oms import Bundle
from samples import small_network

SHARDS = ("a.nnc", "b.nnc")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, key: nnguard.SigningKey, keys: Path) -> Path:
    """`release`, its bundle in it; and `streams`, of which it was made."""
    folder = tmp_path_factory.mktemp("release")
    streams = {name: nnguard.Stream.from_bytes(_shard(name)) for name in SHARDS}
    nnguard.StreamSet.of(streams).save(folder / "streams")
    (folder / "streams" / "config.json").write_text("{}")
    (folder / "streams" / "code").mkdir()
    (folder / "streams" / "code" / "run.py").write_text("pass")
    release = nnguard.sign(folder / "streams", key, name="two")
    bundle = folder / "release" / "model.sig"
    nnguard.oms.save(release, folder / "release", bundle, keys / "oms.key")
    return folder


def _shard(name: str) -> bytes:
    network = small_network(seed=SHARDS.index(name))
    tensors = {f"{name}.{tensor}": values for tensor, values in network.items()}
    return stock.encode(tensors, qp=-20, dependent=True)


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built / "release", tmp_path / "release")


@pytest.fixture
def bundle(folder: Path, keys: Path) -> Bundle:
    return Bundle.open(folder / "model.sig", keys / "oms.pub")


def test_report_names_the_bundle(folder: Path, bundle: Bundle, key: nnguard.SigningKey) -> None:
    report = nnguard.verify(folder, key.public_key, oms=bundle)
    assert report.oms == bundle
    assert report.not_covered == ()
    assert report.to_json()["oms"] == {"key_id": bundle.key_id, "name": "release", "files": 5}
    assert bundle.key_id in report._repr_html_()
    without = nnguard.verify(folder, key.public_key)
    assert (without.oms, without.not_covered) == (None, ("model.sig",))
    assert "oms" not in without.to_json()


def test_each_byte_is_read_once(
    folder: Path, bundle: Bundle, key: nnguard.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole files are hashed nowhere but in the pass that verifies them."""
    opened: list[Path] = []
    open_source = FileSource.__init__

    def spy(self: FileSource, path: Path) -> None:
        opened.append(Path(path))
        open_source(self, path)

    monkeypatch.setattr(FileSource, "__init__", spy)
    nnguard.verify(folder, key.public_key, oms=bundle)
    files = [folder / name for name in (*SHARDS, "config.json", "code/run.py")]
    assert sorted(opened) == sorted(files)


def test_what_both_signatures_do_not_know(
    folder: Path, bundle: Bundle, key: nnguard.SigningKey
) -> None:
    (folder / ".gitattributes").write_text("")
    report = nnguard.verify(folder, key.public_key, oms=bundle)
    assert report.not_covered == (".gitattributes",)
    (folder / "notes.txt").write_text("")
    with pytest.raises(VerificationError, match=r"does not list: notes\.txt"):
        nnguard.verify(folder, key.public_key, oms=bundle)


def test_every_verb_that_verifies(
    folder: Path, bundle: Bundle, key: nnguard.SigningKey, tmp_path: Path
) -> None:
    trust = key.public_key
    torch = pytest.importorskip("nnguard.torch")
    nnguard.strip(folder, trust, oms=bundle)
    assert nnguard.gate(folder, tmp_path / "served", trust, oms=bundle).oms == bundle
    assert torch.load(folder, trust, oms=bundle).report.oms == bundle
    (folder / "added.txt").write_text("")
    for verb in (
        lambda: nnguard.strip(folder, trust, oms=bundle),
        lambda: nnguard.gate(folder, tmp_path / "refused", trust, oms=bundle),
        lambda: torch.load(folder, trust, oms=bundle),
    ):
        with pytest.raises(VerificationError, match="does not list: added"):
            verb()
    assert not (tmp_path / "refused").exists()


def test_bundle_of_a_trial(
    folder: Path, key: nnguard.SigningKey, keys: Path, tmp_path: Path
) -> None:
    """It is of the files that come, and not of what a license makes of them."""
    trust, mine = key.public_key, nnguard.Identity.generate()
    torch = pytest.importorskip("nnguard.torch")
    locked = nnguard.lock(folder, signer=key, soft=nnguard.Soft(fraction=0.002))
    trial, path = tmp_path / "trial", tmp_path / "trial.sig"
    nnguard.oms.save(locked.trial, trial, path, keys / "oms.key")
    license_ = nnguard.licensing.issue(trial, locked.content_key, to=mine.recipient, signer=key)
    bundle = Bundle.open(path, keys / "oms.pub")
    sale = {"license": license_, "identity": mine, "trust": trust, "oms": bundle}
    nnguard.unlock(trial, **sale)
    assert nnguard.gate(trial, tmp_path / "served", **sale).oms == bundle
    assert torch.load(trial, **sale).report.oms == bundle
    (trial / "added.txt").write_text("")
    for verb in (
        lambda: nnguard.unlock(trial, **sale),
        lambda: nnguard.gate(trial, tmp_path / "refused", **sale),
        lambda: torch.load(trial, **sale),
    ):
        with pytest.raises(VerificationError, match="does not list: added"):
            verb()
    assert not (tmp_path / "refused").exists()


def test_index_in_another_form(folder: Path, bundle: Bundle, key: nnguard.SigningKey) -> None:
    index = folder / STREAM_INDEX
    index.write_text(json.dumps(json.loads(index.read_text())))
    nnguard.verify(folder, key.public_key)
    with pytest.raises(VerificationError, match=r"bundle signed: model\.nnc\.index"):
        nnguard.verify(folder, key.public_key, oms=bundle)


def test_another_release_of_the_same_vendor(
    folder: Path, bundle: Bundle, built: Path, key: nnguard.SigningKey
) -> None:
    other = nnguard.sign(built / "streams", key, name="two", version="2")
    for name, stream in other.streams.items():
        stream.save(folder / name, overwrite=True)
    nnguard.verify(folder, key.public_key)
    with pytest.raises(VerificationError, match=r"bundle signed: a\.nnc, b\.nnc"):
        nnguard.verify(folder, key.public_key, oms=bundle)


def test_bundle_that_leaves_files_of_the_release_out(
    folder: Path, bundle: Bundle, key: nnguard.SigningKey, keys: Path
) -> None:
    for left_out in (SHARDS[0], STREAM_INDEX, "code"):
        files = {
            name: digest
            for name, digest in bundle.files.items()
            if not Statement("", {}, (left_out,)).ignores(name)
        }
        statement = Statement("two", files, (left_out,))
        sealed = seal(statement.encode(), nnguard.SigningKey.load(keys / "oms.key"))
        (folder / "model.sig").write_bytes(sealed)
        own = Bundle.open(folder / "model.sig", keys / "oms.pub")
        assert own.check(folder)
        with pytest.raises(VerificationError, match=f"leaves out: {left_out}"):
            nnguard.verify(folder, key.public_key, oms=own)


def test_bundle_of_an_unsigned_model_does_not_make_it_signed(
    built: Path, tmp_path: Path, key: nnguard.SigningKey, keys: Path
) -> None:
    nnguard.oms.sign(built / "streams", tmp_path / "s.sig", keys / "oms.key")
    bundle = Bundle.open(tmp_path / "s.sig", keys / "oms.pub")
    assert bundle.check(built / "streams") == ()
    with pytest.raises(nnguard.errors.NoRecordError):
        nnguard.verify(built / "streams", key.public_key, oms=bundle)


def test_one_file(
    tmp_path: Path, release: nnguard.Stream, key: nnguard.SigningKey, keys: Path
) -> None:
    nnguard.oms.save(release, tmp_path / "one.nnc", tmp_path / "one.sig", keys / "oms.key")
    bundle = Bundle.open(tmp_path / "one.sig", keys / "oms.pub")
    assert list(bundle.files) == ["one.nnc"]
    for model in (tmp_path / "one.nnc", bytes(release)):
        assert nnguard.verify(model, key.public_key, oms=bundle).oms is bundle
    again = nnguard.sign(release, key, name="again")
    with pytest.raises(VerificationError, match=r"bundle signed: one\.nnc"):
        nnguard.verify(again, key.public_key, oms=bundle)


def test_one_file_of_a_folder(folder: Path, bundle: Bundle, key: nnguard.SigningKey) -> None:
    with pytest.raises(VerificationError, match="lists 5 files"):
        nnguard.verify(folder / SHARDS[0], key.public_key, oms=bundle)


def test_set_that_was_never_in_a_folder(
    folder: Path, bundle: Bundle, key: nnguard.SigningKey
) -> None:
    opened = nnguard.StreamSet.open(folder)
    assert nnguard.verify(opened.in_memory(), key.public_key, oms=bundle).oms is bundle
    bare = nnguard.StreamSet(opened.weight_map, opened.streams, opened.files)
    with pytest.raises(ArgumentError, match="open the set from one"):
        nnguard.verify(bare, key.public_key, oms=bundle)


def test_wrong_types(folder: Path, key: nnguard.SigningKey) -> None:
    with pytest.raises(TypeError, match="oms"):
        nnguard.verify(folder, key.public_key, oms="model.sig")  # type: ignore[arg-type]


def test_places_of_a_bundle(
    built: Path, tmp_path: Path, key: nnguard.SigningKey, keys: Path
) -> None:
    release = nnguard.sign(built / "streams", key, name="two")
    own = keys / "oms.key"
    for name in ("config.json", STREAM_INDEX, "c.nnc", ".sig"):
        with pytest.raises(ArgumentError, match="is a file of the release"):
            nnguard.oms.save(release, tmp_path / "r", tmp_path / "r" / name, own)
    single = release.streams[SHARDS[0]]
    with pytest.raises(ArgumentError, match="a file of its own"):
        nnguard.oms.save(single, tmp_path / "r", tmp_path / "r", own)
    with pytest.raises(FileNotFoundError):
        nnguard.oms.save(release, tmp_path / "r", tmp_path / "none" / "a.sig", own)
    assert not [*tmp_path.iterdir()]


def test_overwriting(folder: Path, built: Path, key: nnguard.SigningKey, keys: Path) -> None:
    release = nnguard.sign(built / "streams", key, name="two", version="2")
    place, own = folder / "model.sig", keys / "oms.key"
    with pytest.raises(FileExistsError):
        nnguard.oms.save(release, folder, place, own)
    nnguard.oms.save(release, folder, place, own, overwrite=True)
    bundle = Bundle.open(place, keys / "oms.pub")
    assert nnguard.verify(folder, key.public_key, oms=bundle).claims.version == "2"
    beside = folder.parent / "beside.sig"
    beside.write_text("something")
    place.unlink()
    with pytest.raises(FileExistsError):
        nnguard.oms.save(release, folder, beside, own)
    nnguard.oms.save(release, folder, beside, own, overwrite=True)
    bundle = Bundle.open(beside, keys / "oms.pub")
    assert nnguard.verify(folder, key.public_key, oms=bundle).not_covered == ()


def test_nothing_is_left_where_a_file_changes_before_it_is_written(
    built: Path, tmp_path: Path, key: nnguard.SigningKey, keys: Path
) -> None:
    shutil.copytree(built / "streams", tmp_path / "s")
    release = nnguard.sign(tmp_path / "s", key, name="two")
    (tmp_path / "s" / "config.json").write_text("{1}")
    with pytest.raises(VerificationError, match=r"config\.json"):
        nnguard.oms.save(release, tmp_path / "r", tmp_path / "r.sig", keys / "oms.key")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_signing_a_folder(tmp_path: Path, keys: Path) -> None:
    own, empty = keys / "oms.key", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArgumentError, match="no files"):
        nnguard.oms.sign(empty, tmp_path / "a.sig", own)
    (empty / "a\\b").write_text("")
    with pytest.raises(ArgumentError, match="not the name of a file"):
        nnguard.oms.sign(empty, tmp_path / "a.sig", own)
    (empty / "a\\b").rename(empty / "a")
    (empty / "link").symlink_to("a")
    with pytest.raises(ArgumentError, match="symbolic link"):
        nnguard.oms.sign(empty, tmp_path / "a.sig", own)
    (empty / "link").unlink()
    nnguard.oms.sign(empty, empty / "model.sig", own)
    with pytest.raises(FileExistsError):
        nnguard.oms.sign(empty, empty / "model.sig", own)
    (empty / ".git").mkdir()
    (empty / ".git" / "HEAD").write_text("")
    nnguard.oms.sign(empty, empty / "model.sig", own, overwrite=True)
    bundle = Bundle.open(empty / "model.sig", keys / "oms.pub")
    assert (list(bundle.files), bundle.check(empty)) == (["a"], (".git/",))


def test_keys_that_sign_no_bundles(tmp_path: Path, key: nnguard.SigningKey) -> None:
    (tmp_path / "f").mkdir()
    key.save(tmp_path / "vendor.key")
    with pytest.raises(KeyFormatError, match="P-256"):
        nnguard.oms.sign(tmp_path / "f", tmp_path / "a.sig", tmp_path / "vendor.key")


def test_folder_with_too_many_files(
    folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_files, "_MOST", 3)
    with pytest.raises(nnguard.errors.LimitError):
        bundle.check(folder)


def test_signer_whose_signatures_are_not_its_own(tmp_path: Path, plain: Path) -> None:
    class Token:
        public_key = nnguard.SigningKey.generate("p256").public_key

        def sign(self, data: bytes) -> bytes:
            return nnguard.SigningKey.generate("p256").sign(data)

    with pytest.raises(ArgumentError, match=r"^the signer's signature does not verify"):
        nnguard.oms.sign(plain, tmp_path / "a.sig", Token())
    assert not (tmp_path / "a.sig").exists()
