"""A node with pods of both families, wired by the agent's own driver, with connections between them that stay open.

Owns: `World` (namespaces, endpoints, a view), `Talk` (a connection of which both ends can speak). Must not: wait for
long for what is not to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from manx_agent.drivers.netlink import Netlink
from manx_agent.drivers.netlink_messages import PodLink, interface_name, mac_address
from manx_agent.model import LocalEndpoint, PolicyView
from manx_core.api.v1alpha1 import ClassTier, PolicyProgramSpec, PolicySettings, PolicySource, PoolSettings, Rule
from netns import Netns, addressed_veth

SHORT, LONG = 0.3, 10.0
NODE = {4: "198.51.100.1", 6: "2001:db8::1"}
OUTSIDE = {4: "198.51.100.2", 6: "2001:db8::2"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def program(*types: str, ingress: tuple[Rule, ...] = (), egress: tuple[Rule, ...] = ()) -> PolicyProgramSpec:
    """A compiled policy."""
    source = PolicySource(kind="NetworkPolicy", name="test", namespace="default")
    return PolicyProgramSpec(epoch=1, source=source, types=types, ingress=ingress, egress=egress)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Talk:
    """A connection. `server` is connected to the client, also over UDP."""

    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def passes(self, *, back: bool = False, expected: bool = True) -> bool:
        """Whether what one end says is heard by the other."""
        speaker, listener = (self.server, self.client) if back else (self.client, self.server)
        listener.settimeout(LONG if expected else SHORT)
        try:
            speaker.send(b"x")
            return bool(listener.recv(100))
        except OSError:
            return False


class World:
    """A context manager. All of it is in force for `PolicyView` in `view`."""

    def __init__(self, names: str = "abc") -> None:
        self.node, self.outside = Netns(), Netns()
        self.node.sysctl("ipv4.ip_forward", "1")
        addressed_veth(self.node, self.outside, ("eth0", "eth0"), (f"{NODE[4]}/24", f"{OUTSIDE[4]}/24"))
        for place, version in ((self.node, NODE[6]), (self.outside, OUTSIDE[6])):
            place.ip("address", "add", f"{version}/64", "dev", "eth0", "nodad")
        self.outside.ip("route", "add", "default", "via", NODE[4])
        self.outside.ip("-6", "route", "add", "default", "via", NODE[6])
        self.pods = {name: Netns() for name in names}
        self.endpoints = {name: self._wire(name, 11 + number) for number, name in enumerate(names)}
        self.view = PolicyView(
            endpoints={one.container_id: one for one in self.endpoints.values()},
            class_of={(one.namespace, one.name, one.uid): "open" for one in self.endpoints.values()},
            pools=(PoolSettings("four", "10.244.0.0/16"), PoolSettings("six", "fd00:244::/64")),
            settings=PolicySettings(established="Recheck"),
        )
        self._open: list[Talk] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for talk in self._open:
            talk.close()
        for namespace in (*self.pods.values(), self.outside, self.node):
            namespace.close()

    def _wire(self, name: str, number: int) -> LocalEndpoint:
        addresses = (f"10.244.0.{number}", f"fd00:244::{number}")
        container, pod = f"c-{name}", self.pods[name]
        interface = interface_name(container, "eth0")
        link = PodLink(interface, addresses, mac_address(container, "eth0"), pod_interface="eth0", mtu=1500)

        async def wire(namespace: int) -> None:
            netlink = Netlink()
            await netlink.create(link, namespace)
            await netlink.activate(link, namespace)

        with open(pod.path) as file, self.node.entered():
            asyncio.run(wire(file.fileno()))
        return LocalEndpoint("default", name, f"uid-{name}", container, interface, addresses)

    # --- the view -----------------------------------------------------------------------------------------------------

    def policy(self, pod: str, spec: PolicyProgramSpec) -> None:
        """Puts a pod, and no other, under one policy."""
        one, name = self.endpoints[pod], f"pc-{pod}"
        self.view = replace(
            self.view,
            classes={**self.view.classes, name: (ClassTier(name="default", policies=(f"knp.{pod}",)),)},
            programs={**self.view.programs, f"knp.{pod}": spec},
            class_of={**self.view.class_of, (one.namespace, one.name, one.uid): name},
        )

    def group(self, name: str, *members: str) -> str:
        self.view = replace(
            self.view,
            groups={**self.view.groups, name: frozenset(members)},
            group_types={**self.view.group_types, name: "Addresses"},
        )
        return name

    def both(self, pod: str) -> tuple[str, ...]:
        return self.endpoints[pod].addresses

    # --- connections --------------------------------------------------------------------------------------------------

    def netns(self, place: str) -> Netns:
        return {"node": self.node, "outside": self.outside}.get(place) or self.pods[place]

    def address(self, place: str, version: int) -> str:
        fixed = {"node": NODE, "outside": OUTSIDE}.get(place)
        return fixed[version] if fixed else self.endpoints[place].addresses[0 if version == 4 else 1]

    @contextlib.contextmanager
    def _socket(self, place: str, version: int, kind: int) -> Iterator[socket.socket]:
        with self.netns(place).entered():
            one = socket.socket(FAMILIES[version], kind)
        one.settimeout(LONG)
        yield one

    def tcp(self, source: str, to: str, port: int, version: int = 4, via: tuple[str, int] | None = None) -> Talk:
        """`via`: connect there instead (a service)."""
        with (
            self._socket(to, version, socket.SOCK_STREAM) as server,
            self._socket(source, version, socket.SOCK_STREAM) as client,
        ):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("", port))
            server.listen()
            client.connect(via or (self.address(to, version), port))
            accepted = server.accept()[0]
            server.close()
        return self._kept(Talk(client, accepted))

    def udp(self, source: str, to: str, port: int, version: int = 4) -> Talk:
        with (
            self._socket(to, version, socket.SOCK_DGRAM) as server,
            self._socket(source, version, socket.SOCK_DGRAM) as client,
        ):
            server.bind((self.address(to, version), port))
            client.connect((self.address(to, version), port))
            client.send(b"first")
            server.connect(server.recvfrom(100)[1])
            server.send(b"answer")
            client.recv(100)
        return self._kept(Talk(client, server))

    def _kept(self, talk: Talk) -> Talk:
        self._open.append(talk)
        return talk

    def connections(self) -> list[str]:
        """What the kernel tracks, a line each."""
        listed = [self.node.run("conntrack", "-L", "-f", family) for family in ("ipv4", "ipv6")]
        return [line for lines in listed for line in lines.splitlines()]

    def tracked(self, source: str, to: str, port: int, version: int = 4) -> bool:
        """Whether there is an entry of this original direction."""
        ends = f"src={self.address(source, version)} dst={self.address(to, version)} "
        originals = [re.split("src=", line, maxsplit=2)[1] for line in self.connections() if "src=" in line]
        return any(f"src={one}".startswith(ends) and f"dport={port} " in one for one in originals)
