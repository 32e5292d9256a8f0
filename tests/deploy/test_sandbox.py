"""The gate does with what `deploy` leaves it: another user, a read-only root, no network, no home.

In namespaces of Linux: by `unshare`, and by `bwrap`, the system's or what `make test` unpacked.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import nnguard
from policies import document

NNGUARD = Path(sys.executable).with_name("nnguard")
USER = 65532
BWRAP = shutil.which("bwrap") or str(
    Path(__file__).parents[2] / ".venv" / "bubblewrap" / "usr" / "bin" / "bwrap"
)

INSIDE = f"""
set -eu
ip link set lo up 2> /dev/null || true
mount --bind "$MODELS" "$MODELS"
mount -o remount,bind,ro "$(stat --format %m "$FOLDER")"
[ / = "$(stat --format %m "$FOLDER")" ] || mount -o remount,bind,ro /
exec unshare --user --map-user={USER} --map-group={USER} -- env -i PATH=/usr/bin:/bin "$@"
"""
"""Only what is mounted at `MODELS` can be written; the last namespace has no capability left."""


@dataclass
class Sandbox:
    """Runs commands where there is next to nothing."""

    folder: Path
    models: Path
    command: list[str]

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            env={**os.environ, "FOLDER": str(self.folder), "MODELS": str(self.models)},
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )


def with_unshare(folder: Path, models: Path) -> list[str]:
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork"]
    return [*unshare, "--mount-proc", "sh", "-c", INSIDE, "sh"]


def with_bwrap(folder: Path, models: Path) -> list[str]:
    options = f"--unshare-all --uid {USER} --gid {USER} --cap-drop ALL --clearenv --new-session"
    mounts = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    return [BWRAP, *shlex.split(options), *mounts, "--bind", str(models), str(models)]


@pytest.fixture(params=[with_unshare, with_bwrap], ids=["unshare", "bwrap"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    make: Callable[[Path, Path], list[str]] = request.param
    models = tmp_path / "models"
    models.mkdir()
    command = make(tmp_path, models)
    if sys.platform != "linux" or shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    found = Sandbox(tmp_path, models, command)
    tried = found.run("true")
    if tried.returncode:
        pytest.skip(f"this machine allows no namespaces: {tried.stderr.strip()}")
    return found


@pytest.fixture
def incoming(sandbox: Sandbox, key: nnguard.SigningKey, release: nnguard.Stream) -> Path:
    key.public_key.save(sandbox.folder / "vendor.pub")
    release.save(sandbox.folder / "release.nnc")
    return sandbox.folder / "release.nnc"


def test_the_sandbox_holds(sandbox: Sandbox) -> None:
    probe = """
import json, os, socket
def can(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return False
    return True
root, models = os.environ["PROBED"].split(":")
print(json.dumps({
    "user": os.getuid(),
    "root": can(open, f"{root}/probe", "w") or can(open, "/probe", "w"),
    "models": can(open, f"{models}/probe", "w"),
    "network": can(socket.create_connection, ("1.1.1.1", 53), 1),
    "variables": sorted(set(os.environ) - {"PROBED", "PATH", "LC_CTYPE", "PWD"}),
}))
"""
    probed = f"PROBED={sandbox.folder}:{sandbox.models}"
    done = sandbox.run("/usr/bin/env", probed, sys.executable, "-c", probe)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "user": USER, "root": False, "models": True, "network": False, "variables": [],
    }  # fmt: skip


def test_a_release_passes(sandbox: Sandbox, incoming: Path, key: nnguard.SigningKey) -> None:
    trust = ("--trust", sandbox.folder / "vendor.pub")
    done = sandbox.run(NNGUARD, "gate", incoming, sandbox.models / "net", *trust, "--log-json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events == ["copied", "verified", "decoded", "placed"]
    nnguard.gate(incoming, sandbox.folder / "here", [key.public_key])
    there = {path.name: path.read_bytes() for path in (sandbox.models / "net").iterdir()}
    assert there == {path.name: path.read_bytes() for path in (sandbox.folder / "here").iterdir()}
    assert [path.name for path in sandbox.models.iterdir()] == ["net"]


def test_an_older_release_is_noticed(
    sandbox: Sandbox, model: nnguard.Stream, key: nnguard.SigningKey
) -> None:
    """The state file needs a folder that can be written, and nothing else does."""
    policy = sandbox.folder / "policy.json"
    policy.write_text(json.dumps(document({"vendor": key.public_key})))
    codes = []
    for number in (2, 1):
        release = sandbox.folder / f"{number}.nnc"
        nnguard.sign(model, key, name="small", release=number).save(release)
        gate = (NNGUARD, "gate", release, sandbox.models / f"{number}", "--policy", policy)
        codes.append(sandbox.run(*gate, "--state", sandbox.models / "state").returncode)
    assert codes == [0, 18]
    assert not (sandbox.models / "1").exists()


def test_a_mount_point_is_filled_in_place(sandbox: Sandbox, incoming: Path) -> None:
    gate = (NNGUARD, "gate", incoming, sandbox.models, "--trust", sandbox.folder / "vendor.pub")
    assert sandbox.run(*gate).returncode == 1
    assert not [*sandbox.models.iterdir()]
    for _ in range(2):  # as when a node restarts
        done = sandbox.run(*gate, "--in-place", "--force")
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in sandbox.models.iterdir())
    assert names == ["model.safetensors", "nnguard-gate.json"]


def test_nothing_passes_that_was_changed(sandbox: Sandbox, incoming: Path) -> None:
    data = bytearray(incoming.read_bytes())
    data[-1] ^= 1
    incoming.write_bytes(data)
    trust = ("--trust", sandbox.folder / "vendor.pub")
    done = sandbox.run(NNGUARD, "gate", incoming, sandbox.models / "net", *trust)
    assert done.returncode in (3, 8)
    assert not [*sandbox.models.iterdir()]
