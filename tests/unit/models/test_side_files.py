"""Files beside the streams of a set: signed, kept, and named where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import nnguard
from nnguard._models.index import SAFETENSORS_INDEX
from nnguard._models.side_files import is_side_name
from nnguard._models.stream_set import STREAM_INDEX
from nnguard.errors import LimitError

SETTINGS = nnguard.Settings(qp=-20)
BESIDE = {
    "config.json": b'{"hidden_size": 384}',
    "tokenizer/vocab.txt": b"[PAD]\n[UNK]\n",
    "empty.txt": b"",
}
LEFT_OUT = {".gitattributes": b"*", "pytorch_model.bin": b"once more", "model.onnx": b"as well"}


def write_model(folder: Path, seed: int = 0, size: int = 120) -> Path:
    """Write a folder as model hubs have them."""
    rng = np.random.default_rng(seed)
    weight_map = {}
    for at in range(2):
        name = f"layers.{at}.weight"
        file = f"model-{at}.safetensors"
        folder.mkdir(exist_ok=True)
        save_file({name: rng.laplace(0, 0.05, (size, 40)).astype(np.float32)}, folder / file)
        weight_map[name] = file
    (folder / SAFETENSORS_INDEX).write_text(json.dumps({"weight_map": weight_map}))
    put(folder, BESIDE)
    return folder


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def beside(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that are neither streams nor the index."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    ours = (".nnc", ".safetensors", ".index.json")
    return {name: data for name, data in found.items() if not name.endswith(ours)}


@pytest.fixture
def release(tmp_path: Path, key: nnguard.SigningKey) -> Path:
    """A signed folder."""
    model = nnguard.compress(write_model(tmp_path / "model"), SETTINGS)
    nnguard.sign(model, key, name="net").save(tmp_path / "release")
    return tmp_path / "release"


def test_folder_is_covered_whole(release: Path, key: nnguard.SigningKey) -> None:
    report = nnguard.verify(release, key.public_key)
    assert beside(release) == BESIDE
    assert report.not_covered == ()
    index = json.loads((release / STREAM_INDEX).read_text())
    assert sorted(index["files"]) == sorted(BESIDE)


def test_what_compress_leaves_out_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    put(folder, {**LEFT_OUT, ".git/objects/1": b"", ".git/objects/2": b""})
    model = nnguard.compress(folder, SETTINGS)
    assert isinstance(model, nnguard.StreamSet)
    named = {name for name in model.others if not name.endswith((".safetensors", ".index.json"))}
    assert named == {*LEFT_OUT, ".git/"}
    assert sorted(model.files) == sorted(BESIDE)


@pytest.mark.parametrize("name", list(BESIDE))
def test_changed_file_is_refused(release: Path, key: nnguard.SigningKey, name: str) -> None:
    (release / name).write_bytes(b"{}")
    for refuse in (nnguard.verify, nnguard.strip):
        with pytest.raises(nnguard.errors.VerificationError, match=f"changed after.*{name}"):
            refuse(release, key.public_key)


def test_missing_file_is_refused(release: Path, key: nnguard.SigningKey) -> None:
    (release / "config.json").unlink()
    with pytest.raises(nnguard.errors.VerificationError, match=r"missing: config\.json"):
        nnguard.verify(release, key.public_key)


@pytest.mark.parametrize("how", ["forgets a file", "lists one more", "lists another digest"])
def test_changed_list_is_refused(release: Path, key: nnguard.SigningKey, how: str) -> None:
    path = release / STREAM_INDEX
    index = json.loads(path.read_text())
    match how:
        case "forgets a file":
            del index["files"]["config.json"]
        case "lists one more":
            (release / "more.py").write_bytes(b"")
            index["files"]["more.py"] = index["files"]["empty.txt"]
        case _:
            (release / "config.json").write_bytes(b"")
            index["files"]["config.json"] = index["files"]["empty.txt"]
    path.write_text(json.dumps(index))
    with pytest.raises(nnguard.errors.VerificationError, match="not the one that was signed"):
        nnguard.verify(release, key.public_key)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a//b", ".hidden", "a/.b", "a\\b", "x.nnc", "a/X.NNC", "", "a/"]
)
def test_names_that_no_file_of_a_set_has(release: Path, key: nnguard.SigningKey, name: str) -> None:
    assert not is_side_name(name)
    index = json.loads((release / STREAM_INDEX).read_text())
    index["files"][name] = "00" * 32
    (release / STREAM_INDEX).write_text(json.dumps(index))
    with pytest.raises(nnguard.errors.FormatError, match="not an index"):
        nnguard.verify(release, key.public_key)


@pytest.mark.parametrize("digest", ["00" * 31, "AB" * 32, "zz" * 32, " " + "00" * 32, 1, None])
def test_digests_that_are_none(release: Path, key: nnguard.SigningKey, digest: object) -> None:
    index = json.loads((release / STREAM_INDEX).read_text())
    index["files"]["config.json"] = digest
    (release / STREAM_INDEX).write_text(json.dumps(index))
    with pytest.raises(nnguard.errors.FormatError, match="not an index"):
        nnguard.verify(release, key.public_key)


def test_file_that_was_added_is_named(release: Path, key: nnguard.SigningKey) -> None:
    put(release, {"README.md": b"#", "more/notes.txt": b"", ".cache/x": b""})
    report = nnguard.verify(release, key.public_key)
    assert report.not_covered == (".cache/", "README.md", "more/notes.txt")
    assert report.to_json()["not_covered"] == list(report.not_covered)


def test_signing_covers_what_was_added(release: Path, key: nnguard.SigningKey) -> None:
    put(release, {"README.md": b"# Net\n", ".cache/x": b""})
    nnguard.sign(release, key).save(release.parent / "again")
    report = nnguard.verify(release.parent / "again", key.public_key)
    assert report.not_covered == ()
    assert beside(release.parent / "again") == {**BESIDE, "README.md": b"# Net\n"}


def test_original_and_weights_keep_their_files(release: Path, key: nnguard.SigningKey) -> None:
    folder = release.parent
    nnguard.strip(release, key.public_key).save(folder / "original")
    assert beside(folder / "original") == BESIDE
    nnguard.decompress_to_file(release, folder / "weights")
    assert beside(folder / "weights") == BESIDE
    nnguard.decompress_to_file(release, folder / "weights", overwrite=True)
    put(folder / "weights", {"mine.txt": b"mine"})
    with pytest.raises(FileExistsError):
        nnguard.decompress_to_file(release, folder / "weights", overwrite=True)


def test_files_that_change_while_they_are_written(release: Path, key: nnguard.SigningKey) -> None:
    original = nnguard.strip(release, key.public_key)
    (release / "config.json").write_bytes(b"another")
    with pytest.raises(nnguard.errors.VerificationError, match=r"config\.json"):
        original.save(release.parent / "original")
    assert not (release.parent / "original").exists()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["scrambled", "by another", "both", "twice by another"])
def test_unlocked_folder_has_the_files_of_the_release(
    release: Path, key: nnguard.SigningKey, kind: str, signed: bool
) -> None:
    folder = release.parent
    if not signed:
        nnguard.strip(release, key.public_key).save(folder / "unsigned")
        release = folder / "unsigned"
    weaker = nnguard.compress(write_model(folder / "weak", seed=1, size=300), SETTINGS)
    weaker.save(folder / "weaker")
    put(folder / "weaker", {"config.json": b"{}", "weak.txt": b"weak"})
    weaker = folder / "weaker"
    weakest = nnguard.compress(write_model(folder / "weakest", seed=2, size=700), SETTINGS)
    tiers = {
        "scrambled": [nnguard.Tier("full")],
        "by another": [nnguard.Tier("full", trial=weaker)],
        "both": [nnguard.Tier("full", trial=weaker), nnguard.Tier("less")],
        "twice by another": [
            nnguard.Tier("full", trial=weaker),
            nnguard.Tier("less", trial=weakest),
        ],
    }[kind]
    if "by another" in kind or kind == "both":
        index = json.loads((weaker / STREAM_INDEX).read_text())
        del index["files"]  # it was made before, say
        (weaker / STREAM_INDEX).write_text(json.dumps(index))
    locks = nnguard.lock_tiers(release, tiers, signer=key)
    locks[-1].trial.save(folder / "trial")
    assert nnguard.verify(folder / "trial", key.public_key, allow_trial=True).not_covered == ()
    customer = nnguard.Identity.generate()
    license_ = nnguard.licensing.issue(
        folder / "trial",
        locks[0].content_key,
        to=customer.recipient,
        signer=key,
        terms=nnguard.licensing.Terms(tier="full"),
    )
    nnguard.unlock(folder / "trial", license_, customer, key.public_key).save(folder / "full")
    assert beside(folder / "full") == BESIDE
    if signed:
        assert nnguard.verify(folder / "full", key.public_key).not_covered == ()


def test_deep_folders_and_countless_ones_are_walked(
    release: Path, key: nnguard.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [release / "/".join("d" * depth) for depth in range(1, 1201)]
    for folder in folders:
        folder.mkdir()
    assert nnguard.verify(release, key.public_key).not_covered == ()
    monkeypatch.setattr("nnguard._models.side_files._MOST", 1000)
    with pytest.raises(LimitError, match="more than 1000 files and folders"):
        nnguard.verify(release, key.public_key)
    for folder in reversed(folders):  # deeper than what clears up after tests can go
        folder.rmdir()


def test_side_files_are_not_all_open_at_once(tmp_path: Path, key: nnguard.SigningKey) -> None:
    folder = write_model(tmp_path / "model")
    put(folder, {f"many/{at}.txt": b"" for at in range(200)})
    before = len(list(Path("/proc/self/fd").iterdir()))
    model = nnguard.compress(folder, SETTINGS)
    nnguard.sign(model, key).save(tmp_path / "signed")
    opened = nnguard.StreamSet.open(tmp_path / "signed")
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 100
    assert len(opened.files) == len(BESIDE) + 200
    nnguard.verify(opened, key.public_key)
