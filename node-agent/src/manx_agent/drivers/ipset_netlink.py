"""A few members in and out of ipsets, sets that go, and which sets have changed at all, by netlink.

Owns: the lines of `ipset restore` that it understands, as messages; destroying sets; a digest of each set. Must not:
create sets, say what is in them, or be given many lines (`FEW`): the program packs thousands into one message.

Why beside the program: a pod that starts, and an address that joins a group, are one line each, and are what happens
most. Starting a program for one takes the agent and the machine some 4 ms of processor; the line itself takes 10 µs.
What is not plainly understood (`parsed`) is left to the program. As with the program, what comes after a line that
fails is not done.
Source: linux/netfilter/ipset/ip_set.h; ip_set_core.c.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from manx_agent.drivers.netlink_codec import ATTRIBUTE, NFGENMSG, Value, attributes, bits_of, nested, packed
from manx_agent.drivers.netlink_codec import parsed as parsed_attributes
from manx_agent.drivers.netlink_wire import Message, NetlinkError, Wire
from manx_core.policy.protocols import NUMBERS, WITH_PORTS

FEW = 64
"""Lines for which starting the program costs more."""

_NETLINK_NETFILTER = 12
_COMMANDS = {"add": 6 << 8 | 9, "del": 6 << 8 | 10}
"""NFNL_SUBSYS_IPSET; IPSET_CMD_ADD, IPSET_CMD_DEL."""
_DESTROY, _SAVE = 6 << 8 | 3, 6 << 8 | 8
"""IPSET_CMD_DESTROY, IPSET_CMD_SAVE."""
_PROTOCOL = attributes((1, b"\x06"))
"""IPSET_ATTR_PROTOCOL: 6 is what every kernel takes for these commands."""
_SETNAME, _DATA = 2, 7
_SECOND = NFGENMSG.size + len(_PROTOCOL)
"""Where the second attribute of a message is, if the first says which protocol it is."""
_IP, _CIDR, _PORT, _PROTO, _IFACE = 1, 3, 4, 7, 23
_NETWORK_ORDER = 1 << 14
_NAME_MAX, _INTERFACE_MAX = 31, 15
_PRIVATE = 4096
"""From here on an error's number is ipset's own."""
_BUSY = 4100
"""IPSET_ERR_BUSY: something refers to the set."""

_LINE = re.compile(r"(add|del) (\S+) ([0-9a-f.:]+)(?:/(\d{1,3}))?(?:,(?:(tcp|udp|sctp):(\d{1,5})|([a-z][^\s,:]*)))?")
_PROTOCOLS = {name.lower(): NUMBERS[name] for name in WITH_PORTS}
_PORT_MAX = 0xFFFF


class Change(NamedTuple):
    """One member in or out. `prefix`: None for an address alone; `interface` or `port` (the protocol's number, and
    that): "" and None in a set that has none."""

    verb: str
    name: str
    address: bytes
    prefix: int | None
    interface: str = ""
    port: tuple[int, int] | None = None


def parsed(text: str) -> list[Change] | None:
    """The lines of an `ipset restore`; None where they are too many, or any is more than `add` or `del` of an address
    or network, alone or with an interface, or of an address with a port."""
    lines = text.splitlines()
    if len(lines) > FEW:
        return None
    changes = [change for line in lines if (change := _change(line)) is not None]
    return changes if len(changes) == len(lines) else None


def _change(line: str) -> Change | None:
    found = _LINE.fullmatch(line)
    if found is None or len(found[2]) > _NAME_MAX:
        return None
    verb, name, text, length, protocol, number, interface = found.groups()
    if len(interface or "") > _INTERFACE_MAX or int(number or 0) > _PORT_MAX or (protocol and length):
        return None
    try:
        address = packed(text)
    except OSError:
        return None
    prefix = int(length) if length else None
    if prefix is not None and prefix > bits_of(text):
        return None
    port = (_PROTOCOLS[protocol], int(number)) if protocol else None
    return Change(verb, name, address, prefix, interface or "", port)


def apply(changes: Sequence[Change]) -> None:
    """Blocking: one after the other, up to the first that fails. What is there, or gone, already is no error. Raises
    NetlinkError."""
    with Wire(_NETLINK_NETFILTER) as wire:
        for change in changes:
            try:
                wire.send([message(change)])
            except NetlinkError as error:
                raise NetlinkError(f"ipset {change.verb} {change.name}: {_said(error)}", error.errno) from error


def destroy(names: Iterable[str]) -> tuple[str, ...]:
    """Blocking: destroys sets, and returns those that something refers to. One that is gone is no error. Raises
    NetlinkError."""
    busy: list[str] = []
    with Wire(_NETLINK_NETFILTER) as wire:
        for name in names:
            body = NFGENMSG.pack(socket.AF_INET, 0, 0) + _PROTOCOL + attributes((_SETNAME, name))
            try:
                wire.send([Message(f"ipset destroy {name}", _DESTROY, 0, body, frozenset({errno.ENOENT}))])
            except NetlinkError as error:
                if error.errno != _BUSY:
                    raise
                busy.append(name)
    return tuple(busy)


def digests() -> dict[str, bytes]:
    """Of each set of the network namespace, with its members. Blocking. The same twice: it has not changed. It may
    differ though nothing has, where a set was rearranged. Raises NetlinkError.

    A tenth of what the program and its text cost; every few seconds, on every node."""
    found: dict[bytes, hashlib.blake2b] = {}
    with Wire(_NETLINK_NETFILTER) as wire:
        for body in wire.dump(_SAVE, NFGENMSG.pack(0, 0, 0) + _PROTOCOL):
            name = _name_in(body)
            if name not in found:
                found[name] = hashlib.blake2b(digest_size=16)
            found[name].update(body)
    return {name.rstrip(b"\0").decode(): one.digest() for name, one in found.items()}


def _name_in(body: bytes) -> bytes:
    """Of the set that a message is about: the second attribute as the kernel writes them, else looked for."""
    if body.startswith(_PROTOCOL, NFGENMSG.size):
        length, kind = ATTRIBUTE.unpack_from(body, _SECOND)
        if kind == _SETNAME:
            return body[_SECOND + ATTRIBUTE.size : _SECOND + length]
    return parsed_attributes(body, NFGENMSG.size).get(_SETNAME, b"")


def _said(error: NetlinkError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such set"
    return f"ipset's error {error.errno}" if error.errno >= _PRIVATE else os.strerror(error.errno)


def message(change: Change) -> Message:
    """Without NLM_F_EXCL, which is what `ipset -exist` leaves out."""
    family = socket.AF_INET if len(change.address) == 4 else socket.AF_INET6
    kind = 1 if family == socket.AF_INET else 2
    data: list[tuple[int, Value]] = [nested(_IP, (kind | _NETWORK_ORDER, change.address))]
    if change.prefix is not None:
        data.append((_CIDR, bytes((change.prefix,))))
    if change.port is not None:
        protocol, port = change.port
        data += [(_PORT | _NETWORK_ORDER, port.to_bytes(2)), (_PROTO, bytes((protocol,)))]
    if change.interface:
        data.append((_IFACE, change.interface))
    body = NFGENMSG.pack(family, 0, 0) + _PROTOCOL + attributes((_SETNAME, change.name), nested(_DATA, *data))
    return Message(f"ipset {change.verb} {change.name}", _COMMANDS[change.verb], 0, body)
