"""Changes under fire: while policy changes again and again, nothing forbidden passes and nothing allowed is lost."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import probe
from manx_agent.model import Dirty
from manx_core.policy.endpoint import NamedPort
from policy_world import Applied, Pod, World, program, rule, towards

CHANGES = 100
RATE = 1500
ALLOWED_RATE = 100
ALLOWED, FORBIDDEN = 53, 99
_RECEIVE_BUFFER = 64 << 20


@dataclass
class Prober:
    """A process that sends from a pod, and what arrived."""

    process: subprocess.Popen[bytes]
    sent: int = 0
    seconds: float = 0.0
    arrived: list[int] = field(default_factory=list)

    def stop(self) -> None:
        out, _ = self.process.communicate()
        sent, seconds = out.split()
        self.sent, self.seconds = int(sent), float(seconds)


@contextlib.contextmanager
def probing(world: World, source: str, to: str, port: int, rate: int) -> Iterator[Prober]:
    """Probes all the time that the block takes; afterwards `sent`, `seconds` and `arrived` are filled in."""
    argv = (sys.executable, probe.__file__, str(rate), f"{world.address(to)}:{port}")
    with world.socket(to, socket.SOCK_DGRAM, "", port) as server:
        server.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BUFFER)  # SO_RCVBUFFORCE
        process = world.netns(source).popen(*argv)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        prober = Prober(process)
        try:
            yield prober
        finally:
            prober.stop()
            prober.arrived = list(_drain(server))


def _drain(server: socket.socket) -> Iterator[int]:
    with contextlib.suppress(TimeoutError):
        while True:
            yield int(server.recv(100))


def _arrange(world: World, number: int, spare: Pod) -> None:
    """The view after so many changes. In all of them b takes port 53 from a, nothing else from a, nothing from c."""
    friends = world.group("f", world.address("a"), *(f"10.9.0.{n}" for n in range(1, 2 + number % 5)))
    ports = ("53",) if number % 2 else ("53", "8000-8010")
    named = world.group("w", f"{world.address('b')},udp:53", kind="AddressPorts")
    allowed = rule(protocol="UDP", ports=ports, groups=(friends,))
    if number % 3 == 0:
        allowed = rule(protocol="UDP", port_groups=(named,), nets=(f"{world.address('a')}/32", "10.9.0.0/16"))
    world.ports("b", NamedPort("dns", "UDP", 53), *([NamedPort("dns", "UDP", 5300)] if number % 2 else []))
    world.ports("c", *([NamedPort("dns", "UDP", 54)] if number % 5 else []))
    if number % 4 == 1:
        allowed = rule(protocol="UDP", named_ports=("dns",), groups=(friends,))
    extra = [program(ingress=(rule(protocol="TCP", ports=(str(port),)),)) for port in range(number % 4)]
    world.policy("b", *extra, program("Ingress", "Egress", ingress=(allowed,)))
    if number % 7 == 3:
        _rename_class(world, "b", "x")
    if number % 4 < 2:
        world.policy("a", program(egress=(towards(protocol="UDP", ports=("53", "99")),)))
    else:
        world.open("a")
    present = {**world.view.endpoints, spare.endpoint.container_id: spare.endpoint}
    if number % 5 == 0:
        present.pop(spare.endpoint.container_id)
    world.view = replace(world.view, endpoints=present)


def _rename_class(world: World, pod: str, letter: str) -> None:
    """The pod gets another class with the same policies; its old one is gone."""
    old = world.view.class_of[world.pods[pod].identity]
    classes = {name: listed for name, listed in world.view.classes.items() if name != old}
    new = f"pc-{letter * 20}"
    world.view = replace(
        world.view,
        classes={**classes, new: world.view.classes[old]},
        class_of={**world.view.class_of, world.pods[pod].identity: new},
    )


def test_a_hundred_changes_open_and_close_nothing(applied: Applied, world: World) -> None:
    spare = world.pods["c"]
    _arrange(world, 0, spare)
    applied.apply()
    with (
        probing(world, "a", "b", FORBIDDEN, RATE) as wrong_port,
        probing(world, "c", "b", ALLOWED + 1, RATE) as wrong_pod,
        probing(world, "a", "b", ALLOWED, ALLOWED_RATE) as allowed,
    ):
        for number in range(CHANGES):
            _arrange(world, number, spare)
            applied.apply(Dirty(everything=number % 10 == 9))
            if number % 10 == 4:
                assert applied.check() == ()
    for prober in (wrong_port, wrong_pod):
        assert prober.sent >= 1000 * prober.seconds, "the fire was lively"
        assert prober.arrived == [], f"of {prober.sent}"
    assert allowed.arrived == list(range(allowed.sent))


def test_the_probes_would_see_a_window(applied: Applied, world: World) -> None:
    """The control: a policy is away for the time of one apply, and the detector says so."""
    _arrange(world, 0, world.pods["c"])
    applied.apply()
    with probing(world, "a", "b", FORBIDDEN, RATE) as prober:
        world.open("b")
        applied.apply(Dirty())
        _arrange(world, 0, world.pods["c"])
        applied.apply(Dirty())
    assert 0 < len(prober.arrived) < prober.sent
