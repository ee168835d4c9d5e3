"""A node with pods in real network namespaces, and views of policy for them.

Owns: `World`: the wiring, the bookkeeping of a view under change, and packets that tell whether they arrived;
`Applied`: the policy dataplane at work in it. Must not: wait for more than it has to: a packet that is expected may
take long, one that is not is given `SHORT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from manx_agent.dataplane import KernelPolicy
from manx_agent.dataplane.kernel import Kernel
from manx_agent.model import Backend, Dirty, LocalEndpoint, PolicyOutcome, PolicyView
from manx_agent.render.image import Image
from manx_core.api.v1alpha1 import (
    ClassTier,
    PolicyProgramSpec,
    PolicySettings,
    PolicySource,
    PoolSettings,
    Rule,
    RuleEnd,
)
from manx_core.policy.endpoint import NamedPort
from netns import Netns, addressed_veth, make_node, wire_pod
from packets import udp_packet

POD_CIDR = "10.244.0.0/16"
POD_CIDR6 = "fd00::/64"
NODE_ADDRESS, NODE_ADDRESS6 = "198.51.100.1", "2001:db8::1"
OUTSIDE, OUTSIDE6 = "198.51.100.2", "2001:db8::2"
GATEWAY6 = "fe80::1"
SHORT = 0.4
LONG = 10.0
EVERYTHING = Dirty(everything=True)


def class_name(letter: str) -> str:
    return f"pc-{letter * 20}"


def group_name(letter: str) -> str:
    return f"ag-{letter * 20}"


def program(*types: str, ingress: tuple[Rule, ...] = (), egress: tuple[Rule, ...] = ()) -> PolicyProgramSpec:
    """A compiled policy; without types, those that it has rules for."""
    given = types or (*(["Ingress"] if ingress else []), *(["Egress"] if egress else []))
    source = PolicySource(kind="NetworkPolicy", name="test", namespace="default")
    return PolicyProgramSpec(epoch=1, source=source, types=given, ingress=ingress, egress=egress)  # type: ignore[arg-type]


def _of(namespace: str, number: int, spec: PolicyProgramSpec) -> PolicyProgramSpec:
    source = msgspec.structs.replace(spec.source, namespace=namespace, name=str(number))
    return msgspec.structs.replace(spec, source=source)


def rule(**fields: Any) -> Rule:
    """A rule of ingress: ports are the subject's, all else the peer's."""
    return _rule(tuple(name for name in RuleEnd.__struct_fields__ if "port" in name), fields)


def towards(**fields: Any) -> Rule:
    """A rule of egress: everything is the peer's."""
    return _rule((), fields)


def _rule(of_subject: tuple[str, ...], fields: dict[str, Any]) -> Rule:
    ends = {name: fields.pop(name) for name in RuleEnd.__struct_fields__ if name in fields}
    subject = {name: value for name, value in ends.items() if name in of_subject}
    peer = {name: value for name, value in ends.items() if name not in of_subject}
    return Rule(peer=RuleEnd(**peer), subject=RuleEnd(**subject), **fields)


def _wire_ipv6(node: Netns, pod: Netns, interface: str, address: str) -> None:
    """The same in IPv6: the next hop is the node's link-local address."""
    node.ip("address", "add", f"{GATEWAY6}/64", "dev", interface, "nodad")
    pod.ip("address", "add", f"{address}/128", "dev", "eth0", "nodad")
    pod.ip("route", "add", GATEWAY6, "dev", "eth0")
    pod.ip("route", "add", "default", "via", GATEWAY6, "dev", "eth0")
    node.ip("route", "add", address, "dev", interface)


class Pod:
    """A namespace wired to the node as a pod. Sockets made by it are the pod's."""

    def __init__(self, node: Netns, name: str, number: int) -> None:
        self.netns = Netns()
        self.name = name
        self.address, self.address6 = f"10.244.0.{number}", f"fd00::{number:x}"
        self.interface = f"mnx{number:011x}"
        wire_pod(node, self.netns, self.interface, self.address)
        _wire_ipv6(node, self.netns, self.interface, self.address6)

    @property
    def endpoint(self) -> LocalEndpoint:
        addresses = (self.address, self.address6)
        return LocalEndpoint("default", self.name, f"uid-{self.name}", f"c-{self.name}", self.interface, addresses)

    @property
    def identity(self) -> tuple[str, str, str]:
        return "default", self.name, f"uid-{self.name}"


class World:
    """A node (one address, forwarding), a machine outside, and pods a, b, c... A context manager."""

    def __init__(self, pods: str = "abc") -> None:
        self.node, self.outside = Netns(), Netns()
        make_node(self.node)
        self.node.sysctl("ipv6.conf.all.forwarding", "1")
        addresses = (f"{NODE_ADDRESS}/24", f"{OUTSIDE}/24")
        addressed_veth(self.node, self.outside, ("eth0", "eth0"), addresses)
        self.outside.ip("route", "add", "default", "via", NODE_ADDRESS)
        self.node.ip("route", "add", "default", "via", OUTSIDE)
        for namespace, address in ((self.node, NODE_ADDRESS6), (self.outside, OUTSIDE6)):
            namespace.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        self.outside.ip("route", "add", "default", "via", NODE_ADDRESS6)
        self.node.ip("route", "add", "default", "via", OUTSIDE6)
        self.pods = {name: Pod(self.node, name, 11 + number) for number, name in enumerate(pods)}
        self.view = PolicyView(
            endpoints={pod.endpoint.container_id: pod.endpoint for pod in self.pods.values()},
            class_of={pod.identity: "open" for pod in self.pods.values()},
            pools=(
                PoolSettings(name="default", cidr=POD_CIDR, nat_outgoing=True),
                PoolSettings(name="default6", cidr=POD_CIDR6, nat_outgoing=True),
            ),
        )
        self.ipv6 = False
        """Whether addresses below are those of IPv6."""

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (*(pod.netns for pod in self.pods.values()), self.outside, self.node):
            namespace.close()

    # --- the view --------------------------------------------------------------------------------------------------

    def policy(self, pod: str, *programs: PolicyProgramSpec) -> None:
        """Puts a pod, and no other, under policies of one tier: class pc-<pod>, programs knp.<pod>.<n>."""
        self.tiers(pod, ("default", "Deny", programs))

    def tiers(self, pod: str, *tiers: tuple[str, Any, tuple[PolicyProgramSpec, ...]]) -> None:
        """The same of several tiers: name, default action, policies."""
        flat = [spec for _, _, programs in tiers for spec in programs]
        named = {f"knp.{pod}.{number}": _of(pod, number, spec) for number, spec in enumerate(flat)}
        left = list(named)
        listed = [
            ClassTier(name=name, policies=tuple(left.pop(0) for _ in programs), default_action=action)
            for name, action, programs in tiers
        ]
        kept = {name: spec for name, spec in self.view.programs.items() if not name.startswith(f"knp.{pod}.")}
        self.view = replace(
            self.view,
            classes={**self.view.classes, class_name(pod): tuple(listed)},
            programs={**kept, **named},
            class_of={**self.view.class_of, self.pods[pod].identity: class_name(pod)},
        )

    def open(self, pod: str) -> None:
        self._into(pod, "open")

    def join(self, pod: str, other: str) -> None:
        """Puts a pod under the other's policies, too."""
        self._into(pod, class_name(other))

    def _into(self, pod: str, name: str) -> None:
        self.view = replace(self.view, class_of={**self.view.class_of, self.pods[pod].identity: name})

    def classless(self, pod: str) -> None:
        others = {key: name for key, name in self.view.class_of.items() if key != self.pods[pod].identity}
        self.view = replace(self.view, class_of=others)

    def ports(self, pod: str, *ports: NamedPort) -> None:
        """The named ports that the pod is listed with."""
        self.view = replace(self.view, ports_of={**self.view.ports_of, self.pods[pod].identity: ports})

    def gone(self, pod: str) -> None:
        """Its interface is taken out of the view."""
        others = {key: one for key, one in self.view.endpoints.items() if key != self.pods[pod].endpoint.container_id}
        self.view = replace(self.view, endpoints=others)

    def back(self, pod: str) -> None:
        endpoint = self.pods[pod].endpoint
        self.view = replace(self.view, endpoints={**self.view.endpoints, endpoint.container_id: endpoint})

    def group(self, letter: str, *members: str, kind: str = "Addresses") -> str:
        """Sets a group's members; returns its id."""
        name = group_name(letter)
        self.view = replace(
            self.view,
            groups={**self.view.groups, name: frozenset(members)},
            group_types={**self.view.group_types, name: kind},
        )
        return name

    def settings(self, **fields: Any) -> None:
        self.view = replace(self.view, settings=PolicySettings(**fields))

    def address(self, place: str) -> str:
        if self.ipv6:
            return {"node": NODE_ADDRESS6, "outside": OUTSIDE6}.get(place) or self.pods[place].address6
        return {"node": NODE_ADDRESS, "outside": OUTSIDE}.get(place) or self.pods[place].address

    def net(self, place: str) -> str:
        """Of one address alone."""
        return f"{self.address(place)}/{128 if self.ipv6 else 32}"

    def netns(self, place: str) -> Netns:
        return {"node": self.node, "outside": self.outside}.get(place) or self.pods[place].netns

    # --- packets ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def socket(
        self, place: str, kind: int, address: str = "", port: int = 0, protocol: int = 0
    ) -> Iterator[socket.socket]:
        """A socket of a place, bound where an address or port is given."""
        with self.netns(place).entered():
            one = socket.socket(socket.AF_INET6 if self.ipv6 else socket.AF_INET, kind, protocol)
        with one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.settimeout(SHORT)
            if address or port:
                one.bind((address, port))
            yield one

    def tcp(
        self, source: str, to: str, port: int = 80, expected: bool = True, via: tuple[str, int] | None = None
    ) -> bool:
        """Whether a connection comes about. `via`: connect to this address and port instead (a service's)."""
        with self.socket(to, socket.SOCK_STREAM, "", port) as server, self.socket(source, socket.SOCK_STREAM) as client:
            server.listen()
            client.settimeout(LONG if expected else SHORT)
            try:
                client.connect(via or (self.address(to), port))
            except OSError:
                return False
            return True

    def udp(self, source: str, to: str, port: int = 53, expected: bool = True) -> bool:
        """Whether a datagram arrives."""
        with self.socket(to, socket.SOCK_DGRAM, "", port) as server, self.socket(source, socket.SOCK_DGRAM) as client:
            server.settimeout(LONG if expected else SHORT)
            client.sendto(b"probe", (self.address(to), port))
            return _received(server) is not None

    def seen_source(self, source: str, to: str, port: int = 5353) -> str:
        """The address that a datagram seems to come from, where it arrives; empty where it does not."""
        with self.socket(to, socket.SOCK_DGRAM, "", port) as server, self.socket(source, socket.SOCK_DGRAM) as client:
            server.settimeout(LONG)
            client.sendto(b"probe", (self.address(to), port))
            return _received(server) or ""

    def ping(self, source: str, to: str, expected: bool = True) -> bool:
        """Whether an echo request is answered."""
        argv = ("ping", "-c1", f"-W{int(LONG) if expected else 1}", self.address(to))
        done = subprocess.run(self.netns(source).argv(*argv), capture_output=True, check=False)
        return done.returncode == 0

    def sctp(self, source: str, to: str, port: int = 9, expected: bool = True) -> bool:
        """Whether an SCTP INIT arrives: written by hand, as the kernel may have no SCTP itself."""
        with (
            self.socket(to, socket.SOCK_RAW, protocol=socket.IPPROTO_SCTP) as server,
            self.socket(source, socket.SOCK_RAW, protocol=socket.IPPROTO_SCTP) as client,
        ):
            server.settimeout(LONG if expected else SHORT)
            client.sendto(sctp_init(40000, port), (self.address(to), 0))
            return _received(server) is not None

    def forged(self, source: str, as_address: str, to: str, port: int = 7777, expected: bool = True) -> bool:
        """Whether a datagram arrives that a pod sends from a given address."""
        with (
            self.socket(to, socket.SOCK_DGRAM, "", port) as server,
            self.socket(source, socket.SOCK_RAW, protocol=socket.IPPROTO_RAW) as client,
        ):
            server.settimeout(LONG if expected else SHORT)
            client.sendto(udp_packet(as_address, self.address(to), port, b"forge"), (self.address(to), 0))
            return _received(server) is not None


class Applied:
    """The dataplane of one world. Each call runs a loop of its own inside the node's namespace."""

    def __init__(self, world: World, backend: Backend) -> None:
        self.world, self.backend = world, backend
        self.now = 0.0
        self.policy = self.fresh()

    def fresh(self) -> KernelPolicy:
        """As after a restart of the agent."""
        return KernelPolicy(self.backend, clock=lambda: self.now)

    def apply(self, dirty: Dirty = EVERYTHING) -> PolicyOutcome:
        outcome: PolicyOutcome = self.inside(lambda: self.policy.apply(self.world.view, dirty))
        assert outcome.errors == ()
        return outcome

    def check(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self.inside(lambda: self.policy.check_drift())
        return found

    def inside(self, call: Callable[[], Any]) -> Any:
        async def main() -> Any:
            return await call()

        with self.world.node.entered():
            return asyncio.run(main())

    def kernel(self) -> Kernel:
        """For reading alone."""
        kernel = Kernel(self.backend)
        kernel.from_end = self.world.view.settings.chain_insert_mode == "Append"
        return kernel

    def decoded(self, image: Image) -> dict[str, Any]:
        """The chains of an image, as python-iptables finds them."""
        chains = {table: list(own) for table, own in image.chains.items()}
        said = self.world.node.run(sys.executable, "-m", "manx_agent.drivers.iptc_check", stdin=json.dumps(chains))
        found: dict[str, Any] = json.loads(said)
        return found

    def iptables(self, *words: str, family: str = "ip") -> str:
        return self.world.node.run(f"{family}tables-{self.backend}", *words)

    def saved(self, *words: str, family: str = "") -> list[str]:
        """The rules of both families (or of one: "ip", "ip6"), without time stamps; without counters too, unless the
        words ask for them."""
        families = [family] if family else ["ip", "ip6"]
        text = "".join(self.world.node.run(f"{one}tables-{self.backend}-save", *words) for one in families)
        kept = text if words else re.sub(r" \[\d+:\d+\]", "", text)
        return [line for line in kept.splitlines() if not line.startswith("#")]

    def sets(self) -> list[str]:
        return sorted(self.world.node.run("ipset", "save").splitlines())


def _received(server: socket.socket) -> str | None:
    try:
        return str(server.recvfrom(4096)[1][0])
    except TimeoutError:
        return None


def sctp_init(source_port: int, port: int) -> bytes:
    """An INIT chunk in an SCTP packet (RFC 9260, 3.3.2), with its CRC32c."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source_port, port, 0)
    return head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + chunk)) + chunk


def crc32c(data: bytes) -> int:
    """CRC32c (RFC 9260, appendix A), bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
