"""What is said on the CNI socket: requests in, results or errors out. Pure.

Owns: the shape of both, and every way in which a request can be wrong. Must not: do I/O.

A request is one line of JSON, an answer too:
  {"command": "ADD", "containerID": …, "netns": …, "ifName": …, "args": …, "path": …, "config": {…}}
  {"result": {…}}  or  {"error": {"code": 11, "msg": …, "details": …}}
Source: CNI specification 1.1.0 (commands, parameters, error codes); the line framing is ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from manx_agent.drivers.netlink_codec import is_ipv6
from manx_agent.drivers.netlink_messages import NODE_MAC, PodLink, gateway_of
from manx_agent.ipam.table import Key
from manx_agent.model import AgentError

CNI_VERSION = "1.1.0"
COMMANDS = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS"})
ON_ATTACHMENTS = frozenset({"ADD", "DEL", "CHECK"})
MIN_TIMEOUT, MAX_TIMEOUT, DEFAULT_TIMEOUT = 1.0, 600.0, 90.0

UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN = 11
NOT_AVAILABLE = 50
CHECK_FAILED = 101
"""Codes of 100 and more are the plugin's own."""
INTERNAL = 999

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,255}")
_INTERFACE = re.compile(r"[^/:\s]{1,15}")


class CniError(AgentError):
    """An error as CNI answers it."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class NetConf(msgspec.Struct, frozen=True):
    """What the agent reads of the network configuration."""

    name: str = ""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds for the whole request, 1 to 600."""
    prev_result: dict[str, Any] | None = msgspec.field(default=None, name="prevResult")
    valid_attachments: tuple[ValidAttachment, ...] = msgspec.field(default=(), name="cni.dev/valid-attachments")


class ValidAttachment(msgspec.Struct, frozen=True):
    """What GC must leave."""

    container_id: str = msgspec.field(name="containerID")
    interface: str = msgspec.field(name="ifname")


class Request(msgspec.Struct, frozen=True):
    command: str
    container_id: str = msgspec.field(default="", name="containerID")
    netns: str = ""
    if_name: str = msgspec.field(default="", name="ifName")
    args: str = ""
    path: str = ""
    config: NetConf = NetConf()

    @property
    def key(self) -> Key:
        return self.container_id, self.if_name


@dataclass(frozen=True, slots=True)
class Pod:
    """Whom a sandbox is for."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} (uid {self.uid})"


_decoder = msgspec.json.Decoder(Request)


def parse_request(line: bytes) -> Request:
    """Raises CniError that names the parameter and what is allowed."""
    try:
        request = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CniError(DECODING_FAILURE, "the request is not what this agent understands", str(error)) from error
    if request.command not in COMMANDS:
        allowed = ", ".join(sorted(COMMANDS))
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND: {request.command[:40]!r} is none of {allowed}")
    if request.command in ON_ATTACHMENTS:
        _check_attachment(request)
    if not MIN_TIMEOUT <= request.config.timeout <= MAX_TIMEOUT:
        raise CniError(INVALID_CONFIG, f"timeout: {request.config.timeout} is not between 1 and 600 seconds")
    return request


def _check_attachment(request: Request) -> None:
    if not _CONTAINER_ID.fullmatch(request.container_id):
        text = "is not letters, digits, '_', '.', '-', beginning with a letter or digit"
        raise CniError(INVALID_ENVIRONMENT, f"CNI_CONTAINERID: {request.container_id[:80]!r} {text}")
    if not _INTERFACE.fullmatch(request.if_name) or request.if_name in {".", ".."}:
        text = "is not 1 to 15 characters without '/', ':' and white space"
        raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME: {request.if_name[:40]!r} {text}")


def pod_of(request: Request) -> Pod:
    """Whom the runtime says that the sandbox is for. Raises CniError."""
    pairs = dict(pair.partition("=")[::2] for pair in request.args.split(";") if pair)
    names = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID")
    missing = [name for name in names if not pairs.get(name)]
    if missing:
        text = f"CNI_ARGS: {', '.join(missing)} missing; containerd (from 1.6) and CRI-O give all of {', '.join(names)}"
        raise CniError(INVALID_ENVIRONMENT, text)
    return Pod(*(pairs[name] for name in names))


def result_of(link: PodLink, netns: str) -> dict[str, Any]:
    """ADD's success, in the form of CNI 1.1.0; the executable converts it to what the configuration asks for."""
    return {
        "cniVersion": CNI_VERSION,
        "interfaces": [
            {"name": link.interface, "mac": NODE_MAC, "mtu": link.mtu},
            {"name": link.pod_interface, "mac": link.pod_mac, "mtu": link.mtu, "sandbox": netns},
        ],
        "ips": [_ip(address) for address in link.addresses],
        "routes": [_default_route(address) for address in link.addresses],
        "dns": {},
    }


def _ip(address: str) -> dict[str, Any]:
    length = 128 if is_ipv6(address) else 32
    return {"address": f"{address}/{length}", "interface": 1, "gateway": gateway_of(address)}


def _default_route(address: str) -> dict[str, str]:
    return {"dst": "::/0" if is_ipv6(address) else "0.0.0.0/0", "gw": gateway_of(address)}


def addresses_in(result: dict[str, Any] | None) -> set[str]:
    """The addresses, without prefix lengths, that a result of any version lists. Raises CniError."""
    try:
        return {str(found["address"]).partition("/")[0] for found in (result or {}).get("ips", [])}
    except (TypeError, KeyError, AttributeError) as error:
        raise CniError(DECODING_FAILURE, "prevResult.ips: is not a list of objects with an address") from error


def encode_result(result: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"result": result}) + b"\n"


def encode_error(error: CniError) -> bytes:
    fields = {"code": error.code, "msg": error.message, "details": error.details}
    return msgspec.json.encode({"error": fields}) + b"\n"
