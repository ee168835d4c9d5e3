"""The agents' DaemonSet: what the Installation changes in it, and what nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generator import names as manifest_names
from manx_core.api.installation import Installation
from manx_operator.installer import names
from manx_operator.installer.daemonset import AGENT_CAPABILITIES, BGP_CAPABILITIES, render_daemonset

SECURITY = Path(__file__).resolve().parents[3] / "docs/security.md"


def rendered(**spec: Any) -> dict[str, Any]:
    installation = Installation.parse({"metadata": {"name": "default", "uid": "u1"}, "spec": spec})
    return render_daemonset(installation, manifest_names.IMAGE)


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = rendered(**spec)["spec"]["template"]["spec"]
    return found


def container(name: str, **spec: Any) -> dict[str, Any]:
    return next(each for each in pod(**spec)["containers"] if each["name"] == name)


def env(name: str, **spec: Any) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container(name, **spec)["env"]}


def test_the_same_input_gives_the_same_object_and_hash() -> None:
    assert rendered() == rendered()
    before = rendered()["metadata"]["annotations"][names.RENDERED]
    assert rendered(registry="quay.io/")["metadata"]["annotations"][names.RENDERED] != before


def test_what_agents_are_configured_by_nodestates_does_not_restart_them() -> None:
    before = rendered()["spec"]
    assert rendered(calicoNetwork={"mtu": 1400, "ipPools": [{"cidr": "10.0.0.0/16"}]})["spec"] == before
    assert rendered(calicoNetwork={"nodeAddressAutodetectionV4": {"interface": "eth1"}})["spec"] == before


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ({"rollingUpdate": {"maxUnavailable": "25%"}},
         {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 0}}),
        ({"type": "OnDelete"}, {"type": "OnDelete"}),
    ],
)  # fmt: skip
def test_roll_out(strategy: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert rendered(nodeUpdateStrategy=strategy)["spec"]["updateStrategy"] == expected


def test_images_and_pull_secrets() -> None:
    spec = {"registry": "quay.io/", "imagePullSecrets": [{"name": "pull"}]}
    assert {each["image"] for each in pod(**spec)["containers"]} == {"quay.io/manxnet/manx:v0.1.0"}
    assert pod(**spec)["imagePullSecrets"] == [{"name": "pull"}]
    assert "imagePullSecrets" not in pod()


def test_without_bgp_there_is_no_speaker() -> None:
    assert [each["name"] for each in pod()["containers"]] == ["agent", "bgp"]
    assert [each["name"] for each in pod(calicoNetwork={"bgp": "Disabled"})["containers"]] == ["agent"]


def test_host_ports_can_be_switched_off() -> None:
    assert env("agent")["MANX_HOST_PORTS"] == "Enabled"
    assert env("agent", calicoNetwork={"hostPorts": "Disabled"})["MANX_HOST_PORTS"] == "Disabled"


def test_cni_directories_of_the_node() -> None:
    volumes = {each["name"]: each for each in pod(cni={"type": "Calico", "binDir": "/usr/libexec/cni"})["volumes"]}
    assert volumes["cni-bin"]["hostPath"]["path"] == "/usr/libexec/cni"
    assert volumes["cni-conf"]["hostPath"]["path"] == "/etc/cni/net.d"


@pytest.mark.parametrize(("name", "capabilities"), [("agent", AGENT_CAPABILITIES), ("bgp", BGP_CAPABILITIES)])
def test_no_more_rights_than_named(name: str, capabilities: list[str]) -> None:
    security = container(name)["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": capabilities}
    assert (security["privileged"], security["allowPrivilegeEscalation"]) == (False, False)
    assert security["readOnlyRootFilesystem"]


def test_liveness_does_not_ask_what_readiness_asks() -> None:
    agent = container("agent")
    assert agent["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert agent["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {agent[probe]["httpGet"]["host"] for probe in ("livenessProbe", "readinessProbe")} == {"127.0.0.1"}


def test_every_mount_has_its_volume() -> None:
    volumes = {each["name"] for each in pod()["volumes"]}
    for each in pod()["containers"]:
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes


def test_every_right_and_mount_is_justified_in_writing() -> None:
    text = SECURITY.read_text()
    for capability in (*AGENT_CAPABILITIES, *BGP_CAPABILITIES):
        assert f"`{capability}`" in text
    for volume in pod()["volumes"]:
        where = volume["hostPath"]["path"] if "hostPath" in volume else volume.get("configMap", {}).get("name", "/tmp")
        assert f"`{where}`" in text


@pytest.mark.parametrize("name", ["agent", "bgp"])
def test_no_container_needs_the_api_server_to_be_started_again(name: str) -> None:
    """The kubelet reads ConfigMaps and Secrets of an environment anew at every start of a container."""
    assert "envFrom" not in container(name)
    kinds = {kind for entry in container(name)["env"] for kind in entry.get("valueFrom", {})}
    assert kinds <= {"fieldRef"}


def test_the_manifests_and_the_installer_mean_the_same_names() -> None:
    assert names.NAMESPACE == manifest_names.NAMESPACE
    assert (names.AGENT, names.OPERATOR) == (manifest_names.AGENT, manifest_names.OPERATOR)
