"""What is in `deploy` is well formed, says what the gate understands, and asks for no privilege."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nnguard
from nnguard._cli.commands import NNGUARD
from policies import document

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"
UNIT = DEPLOY / "systemd" / "nnguard-gate@.service"


def documents(path: Path) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all(path.read_text())]


def kubernetes_schema(kind: str) -> dict[str, Any]:
    schemas = json.loads((SCHEMAS / "kubernetes.json").read_text())
    return {**schemas["kinds"][kind], "$defs": schemas["$defs"]}


def errors_of(value: object, schema: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def gate_options(arguments: list[str]) -> dict[str, Any]:
    """Parse the arguments of a gate as the command does."""
    assert arguments[0] == "gate"
    command = NNGUARD.get_command(None, "gate")  # type: ignore[arg-type]
    assert command is not None
    context = command.make_context("gate", [*arguments[1:]], resilient_parsing=False)
    return context.params


# Kubernetes


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_kubernetes(path: Path) -> None:
    for resource in documents(path):
        assert not errors_of(resource, kubernetes_schema(resource["kind"]))


def test_the_schemas_of_kubernetes_are_strict() -> None:
    """A check that lets everything through would be none."""
    deployment = documents(DEPLOY / "kubernetes" / "init-container.yaml")[0]
    pod = deployment["spec"]["template"]["spec"]
    pod["initContainers"][0]["command"] = "gate"
    pod["containers"][0]["securityContexts"] = {}
    del deployment["spec"]["selector"]
    assert len(errors_of(deployment, kubernetes_schema("Deployment"))) == 3


def pods() -> Iterator[dict[str, Any]]:
    for path in KUBERNETES:
        for resource in documents(path):
            if resource["kind"] == "Deployment":
                yield resource["spec"]["template"]["spec"]


def test_pods_ask_for_no_privilege() -> None:
    for pod in pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in (*pod["initContainers"], *pod["containers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_the_gate_writes_models() -> None:
    for pod in pods():
        writable = {}
        for container in (*pod["initContainers"], *pod["containers"]):
            mounts = [each for each in container["volumeMounts"] if not each.get("readOnly")]
            writable[container["name"]] = [each["name"] for each in mounts]
        assert writable == {"gate": ["state", "models"], "serve": []}


def test_pods_run_gates() -> None:
    options = [gate_options(pod["initContainers"][0]["args"]) for pod in pods()]
    start, watch = options
    assert start["in_place"]
    assert start["force"]
    assert watch["watch"] == 60
    assert watch["remove"]


def test_the_policy_in_the_example_is_one(tmp_path: Path) -> None:
    config = documents(DEPLOY / "kubernetes" / "init-container.yaml")[1]
    ((name, text),) = config["data"].items()
    (tmp_path / name).write_text(text)
    (rule,) = nnguard.TrustPolicy.load(tmp_path / name).rules
    assert rule.scopes


# KServe


def test_kserve() -> None:
    """The resource is one of KServe's, its container one of Kubernetes, with nothing else in it."""
    (resource,) = documents(DEPLOY / "kserve" / "cluster-storage-container.yaml")
    assert resource["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert resource["kind"] == "ClusterStorageContainer"
    schema = json.loads((SCHEMAS / "kserve.json").read_text())
    assert not errors_of(resource, schema)
    assert errors_of({**resource, "spec": {**resource["spec"], "workloadTypes": "x"}}, schema)
    container = resource["spec"]["container"]
    assert not errors_of(container, kubernetes_schema("Container"))
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("is_right", [True, False])
def test_kserve_fetches_and_lets_pass(
    release: nnguard.Stream, key: nnguard.SigningKey, tmp_path: Path, *, is_right: bool
) -> None:
    """KServe's storage initializer is played by a script that copies a file."""
    trusted = key if is_right else nnguard.SigningKey.generate()
    text = json.dumps(document({"vendor": trusted.public_key}))
    (tmp_path / "policy.json").write_text(text)
    incoming = tmp_path / "store"
    streams = nnguard.StreamSet.of(
        {"model-00001-of-00001.nnc": nnguard.strip(release, [key.public_key])}
    )
    nnguard.sign(streams, key, name="small").save(incoming)
    fetch = tmp_path / "fetch"
    fetch.write_text('#!/bin/sh\nset -eu\n[ "$1" = "s3://models/small" ]\ncp -r "$STORE"/. "$2"\n')
    fetch.chmod(0o755)
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [DEPLOY / "kserve" / "entrypoint.sh", "nnguard+s3://models/small", models],
        env={
            "PATH": PATH,
            "STORAGE_INITIALIZER": str(fetch),
            "STORE": str(incoming),
            "NNGUARD_POLICY": str(tmp_path / "policy.json"),
            "TMPDIR": str(tmp_path / "tmp"),
        },
        check=False,
        capture_output=True,
    )
    assert done.returncode == (0 if is_right else 7), done.stderr
    assert any(models.iterdir()) == is_right
    assert not [*(tmp_path / "tmp").iterdir()]


# Containers


def test_the_image_is_not_roots() -> None:
    stages = re.split(r"^FROM ", (DEPLOY / "container" / "Dockerfile").read_text(), flags=re.M)
    for stage in stages[2:-1]:  # all but that which builds; the last one is another name
        user = re.findall(r"^USER (\d+):(\d+)$", stage, flags=re.M)
        assert user
        assert "0" not in user[-1]
    assert stages[-1].strip() == "gate"


def test_the_image_is_made_of_what_is_there() -> None:
    text = (DEPLOY / "container" / "Dockerfile").read_text()
    copied = [
        words for line in re.findall(r"^COPY (.+)$", text, flags=re.M) for words in [line.split()]
    ]
    sources = {name for words in copied if not words[0].startswith("--") for name in words[:-1]}
    ignored = (DEPLOY / "container" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert {name.rstrip("/") for name in sources} == sent
    for name in sources:
        assert (ROOT / name).exists(), name


# systemd


def test_the_unit_runs_a_gate() -> None:
    text = UNIT.read_text().replace("\\\n", " ")
    command = shlex.split(re.findall(r"^ExecStart=(.+)$", text, flags=re.M)[0])
    assert command[0] == "/opt/nnguard/bin/nnguard"
    options = gate_options(command[1:])
    assert options["watch"] == 60
    assert options["remove"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """The exposure, of 10, is what systemd makes of the settings."""
    unit = tmp_path / "nnguard-gate@digits.service"
    unit.write_text(UNIT.read_text().replace("/opt/nnguard/bin/nnguard", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True
    )
    if "Failed to" in checked.stderr and checked.returncode:
        pytest.skip(f"systemd-analyze does not work here: {checked.stderr.strip()}")
    assert (checked.returncode, checked.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=10", "--no-pager", unit],
        check=False,
        capture_output=True,
        text=True,
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr


# GitHub


def test_github() -> None:
    (action,) = documents(DEPLOY / "github" / "action.yml")
    schema = json.loads((SCHEMAS / "github-action.json").read_text())
    validator = jsonschema.validators.validator_for(schema)
    assert not [*validator(schema).iter_errors(action)]
    action["runs"]["steps"][0].pop("shell")
    assert [*validator(schema).iter_errors(action)]


def test_github_evaluates_nothing_in_a_shell() -> None:
    """What stands in braces is pasted into scripts, and whoever names a branch writes it."""
    (action,) = documents(DEPLOY / "github" / "action.yml")
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]


def github(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the step that signs, with the variables that the action sets, and no others."""
    (action,) = documents(DEPLOY / "github" / "action.yml")
    step = action["runs"]["steps"][-1]
    values = {
        "ACTION": str(DEPLOY / "github"),
        "NNGUARD": str(Path(sys.executable).with_name("nnguard")),
        "MODEL": str(folder / "model.nnc"),
        "OUTPUT": str(folder / "release.nnc"),
        "KEY": (folder / "vendor.key").read_text(),
        "NNGUARD_PASSPHRASE": "",
        "TRUST": str(folder / "vendor.pub"),
        "ISSUER": "acme.ai",
        "NAME": "small $(touch evaluated); `touch evaluated`",
        "VERSION": "v1.2",
        "OPTIONS": "--meta\ncommit=4f2a91c and more",
    } | changes
    assert set(values) == set(step["env"])
    return subprocess.run(
        ["bash", "-c", step["run"]],
        env={**values, "PATH": PATH, "RUNNER_TEMP": str(folder / "runner"),
             "GITHUB_OUTPUT": str(folder / "output")},
        cwd=folder, check=False, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path, model: nnguard.Stream, key: nnguard.SigningKey) -> Path:
    model.save(tmp_path / "model.nnc")
    key.save(tmp_path / "vendor.key")
    key.public_key.save(tmp_path / "vendor.pub")
    (tmp_path / "runner").mkdir()
    (tmp_path / "output").touch()
    return tmp_path


def test_github_signs(checkout: Path, key: nnguard.SigningKey) -> None:
    done = github(checkout)
    assert done.returncode == 0, done.stderr
    report = nnguard.verify(checkout / "release.nnc", [key.public_key])
    assert report.claims.version == "1.2"
    assert report.claims.name.startswith("small $(touch")
    assert report.claims.metadata == {"commit": "4f2a91c and more"}
    assert (checkout / "output").read_text() == f"digest={report.digest}\nkey-id={report.key_id}\n"
    assert not (checkout / "evaluated").exists()
    assert not [*(checkout / "runner").iterdir()]


def test_github_runs_nothing_of_the_folder_that_it_works_in(checkout: Path) -> None:
    """That may be a model of somebody else, with a `json.py`; and the key is at hand."""
    for name in ("json.py", "venv.py", "pip.py"):
        (checkout / name).write_text("open('evaluated', 'w')\nraise SystemExit(9)\n")
    done = github(checkout)
    assert done.returncode == 0, done.stderr
    assert not (checkout / "evaluated").exists()
    (action,) = documents(DEPLOY / "github" / "action.yml")
    install, _ = action["runs"]["steps"]
    assert install["run"].count(" -m ") == install["run"].count(" -I -m ") == 2


def test_github_signs_with_a_passphrase(checkout: Path, key: nnguard.SigningKey) -> None:
    key.save(checkout / "vendor.key", passphrase="correct horse", overwrite=True)
    assert github(checkout).returncode == 6
    assert github(checkout, NNGUARD_PASSPHRASE="correct horse").returncode == 0


def test_github_notices_another_key(checkout: Path, other_key: nnguard.SigningKey) -> None:
    other_key.public_key.save(checkout / "vendor.pub", overwrite=True)
    done = github(checkout)
    assert done.returncode == 7
    assert not (checkout / "output").read_text()
    assert not [*(checkout / "runner").iterdir()]
