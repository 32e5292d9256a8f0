"""What is in `deploy/relay` is well formed, and says what the commands understand."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from test_manifests import DEPLOY, documents, errors_of, gate_options, kubernetes_schema

from nnguard._cli.commands import NNGUARD

RELAY, SERVICE = documents(DEPLOY / "relay" / "relay.yaml")
(PODS,) = documents(DEPLOY / "relay" / "pods.yaml")


def options_of(name: str, words: list[str]) -> dict[str, Any]:
    command = NNGUARD.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    return command.make_context(name, [*words]).params


@pytest.mark.parametrize("resource", [RELAY, SERVICE, PODS], ids=lambda each: each["kind"])
def test_kubernetes(resource: dict[str, Any]) -> None:
    assert not errors_of(resource, kubernetes_schema(resource["kind"]))
    assert errors_of({**resource, "specs": 1}, kubernetes_schema(resource["kind"]))


@pytest.mark.parametrize("resource", [RELAY, PODS], ids=lambda each: each["kind"])
def test_pods_ask_for_no_privilege(resource: dict[str, Any]) -> None:
    pod = resource["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    named = {each["name"] for each in pod["volumes"]} | {"state"}
    for container in pod["containers"]:
        assert {each["name"] for each in container["volumeMounts"]} <= named


def test_there_is_one_relay_and_its_file_stays() -> None:
    assert RELAY["kind"] == "StatefulSet"
    assert RELAY["spec"]["replicas"] == 1
    (claim,) = RELAY["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    (container,) = RELAY["spec"]["template"]["spec"]["containers"]
    name, *words = container["args"]
    options = options_of(name, words)
    assert options["leases_file"].startswith("/state/")
    assert not options["first_time"]
    assert options["minutes"] == 300
    (port,) = container["ports"]
    assert options["port"] == port["containerPort"] == SERVICE["spec"]["ports"][0]["port"]


def test_pods_run_under_a_lease() -> None:
    (container,) = PODS["spec"]["template"]["spec"]["containers"]
    program, name, *words = container["command"]
    assert program == "nnguard"
    options = options_of(name, words)
    assert options["url"] == f"https://relay:{SERVICE['spec']['ports'][0]['port']}"
    shell, flag, script = options["commands"]
    assert (shell, flag) == ("sh", "-c")
    gate = shlex.split(script.partition(" && ")[0])
    given = gate_options(gate[1:])
    assert given["license"] == options["output"]
    assert given["identity"] == options["identity"]
