"""No command waits for a FIFO, or reads a device that has no end."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnguard
import samples

SCRIPT = """
import json, sys
from nnguard._cli import main
codes = {}
for command in json.load(sys.stdin):
    try:
        codes[command] = main(command.split())
    except Exception as error:
        codes[command] = repr(error)
print("codes:" + json.dumps(codes), file=sys.stderr)
"""

COMMANDS = [
    "verify {} --trust vendor.pub",
    "verify release.nnc --trust {}",
    "strip {} -o out --trust vendor.pub",
    "inspect {}",
    "capacity {}",
    "decompress {} -o out",
    "decompress {} -o out --trust vendor.pub",
    "detach {} -o out --payload card",
    "attach model.nnc -o out --payload {}",
    "sign {} -o out --key vendor.key",
    "sign model.nnc -o out --key {}",
    "sign model.nnc -o out --key vendor.key --passphrase-file {}",
    "keygen new --passphrase-file {}",
    "compress {} -o out",
    "license show {}",
    "license check {} --trust vendor.pub",
    "license check ada.license --trust vendor.pub --revocations {}",
    "license check ada.license --trust vendor.pub --license-state {}",
    "license check ada.license --trust vendor.pub --device {}",
    "license list --ledger {}",
    "unlock {} -o out --license ada.license --identity ada.key --trust vendor.pub",
    "unlock trial.nnc -o out --license {} --identity ada.key --trust vendor.pub",
    "unlock trial.nnc -o out --license ada.license --identity {} --trust vendor.pub",
    "license issue {} -o out --key vendor.key --content-key content.key --to ada.pub",
    "license issue trial.nnc -o out --key vendor.key --content-key {} --to ada.pub",
    "license issue trial.nnc -o out --key vendor.key --content-key content.key --to {}",
    "license issue trial.nnc -o out --key vendor.key --content-key content.key --to ada.pub "
    "--device {}",
    "verify {}-index --trust vendor.pub",
    "verify {}-shard --trust vendor.pub",
    "decompress {}-shard -o out --trust vendor.pub",
]


def child(script: str, given: object) -> subprocess.CompletedProcess[str]:
    """Run a script that may take little memory, and not forever."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    return subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(given),
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )


@pytest.fixture(params=["fifo", "zero"])
def special(request: pytest.FixtureRequest, folder: Path, key: nnguard.SigningKey) -> str:
    """A FIFO, or a link to a device without an end; and folders of shards with one in it."""
    kind: str = request.param

    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")

    identity = nnguard.Identity.generate()
    identity.save("ada.key")
    identity.recipient.save("ada.pub")
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=6000))
    locked = nnguard.lock_tiers(model, [nnguard.Tier("full", soft=nnguard.Soft(fraction=0.01))])[-1]
    locked.trial.save("trial.nnc")
    locked.content_key.save("content.key")
    license = nnguard.licensing.issue(  # noqa: A001
        locked.trial, locked.content_key, to=identity.recipient, signer=key
    )
    license.save("ada.license")
    make(folder / f"{kind}.safetensors")
    weights = np.random.default_rng(0).normal(0, 0.05, (80, 100)).astype(np.float32)
    (folder / "streams").mkdir()
    nnguard.compress({"w": weights}, nnguard.Settings(qp=-20)).save("streams/model.nnc")
    index = json.dumps({"weight_map": {"w": "model.nnc"}})
    (folder / "streams" / "model.nnc.index.json").write_text(index)
    for broken, file in (("index", "model.nnc.index.json"), ("shard", "model.nnc")):
        target = folder / f"{kind}.safetensors-{broken}"
        nnguard.sign("streams", key).save(target)
        make(target / file)
    return f"{kind}.safetensors"


def test_commands(special: str) -> None:
    commands = [command.format(special) for command in COMMANDS]
    done = child(SCRIPT, commands)
    codes = json.loads(done.stderr.partition("codes:")[2])
    assert codes == {command: codes[command] for command in commands}
    assert {command for command, code in codes.items() if code != 1} == set()
    assert not Path("out").exists()


def test_loading(special: str) -> None:
    pytest.importorskip("torch")
    script = """
import json, sys, nnguard.torch
for path in json.load(sys.stdin):
    try:
        nnguard.torch.load(path, ["vendor.pub"])
    except OSError as error:
        print(type(error).__name__)
"""
    done = child(script, [special, f"{special}-index", f"{special}-shard"])
    assert (done.stdout.split(), done.stderr) == (["OSError"] * 3, "")
