"""Endpoints as NodeState lists them: one line of text for each.

Owns: the form of such a line. Must not: know pods, or which of them are endpoints.

Why text: the API server builds a validator for each object in a list, and for each of its fields, at every write. A
node's pods as objects made a NodeState's write cost it as much as five other writes (docs/decisions/0008).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_UNDECIDED = "-"
"""In the place of a class: no object can be called so."""
_NO_LINE = "not namespace/name, a UID, a class, and ports as name=protocol:number: {!r}"
_MOST_LISTED = 1024
"""Kubernetes means nodes to have up to 110 pods; clouds go up to 250, and a few clusters to 500."""


class NamedPort(NamedTuple):
    """A port that a container declares by name; `number` is 1 to 65535."""

    name: str
    protocol: str
    number: int


class Endpoint(NamedTuple):
    """A pod scheduled to a node, that has, or will have, an address of its own."""

    namespace: str
    name: str
    uid: str
    """The pod's UID: a pod of the same name made later is another endpoint."""
    policy_class: str = ""
    """The PolicyClass whose policies apply, "open" for none. Empty: not decided yet, so closed."""
    ports: tuple[NamedPort, ...] = ()
    """What rules that name a port of the policy's own pods mean here."""


def line_of(endpoint: Endpoint) -> str:
    """ "shop/web-1 0d1e2f3a-… default.shop.5b0c http=TCP:8080": pod, UID, class, ports."""
    namespace, name, uid, policy_class, ports = endpoint
    line = f"{namespace}/{name} {uid} {policy_class or _UNDECIDED}"
    return line if not ports else f"{line} {' '.join([f'{port}={how}:{number}' for port, how, number in ports])}"


@lru_cache(maxsize=_MOST_LISTED)
def endpoint_of(line: str) -> Endpoint:
    """The endpoint that the line is of. Raises ValueError, which says what a line is."""
    try:
        pod, uid, policy_class, *ports = line.split(" ")
        namespace, name = pod.split("/")
        found = Endpoint(namespace, name, uid, _known(policy_class), tuple(map(_port_of, ports)))
    except ValueError:
        raise ValueError(_NO_LINE.format(line)) from None
    if not (namespace and name and uid and policy_class):
        raise ValueError(_NO_LINE.format(line))
    return found


def classes_of(lines: Iterable[str]) -> set[str]:
    """The classes that these lines name. Raises IndexError for what is no such line."""
    return {_known(line.split(" ", 3)[2]) for line in lines} - {""}


def _known(policy_class: str) -> str:
    return "" if policy_class == _UNDECIDED else policy_class


def _port_of(text: str) -> NamedPort:
    name, _, rest = text.partition("=")
    protocol, _, number = rest.partition(":")
    if not (name and protocol and 0 < int(number) < 65536):
        raise ValueError("not a named port")
    return NamedPort(name, protocol, int(number))
