"""What is written for every shape of rule, as text: a change of any line is seen in review.

`MANX_GOLDENS=write` writes them anew.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelsim import KernelSim, Packet
from manx_agent.model import LocalEndpoint, PolicyView
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import Settled, settle
from policy_shapes import SHAPES

_GOLDENS = Path(__file__).with_name("goldens")


def _image(shape: str) -> Image:
    view = SHAPES[shape]
    rendered = Renderer().render(settle(view, Settled(), 0.0), view.pools, view.settings)
    assert rendered.problems == ()
    return rendered.image


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written(shape: str) -> None:
    text = "\n".join(f"# {step.kind}\n{step.text}" for step in plan(Image(), _image(shape)))
    golden = _GOLDENS / f"{shape.replace(' ', '-')}.txt"
    if os.environ.get("MANX_GOLDENS") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_takes_it(shape: str) -> None:
    kernel = KernelSim()
    for step in plan(Image(), _image(shape)):
        kernel.run(step)
    assert kernel.image(SHAPES[shape].settings.chain_insert_mode == "Append") == _image(shape)


def _kernel(shape: str) -> KernelSim:
    kernel = KernelSim()
    for step in plan(Image(), _image(shape)):
        kernel.run(step)
    return kernel


def test_a_denied_packet_is_noted_once_by_policy_and_rule() -> None:
    kernel = _kernel("logged")
    to_web = Packet("192.0.2.77", "10.244.0.11", "eth0", "mnx00000000001", "tcp", 80)
    passage = kernel.passage(to_web)
    assert (passage.verdict, passage.logged) == ("REJECT", ["manx deny in security gnp.security.a[2]"])
    other = kernel.passage(Packet("172.16.0.1", "10.244.0.11", "eth0", "mnx00000000001", "47"))
    assert other.logged == ["manx deny in security none of gnp.security.a gnp.security.b"]
    udp = kernel.passage(Packet("172.16.0.1", "10.244.0.11", "eth0", "mnx00000000001", "udp", 5))
    assert udp.logged[0] == "audit: "
    forged = kernel.passage(Packet("172.16.0.1", "10.244.0.11", "mnx00000000002", "mnx00000000001"))
    assert (forged.verdict, forged.logged) == ("DROP", ["manx deny out false source, or pod not in force"])


def test_more_pods_than_one_network_may_have_interfaces() -> None:
    """In a hash:net,iface set; each may speak from link-local addresses, and no other."""
    pods = [LocalEndpoint("d", f"p{n}", "u", f"c{n}", f"mnx{n * 7919:011x}", (f"fd00::{n + 1:x}",)) for n in range(500)]
    view = PolicyView(
        endpoints={one.container_id: one for one in pods}, class_of={("d", one.name, "u"): "open" for one in pods}
    )
    sets = Renderer().render(settle(view, Settled(), 0.0)).image.sets
    links = {name: image.members for name, image in sets.items() if name.startswith("manx-6-links-")}
    for members in links.values():
        assert max(Counter(member.partition(",")[0] for member in members).values()) <= 64
    assert frozenset().union(*links.values()) == {
        f"{network},{pod.interface}" for pod in pods for network in ("fe80::/10", "::")
    }


_NEIGHBOURLY: dict[str, Callable[[int], str]] = {
    "fe80::5": lambda kind: "ACCEPT" if kind in (131, 132, 133, 135, 136, 143) else "DROP",
    "::": lambda kind: "ACCEPT" if kind in (131, 132, 133, 135, 136, 143) else "DROP",
    "fd00::b": lambda kind: "ACCEPT" if kind in (131, 132, 133, 135, 136, 143) else "DROP",
    "fe90::5": lambda kind: "ACCEPT" if kind in (131, 132, 133, 135, 136, 143) else "DROP",
    "fd00::c": lambda kind: "DROP",
}


@pytest.mark.parametrize("source", _NEIGHBOURLY)
def test_what_a_pod_may_tell_its_node_as_a_neighbour(source: str) -> None:
    """Every type of ICMPv6 to the node, of a pod whose policies deny all ICMPv6; nothing of it is ever forwarded."""
    kernel, expected = _kernel("plain"), _NEIGHBOURLY[source]
    for kind in range(256):
        to_node = Packet(source, "fe80::1", "mnx00000000001", "", "ipv6-icmp", icmp_type=kind)
        assert kernel.verdict(to_node) == expected(kind), kind
        beyond = Packet(source, "2001:db8::1", "mnx00000000001", "eth0", "ipv6-icmp", icmp_type=kind)
        assert kernel.verdict(beyond) == "DROP", kind
        another = Packet(source, "fe80::1", "mnx00000000002", "", "ipv6-icmp", icmp_type=kind)
        assert kernel.verdict(another) == "DROP", "a pod without an IPv6 address"


def test_ports_of_masqueraded_connections() -> None:
    kernel = _kernel("to the host")
    for source, destination in (("10.244.0.11", "192.0.2.1"), ("fd00::b", "2001:db8::1")):
        assert kernel.masqueraded(Packet(source, destination, "mnx00000000001", "eth0", "udp")) == "1024-65535"
        assert kernel.masqueraded(Packet(source, destination, "mnx00000000001", "eth0", "47")) == "any"
        assert not kernel.masqueraded(Packet(source, source, "mnx00000000001", "mnx00000000002"))
