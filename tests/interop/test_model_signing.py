"""model_signing, OpenSSF's own tool, verifies our bundles, and we verify its.

It runs in an environment of its own, which `make test` makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnguard
import oms_flips
from ecdsa_keys import CURVES, write_key
from nnguard.errors import VerificationError
from nnguard.oms import Bundle

PEER = Path(__file__).parents[2] / ".venv" / "model_signing" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PEER.exists(), reason="no model_signing: make test installs it")


def peer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command of model_signing."""
    return subprocess.run(
        [PEER, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def peer_signs(folder: Path, bundle: Path, key: Path, *more: str) -> None:
    done = peer("sign", "key", folder, "--signature", bundle, "--private_key", key, *more)
    assert done.returncode == 0, done.stderr


def peer_verifies(folder: Path, bundle: Path, key: Path, *more: str) -> bool:
    done = peer("verify", "key", folder, "--signature", bundle, "--public_key", key, *more)
    assert "Traceback" not in done.stderr
    return done.returncode == 0


@pytest.fixture
def release(tmp_path: Path, model: nnguard.Stream, key: nnguard.SigningKey) -> nnguard.StreamSet:
    """A set of one shard and two files, signed."""
    folder = tmp_path / "streams"
    nnguard.StreamSet.of({"model-00001-of-00001.nnc": model}).save(folder)
    (folder / "config.json").write_text("{}")
    (folder / "code").mkdir()
    (folder / "code" / "run.py").write_text("pass")
    return nnguard.sign(nnguard.StreamSet.open(folder), key, name="small")


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("curve", CURVES)
def test_they_verify_ours_and_we_theirs(
    tmp_path: Path, release: nnguard.StreamSet, key: nnguard.SigningKey, curve: str, inside: bool
) -> None:
    write_key(tmp_path, "oms", curve)
    private, public = tmp_path / "oms.key", tmp_path / "oms.pub"
    folder = tmp_path / "release"
    ours = folder / "model.sig" if inside else tmp_path / "ours.sig"
    if curve == "P-521":  # which we verify, and do not sign with
        release.save(folder)
    else:
        nnguard.oms.save(release, folder, ours, private)
        assert peer_verifies(folder, ours, public)
        ours.unlink()
    theirs = folder / "theirs.sig" if inside else tmp_path / "theirs.sig"
    peer_signs(folder, theirs, private)
    bundle = Bundle.open(theirs, public)
    assert nnguard.verify(folder, key.public_key, oms=bundle).oms is bundle
    assert bundle.name == "release"
    (folder / "code" / "run.py").write_text("fail")
    assert not peer_verifies(folder, theirs, public)
    with pytest.raises(VerificationError):
        nnguard.verify(folder, key.public_key, oms=bundle)


def test_same_files_make_the_same_resources(tmp_path: Path, release: nnguard.StreamSet) -> None:
    write_key(tmp_path)
    folder, private = tmp_path / "release", tmp_path / "oms.key"
    nnguard.oms.save(release, folder, tmp_path / "ours.sig", private)
    peer_signs(folder, tmp_path / "theirs.sig", private)
    ours, theirs = (
        Bundle.open(tmp_path / name, tmp_path / "oms.pub") for name in ("ours.sig", "theirs.sig")
    )
    assert list(ours.files.items()) == list(theirs.files.items())
    assert ours.key_id == theirs.key_id


def test_one_file(tmp_path: Path, release: nnguard.StreamSet, key: nnguard.SigningKey) -> None:
    """Ours names the file, as the specification says; theirs calls it a dot."""
    write_key(tmp_path)
    private, public = tmp_path / "oms.key", tmp_path / "oms.pub"
    (stream,) = release.streams.values()
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / "model.nnc"
    nnguard.oms.save(stream, file, tmp_path / "one" / "model.sig", private)
    assert peer_verifies(tmp_path / "one", tmp_path / "one" / "model.sig", public)
    assert not peer_verifies(file, tmp_path / "one" / "model.sig", public)
    peer_signs(file, tmp_path / "theirs.sig", private)
    bundle = Bundle.open(tmp_path / "theirs.sig", public)
    assert list(bundle.files) == ["."]
    assert nnguard.verify(file, key.public_key, oms=bundle).oms is bundle
    own = Bundle.open(tmp_path / "one" / "model.sig", public)
    assert own.check(tmp_path / "one") == ()
    with pytest.raises(VerificationError, match="missing"):
        bundle.check(tmp_path / "one")


@pytest.mark.parametrize(
    "change", ["changed", "missing", "added", "added and hidden", "a symbolic link", "renamed"]
)
def test_both_refuse(tmp_path: Path, release: nnguard.StreamSet, change: str) -> None:
    write_key(tmp_path)
    folder, bundle, public = tmp_path / "release", tmp_path / "r.sig", tmp_path / "oms.pub"
    nnguard.oms.save(release, folder, bundle, tmp_path / "oms.key")
    config = folder / "config.json"
    if change == "changed":
        config.write_text("{1}")
    elif change == "missing":
        config.unlink()
    elif change.startswith("added"):
        (folder / (".new" if "hidden" in change else "new")).write_text("")
    elif change == "renamed":
        config.rename(folder / "config2.json")
    else:
        shutil.move(config, tmp_path / "config.json")
        config.symlink_to(tmp_path / "config.json")
    assert not peer_verifies(folder, bundle, public)
    with pytest.raises(VerificationError):
        Bundle.open(bundle, public).check(folder)


def test_their_other_serializations_are_refused(tmp_path: Path, release: nnguard.StreamSet) -> None:
    """Of a model_signing that hashes files in shards, or by BLAKE3."""
    write_key(tmp_path)
    release.save(tmp_path / "release")
    program = (
        "import sys, pathlib, model_signing as ms\n"
        "folder, sig, key = sys.argv[1:4]\n"
        "hashing = getattr(ms.hashing.Config(), sys.argv[4])(hashing_algorithm=sys.argv[5])\n"
        "config = ms.signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(key))\n"
        "config.set_hashing_config(hashing).sign(folder, sig)\n"
    )
    for method, algorithm, message in (
        ("use_file_serialization", "blake3", "kind of hash"),
        ("use_shard_serialization", "sha256", "extra member: 'shard_size'"),
    ):
        theirs = tmp_path / f"{method}.sig"
        arguments = [tmp_path / "release", theirs, tmp_path / "oms.key", method, algorithm]
        subprocess.run([PEER, "-c", program, *map(str, arguments)], check=True, timeout=60)
        with pytest.raises(VerificationError, match=message):
            Bundle.open(theirs, tmp_path / "oms.pub")


def test_every_flipped_bit_is_refused_by_both(tmp_path: Path, release: nnguard.StreamSet) -> None:
    """Of all files, and of the bundle: but for bits in its base64 that decoding drops.

    model_signing lets those pass, and reads the same bundle; we refuse them, too.
    """
    write_key(tmp_path)
    found = {}
    running = {}
    for tool, python in (("nnguard", Path(sys.executable)), ("model_signing", PEER)):
        folder = tmp_path / tool
        bundle = folder / "model.sig"
        nnguard.oms.save(release, folder, bundle, tmp_path / "oms.key")
        arguments = [oms_flips.__file__, tool, folder, bundle, tmp_path / "oms.pub"]
        running[tool] = subprocess.Popen(
            [python, *map(str, arguments)],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    for tool, process in running.items():
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0
        found[tool] = json.loads(output)
    sizes = {
        tool: sum(path.stat().st_size for path in (tmp_path / tool).rglob("*") if path.is_file())
        for tool in running
    }
    print(f"\n{found['nnguard']['tried']} bits; theirs: {found['model_signing']['passed']}")  # noqa: T201
    assert {tool: result["tried"] for tool, result in found.items()} == {
        tool: 8 * size for tool, size in sizes.items()
    }
    assert found["nnguard"]["passed"] == []
    text = (tmp_path / "model_signing" / "model.sig").read_bytes()
    ends = {at for at in range(len(text)) if text[at + 1 : at + 2] == b"=" != text[at : at + 1]}
    for name, byte, _ in found["model_signing"]["passed"]:
        assert name == "model.sig"
        assert byte in ends
