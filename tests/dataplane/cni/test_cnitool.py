"""The CNI project's own client, with the conflist that the agent installs, at every version it may be installed at."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni_node import CHECKOUT, NODE_ADDRESS, CniNode, compiled
from manx_agent.cni.install import Places, install
from netns import Netns, addressed_veth

POD = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=uid-web"
PORTMAP = "github.com/containernetworking/plugins/plugins/meta/portmap"


def installed(node: CniNode, directory: Path, version: str) -> Places:
    source = directory / "source"
    source.mkdir()
    (source / "manx").symlink_to(compiled(".", "manx"))
    (source / "portmap").symlink_to(compiled(PORTMAP, "portmap"))
    places = Places(source, directory / "bin", directory / "net.d", node.socket, version)
    install(places)
    return places


def cnitool(node: CniNode, places: Places, command: str, netns: str, **capabilities: Any) -> dict[str, Any]:
    """What it printed. Raises CalledProcessError."""
    tool = compiled("github.com/containernetworking/cni/cnitool", "cnitool")
    environment = {
        **os.environ, "NETCONFPATH": str(places.configurations), "CNI_PATH": str(places.executables),
        "CNI_ARGS": POD, "CAP_ARGS": json.dumps(capabilities),
    }  # fmt: skip
    command_line = node.netns.argv(str(tool), command, "manx", netns)
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_add_check_del(node: CniNode, pod: Netns, tmp_path: Path, version: str) -> None:
    places = installed(node, tmp_path, version)
    result = cnitool(node, places, "add", pod.path)
    assert result["cniVersion"] == version
    (address,) = [found["address"] for found in result["ips"]]
    node.netns.run("ping", "-c", "1", "-W", "2", address.partition("/")[0])
    if version != "0.3.1":
        cnitool(node, places, "check", pod.path)
    cnitool(node, places, "del", pod.path)
    assert node.interfaces() == []
    cnitool(node, places, "del", pod.path)


def test_status_and_gc(node: CniNode, pod: Netns, tmp_path: Path) -> None:
    places = installed(node, tmp_path, "1.1.0")
    cnitool(node, places, "status", "")
    cnitool(node, places, "add", pod.path)
    cnitool(node, places, "gc", "")
    cnitool(node, places, "del", pod.path)


def test_a_host_port_is_mapped_and_taken_away(node: CniNode, pod: Netns, tmp_path: Path) -> None:
    places = installed(node, tmp_path, "1.0.0")
    mapping = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    cnitool(node, places, "add", pod.path, portMappings=mapping)
    with Netns() as client:
        addressed_veth(node.netns, client, ("outside", "eth0"), ("192.0.2.1/24", "192.0.2.2/24"))
        client.ip("route", "add", NODE_ADDRESS, "via", "192.0.2.1")
        with pod.entered():
            server = socket.create_server(("", 80))
        with server, client.entered(), socket.create_connection((NODE_ADDRESS, 8080), timeout=5) as connection:
            assert connection.getpeername() == (NODE_ADDRESS, 8080)
    cnitool(node, places, "del", pod.path, portMappings=mapping)
    assert "8080" not in node.netns.run("iptables-save")


def test_the_module_says_how_to_build_both() -> None:
    assert PORTMAP in (CHECKOUT / "cni" / "main.go").read_text()
