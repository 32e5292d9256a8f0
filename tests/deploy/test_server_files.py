"""What is in `deploy/server` is well formed, and says what `nnguard serve` understands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from nnguard._cli.commands import NNGUARD

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "deploy" / "server"
UNIT = SERVER / "nnguard-server.service"
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SERVER / "compose.yaml").read_text())
    return found


def problems_of(value: object) -> list[str]:
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


def serve() -> click.Command:
    command = NNGUARD.get_command(click.Context(NNGUARD), "serve")
    assert command is not None
    return command


def options_of(arguments: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """Parse the arguments of a server as the command does, with nothing else around."""
    assert arguments[0] == "serve"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return serve().make_context("serve", [*arguments[1:]]).params


def test_compose() -> None:
    assert not problems_of(compose())


def test_the_schema_of_compose_is_strict() -> None:
    wrong = compose()
    wrong["services"]["server"]["readonly"] = True
    del wrong["networks"]["ledger"]["internal"]
    wrong["networks"]["ledger"]["secret"] = True
    assert len(problems_of(wrong)) == 2


def test_compose_runs_a_server() -> None:
    services = compose()["services"]
    server = services["server"]
    known = {param.envvar for param in serve().params if isinstance(param, click.Option)}
    assert set(server["environment"]) <= known
    options = options_of(server["command"], server["environment"])
    secrets = {f"/run/secrets/{name}" for name in server["secrets"]}
    assert {options["key"], options["ledger_key"], options["stripe_secret_file"]} == secrets
    (subnet,) = compose()["networks"]["outside"]["ipam"]["config"]
    assert options["behind_proxy"] == (subnet["subnet"],)
    assert f"server:{options['port']}" in services["proxy"]["command"]


def test_compose_gives_no_privilege_and_opens_no_port_but_the_proxy_s() -> None:
    services = compose()["services"]
    for name in ("server", "proxy"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert [name for name in services if "ports" in services[name]] == ["proxy"]
    assert services["database"]["networks"] == ["ledger"]
    assert compose()["networks"]["ledger"]["internal"] is True


def test_the_image_is_not_roots_and_is_made_of_what_is_there() -> None:
    text = (SERVER / "Dockerfile").read_text()
    last = re.split(r"^FROM ", text, flags=re.M)[-1]
    assert re.findall(r"^USER (.+)$", last, flags=re.M) == ["65532:65532"]
    assert (
        str(options_of(["serve"], compose()["services"]["server"]["environment"])["port"]) in last
    )
    copied = [line.split() for line in re.findall(r"^COPY (.+)$", text, flags=re.M)]
    sources = {name for words in copied if not words[0].startswith("--") for name in words[:-1]}
    ignored = (SERVER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert {name.rstrip("/") for name in sources} == sent
    assert all((ROOT / name).exists() for name in sources)


def test_the_unit_runs_a_server() -> None:
    text = UNIT.read_text()
    command = shlex.split(re.findall(r"^ExecStart=(.+)$", text.replace("\\\n", " "), flags=re.M)[0])
    assert command[0] == "/opt/nnguard/bin/nnguard"
    named = dict(re.findall(r"^#\s+(NNGUARD_\w+)=(.+)$", text, flags=re.M))
    options = options_of(command[1:], named)
    credentials = re.findall(r"^LoadCredential=([\w.]+):", text, flags=re.M)
    given = (options[each] for each in ("key", "ledger_key", "tls_certificate", "tls_key"))
    assert [*given] == [f"${{CREDENTIALS_DIRECTORY}}/{name}" for name in credentials]
    assert options["webhook"] == (named["NNGUARD_WEBHOOK"],)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """The exposure, of 10, is what systemd makes of the settings."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/nnguard/bin/nnguard", "/bin/true"))
    verify = ["systemd-analyze", "verify", unit]
    checked = subprocess.run(verify, check=False, capture_output=True, text=True)
    if "Failed to" in checked.stderr and checked.returncode:
        pytest.skip(f"systemd-analyze does not work here: {checked.stderr.strip()}")
    assert (checked.returncode, checked.stderr) == (0, "")
    rate = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit]
    rated = subprocess.run(rate, check=False, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout + rated.stderr
