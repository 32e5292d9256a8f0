"""The commands on folders of shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nnguard
import samples
import stock
from nnguard._base.atomic import make_folder_atomically
from nnguard._models.index import is_set
from transcripts import Run

SHARDS = ("model-00001-of-00002", "model-00002-of-00002")
STREAMS = [f"{name}.nnc" for name in SHARDS]


@pytest.fixture
def run(run: Run) -> Run:
    """Run a command that is given as one line."""
    return lambda command: run(*command.split())


@pytest.fixture(autouse=True)
def shards(folder: Path) -> list[dict[str, stock.Array]]:
    """A folder of shards beside the keys: `model`."""
    (folder / "model").mkdir()
    rng = np.random.default_rng(2)
    arrays = [
        {
            f"{at}.weight": rng.normal(0, 0.05, (80, 100)).astype(np.float32),
            f"{at}.steps": np.array([at], np.int64),
        }
        for at in range(2)
    ]
    weight_map = {}
    for name, shard in zip(SHARDS, arrays, strict=True):
        save_file(shard, folder / "model" / f"{name}.safetensors")
        weight_map |= dict.fromkeys(shard, f"{name}.safetensors")
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model" / "model.safetensors.index.json").write_text(index)
    return arrays


@pytest.fixture
def released(run: Run, folder: Path) -> Path:
    """The folder with `streams` and `release` in it."""
    assert run("compress model -o streams --qp -20").code == 0
    sign = "sign streams -o release --key vendor.key --issuer acme.ai --name net --version 1.0"
    assert run(sign).code == 0
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def total(folder: Path, suffix: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*{suffix}"))


def test_a_model_in_shards_to_the_customer_and_back(
    run: Run, folder: Path, key: nnguard.SigningKey, shards: list[dict[str, stock.Array]]
) -> None:
    before = names(folder)
    result = run("compress model -o streams --qp -20")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(
        f"Compressed: streams, {total(folder / 'streams', '.nnc'):,} bytes"
    )
    assert names(folder / "streams") == [*STREAMS, "model.nnc.index.json"]

    result = run("sign streams -o release --key vendor.key --issuer acme.ai --name net")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Signed with key {key.public_key.id.hex()}: release, ")

    result = run("verify release --trust vendor.pub")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Verified: release\n")
    for shown in ("acme.ai", "net", *STREAMS):
        assert shown in result.out

    result = run("strip release -o original --trust vendor.pub")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Verified, and stripped: original, ")
    assert content(folder / "original") == content(folder / "streams")

    result = run("decompress release -o restored --trust vendor.pub")
    assert (result.code, result.err) == (0, "")
    assert names(folder / "restored") == names(folder / "model")
    for name, shard in zip(SHARDS, shards, strict=True):
        restored = load_file(folder / "restored" / f"{name}.safetensors")
        expected = stock.decode((folder / "release" / f"{name}.nnc").read_bytes())
        assert restored.keys() == shard.keys()
        for tensor, array in expected.items():
            assert np.array_equal(restored[tensor], array)
            assert restored[tensor].dtype == shard[tensor].dtype

    made = ["streams", "release", "original", "restored"]
    assert names(folder) == sorted([*before, *made]), "nothing else is left"


def test_signing_shards_of_safetensors_compresses_them_first(
    run: Run, folder: Path, key: nnguard.SigningKey
) -> None:
    before = names(folder)
    assert run("sign model -o release --key vendor.key --qp -20 --urq --localize").code == 0
    assert run("compress model -o streams --qp -20 --urq").code == 0
    assert run("strip release -o original --trust vendor.pub").code == 0
    assert content(folder / "original") == content(folder / "streams")
    assert names(folder) == sorted([*before, "release", "streams", "original"])


def test_single_shard_says_which_it_is(run: Run, released: Path) -> None:
    result = run(f"verify release/{STREAMS[1]} --trust vendor.pub")
    assert result.code == 0
    assert "shard       2 of 2" in result.out
    printed = json.loads(run(f"verify release/{STREAMS[1]} --trust vendor.pub --json").out)
    assert (printed["claims"]["shard"]["position"], printed["claims"]["shard"]["count"]) == (1, 2)


def test_json_of_every_command(run: Run, folder: Path, key: nnguard.SigningKey) -> None:
    def printed(command: str) -> dict[str, object]:
        result = run(f"{command} --json")
        assert (result.code, result.err) == (0, "")
        values: dict[str, object] = json.loads(result.out)
        assert values["ok"] is True
        return values

    values = printed("compress model -o streams --qp -20")
    assert values["file"] == "streams"
    assert values["size_before"] == total(folder / "model", ".safetensors")
    assert values["size"] == total(folder / "streams", ".nnc")
    values = printed("sign streams -o release --key vendor.key --name net")
    assert values["key_id"] == key.public_key.id.hex()
    assert values["size_before"] == total(folder / "streams", ".nnc")
    assert values["size"] == total(folder / "release", ".nnc")
    values = printed("verify release --trust vendor.pub")
    assert values["key_id"] == key.public_key.id.hex()
    assert isinstance(values["shards"], dict)
    assert list(values["shards"]) == STREAMS
    assert values["digest"] == values["shards"][STREAMS[0]]["claims"]["shard"]["set_digest"]
    values = printed("strip release -o original --trust vendor.pub")
    assert values["size"] == total(folder / "streams", ".nnc")
    values = printed("decompress release -o restored --trust vendor.pub")
    assert values["size_before"] == total(folder / "release", ".nnc")
    assert values["size"] == total(folder / "restored", ".safetensors")


@pytest.mark.parametrize(
    "command",
    [
        "compress model -o streams",
        "sign streams -o release --key vendor.key",
        "sign model -o release --key vendor.key --qp -20",
        "strip release -o streams --trust vendor.pub",
        "decompress release -o model --trust vendor.pub",
    ],
)
def test_folders_are_overwritten_only_by_force(run: Run, released: Path, command: str) -> None:
    output = released / command.split()[command.split().index("-o") + 1]
    before, beside = content(output), names(released)
    result = run(command)
    assert result.code == 1
    assert "exists already" in result.err
    for other in ("extra.txt", "extra.nnc", ".hidden", "folder/file"):
        (output / other).parent.mkdir(exist_ok=True)
        (output / other).write_text("mine")
        result = run(f"{command} --force")
        assert result.code == 1
        assert "holds more than a model's shards and their index" in result.err
        assert (output / other).read_text() == "mine"
        (output / other).unlink()
    (output / "folder").rmdir()
    assert content(output) == before
    assert run(f"{command} --force").code == 0
    assert names(released) == beside


def test_force_replaces_no_folder_of_streams_without_an_index(run: Run, released: Path) -> None:
    (released / "mine").mkdir()
    (released / "mine" / "model.nnc").write_bytes((released / "model.nnc").read_bytes())
    before = content(released / "mine")
    for command in ("compress model -o mine", "strip release -o mine --trust vendor.pub"):
        assert run(f"{command} --force").code == 1
        assert content(released / "mine") == before
    (released / "empty").mkdir()
    assert run("strip release -o empty --trust vendor.pub --force").code == 0
    (released / "link").symlink_to("streams")
    assert run("strip release -o link --trust vendor.pub --force").code == 1
    assert (released / "link").is_symlink()


def test_force_never_replaces_a_model_by_its_own_stream(run: Run, released: Path) -> None:
    before = content(released / "model")
    result = run("compress model -o model --force")
    assert (result.code, content(released / "model")) == (1, before)
    assert "is the model" in result.err


def test_what_comes_into_a_folder_meanwhile_is_kept(tmp_path: Path) -> None:
    """The folder is looked at again once nobody can put anything into it."""
    (tmp_path / "out").mkdir()
    is_ours = partial(is_set, suffix=".nnc")

    def make() -> None:
        with make_folder_atomically(tmp_path / "out", overwrite=True, is_ours=is_ours) as new:
            (new / "model.nnc").touch()
            (tmp_path / "out" / "late.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="holds more"):
        make()
    assert (tmp_path / "out" / "late.txt").read_text() == "mine"
    assert names(tmp_path / "out") == ["late.txt"]


def test_link_that_takes_a_folders_place_meanwhile_is_put_back(
    tmp_path: Path, released: Path
) -> None:
    """However late: here after the last look at what has the name."""
    shutil.copytree(released / "release", tmp_path / "out")
    shutil.copytree(released / "release", tmp_path / "other")
    before = content(tmp_path / "other")
    looks = []

    def is_ours(folder: Path) -> bool:
        looks.append(folder)
        if len(looks) == 2:
            shutil.rmtree(tmp_path / "out")
            (tmp_path / "out").symlink_to(tmp_path / "other")
        return True

    def make() -> None:
        with make_folder_atomically(tmp_path / "out", overwrite=True, is_ours=is_ours) as new:
            (new / "model.nnc").touch()

    with pytest.raises(FileExistsError, match="is not a folder"):
        make()
    assert (tmp_path / "out").is_symlink()
    assert content(tmp_path / "other") == before
    assert not list(tmp_path.glob(".*"))


def test_folder_that_appears_meanwhile_is_kept(tmp_path: Path, released: Path) -> None:
    """It is no less the user's for being a model."""

    def make() -> None:
        with make_folder_atomically(
            tmp_path / "out", overwrite=False, is_ours=partial(is_set, suffix=".nnc")
        ):
            shutil.copytree(released / "release", tmp_path / "out")

    with pytest.raises(FileExistsError, match="exists already"):
        make()
    assert content(tmp_path / "out") == content(released / "release")
    assert not list(tmp_path.glob(".*"))


def lose_a_shard(folder: Path) -> None:
    (folder / "release" / STREAMS[1]).unlink()


def swap_shards(folder: Path) -> None:
    (folder / "release" / STREAMS[0]).rename(folder / "release" / "x")
    (folder / "release" / STREAMS[1]).rename(folder / "release" / STREAMS[0])
    (folder / "release" / "x").rename(folder / "release" / STREAMS[1])


def add_a_stream(folder: Path) -> None:
    shutil.copy(folder / "release.nnc", folder / "release" / "extra.nnc")


def change_the_index(folder: Path) -> None:
    path = folder / "release" / "model.nnc.index.json"
    path.write_text(path.read_text().replace("0.steps", "0.stops"))


def damage_the_index(folder: Path) -> None:
    (folder / "release" / "model.nnc.index.json").write_text("{")


def lose_the_index(folder: Path) -> None:
    (folder / "release" / "model.nnc.index.json").unlink()


def unsign_a_shard(folder: Path) -> None:
    shutil.copy(folder / "streams" / STREAMS[0], folder / "release" / STREAMS[0])


def sign_a_shard_alone(folder: Path) -> None:
    key = nnguard.SigningKey.load("vendor.key")
    alone = nnguard.sign(folder / "streams" / STREAMS[0], key)
    alone.save(folder / "release" / STREAMS[0], overwrite=True)


def change_a_shard(folder: Path) -> None:
    path = folder / "release" / STREAMS[0]
    units = samples.split(path.read_bytes())
    at = next(index for index, unit in enumerate(units) if b"0.steps" in unit[:20])
    units[at] = units[at][:-1] + bytes([units[at][-1] ^ 1])
    path.write_bytes(b"".join(units))


def damage_a_shard(folder: Path) -> None:
    """The last byte is the end of the tensor that carries the signature."""
    path = folder / "release" / STREAMS[0]
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def cut_a_shard(folder: Path) -> None:
    path = folder / "release" / STREAMS[0]
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lose_a_shard, 8, f"missing: {STREAMS[1]}"),
        (swap_shards, 8, "in the place of another shard"),
        (add_a_stream, 8, "not part of the set: extra.nnc"),
        (change_the_index, 8, "index does not say"),
        (damage_the_index, 3, "is not an index"),
        (lose_the_index, 3, "it needs one"),
        (unsign_a_shard, 5, "not signed"),
        (sign_a_shard_alone, 8, "signed by itself"),
        (change_a_shard, 8, STREAMS[0]),
        (damage_a_shard, 3, f"{STREAMS[0]}: payload of tensor 0.weight is damaged"),
        (cut_a_shard, 3, "bytes where"),
    ],
)
def test_what_is_not_the_release_is_refused(
    run: Run, released: Path, change: Callable[[Path], None], code: int, message: str
) -> None:
    change(released)
    before = names(released)
    for command in (
        "verify release --trust vendor.pub",
        "strip release -o out --trust vendor.pub",
        "decompress release -o out --trust vendor.pub",
    ):
        result = run(command)
        assert (result.code, result.out) == (code, ""), command
        assert message in result.err
        failure = json.loads(run(f"{command} --json").out)
        assert failure["ok"] is False
        assert names(released) == before, "nothing is written"


def test_untrusted_release_is_refused(run: Run, released: Path) -> None:
    before = names(released)
    for command in ("verify release", "strip release -o out", "decompress release -o out"):
        assert run(f"{command} --trust other.pub").code == 7
        assert names(released) == before
    assert run("decompress release -o out").code == 0, "unverified, when nobody is trusted"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("compress model -o out --qp 9999", 2),
        ("compress model -o out --qp-of missing=-30", 2),
        ("compress model -o out --workers 0", 2),
        ("compress model -o no/such/out", 1),
        ("compress streams -o out", 12),
        ("sign model -o no/such/out --key vendor.key", 1),
        ("sign model -o out --key vendor.pub", 6),
        ("sign model -o out --key vendor.key --qp 30", 4),
        ("decompress streams -o out --max-size 31999", 11),
        ("decompress model -o out", 3),
        ("verify streams --trust vendor.pub", 5),
        ("verify model --trust vendor.pub", 3),
    ],
)
def test_failures_write_nothing(run: Run, released: Path, command: str, code: int) -> None:
    before = names(released)
    result = run(command)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("nnguard: ")
    assert names(released) == before


def test_shard_that_cannot_be_coded(run: Run, folder: Path) -> None:
    arrays = {"1.weight": np.full((4, 4), np.nan, np.float32), "1.steps": np.array([1])}
    save_file(arrays, folder / "model" / f"{SHARDS[1]}.safetensors")
    before = names(folder)
    for command in ("compress model -o out", "sign model -o out --key vendor.key"):
        result = run(command)
        assert result.code == 12
        assert "1.weight has NaN" in result.err
        assert names(folder) == before


def test_index_that_leads_elsewhere(run: Run, folder: Path) -> None:
    index = folder / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../model.safetensors"}}))
    assert run("compress model -o out").code == 12
    assert not (folder / "out").exists()


def test_options_reach_every_shard(run: Run, folder: Path) -> None:
    assert run("compress model -o a --qp -20 --qp-of 1.weight=-30 --fast").code == 0
    settings = nnguard.Settings(
        qp=-20, qp_per_tensor={"1.weight": -30}, parameter_optimization=False
    )
    nnguard.compress("model", settings).save("b")
    assert content(folder / "a") == content(folder / "b")


def test_force_replaces_no_file_by_a_folder(run: Run, folder: Path) -> None:
    before = (folder / "vendor.pub").read_bytes()
    result = run("compress model -o vendor.pub --force")
    assert result.code == 1
    assert "not a folder" in result.err
    assert (folder / "vendor.pub").read_bytes() == before


def test_errors_name_the_shard(run: Run, released: Path, folder: Path) -> None:
    release, streams = folder / "release", folder / "streams"
    (release / STREAMS[1]).write_bytes((streams / STREAMS[1]).read_bytes())
    result = run("verify release --trust vendor.pub")
    assert result.code == 5
    assert STREAMS[1] in result.err


def test_coding_options_need_something_to_code(run: Run, released: Path) -> None:
    result = run("sign streams -o again --key vendor.key --qp -20")
    assert result.code == 2
    assert "streams is compressed already" in result.err


def test_inspect_and_capacity_take_folders(run: Run, released: Path) -> None:
    text = run("inspect release").out
    for name in STREAMS:
        assert f"release/{name}: " in text
    assert text.count("record 1    signature of ") == 2
    shown = json.loads(run("inspect release --json").out)
    assert [*shown["shards"]] == STREAMS
    assert shown["shards"][STREAMS[0]]["records"][0]["kind"] == "signature"
    rooms = json.loads(run("capacity streams --json").out)["shards"]
    places = sum(room["places"] for room in rooms.values())
    assert f"{places:,} weights can hold bits" in run("capacity streams").out
    refused = run("inspect release --plot carrier.png")
    assert (refused.code, "name a file of the folder" in refused.err) == (2, True)


def test_folder_is_sold(run: Run, released: Path) -> None:
    """Locked by another network, licensed, unlocked; then by scrambling, and loaded."""
    assert run("keygen ada --identity").code == 0
    assert run("compress model -o weaker --qp -24").code == 0
    lock = "lock release -o trial --content-key content.key --key vendor.key"
    assert "the whole release in the clear" in run(f"{lock} --trial weaker").err
    for path in (released / "model").glob("*.safetensors"):  # stands for another network
        save_file({name: -array for name, array in load_file(path).items()}, path)
    assert run("compress model -o weaker --qp -24 --force").code == 0
    locked = json.loads(run(f"{lock} --trial weaker --json").out)
    size = sum((released / "release" / name).stat().st_size for name in STREAMS)
    assert (locked["size_before"], locked["tiers"][0]["carried"] > size / 2) == (size, True)
    assert run("verify trial --trust vendor.pub").code == 17
    assert run("verify trial --trust vendor.pub --allow-trial").code == 0
    assert json.loads(run("inspect trial --json").out)["shards"][STREAMS[1]]["records"][1] | {
        "carriers": []
    } == {
        "kind": "lock",
        "layer": 1,
        "size": json.loads(run(f"inspect trial/{STREAMS[1]} --json").out)["records"][1]["size"],
        "carriers": [],
        "unverified": {
            "tier": "full",
            "content_key_id": nnguard.ContentKey.load(released / "content.key").id.hex(),
            "shard": "2 of 2",
        },
    }
    issue = (
        "license issue trial -o ada.license --key vendor.key --content-key content.key --to ada.pub"
    )
    assert run(issue).code == 0
    unlock = "unlock trial -o full --license ada.license --identity ada.key --trust vendor.pub"
    assert "Unlocked: full" in run(unlock).out
    for name in STREAMS:
        assert (released / "full" / name).read_bytes() == (released / "release" / name).read_bytes()
    assert run("verify full --trust vendor.pub").code == 0
    assert run(f"{unlock} --force --watermark").code == 2
    assert run(f"{lock} --force --target 0.4 --evaluate score.py:score --soft").code in {1, 2}
    (released / "trial" / STREAMS[0]).write_bytes((released / "trial" / STREAMS[1]).read_bytes())
    refused = run(f"{unlock} --force")
    assert (refused.code, STREAMS[0] in refused.err) == (8, True)


def test_key_of_a_folder_that_cannot_be_written_is_not_left(run: Run, released: Path) -> None:
    (released / "trial").mkdir()
    (released / "trial" / "notes.txt").write_text("mine")
    lock = "lock release -o trial --content-key content.key --force"
    assert run(lock).code == 1
    assert not (released / "content.key").exists()
