"""A blocking netlink socket: requests out, acknowledgements back, errors as ours.

Owns: framing, sequence numbers, error texts. Must not: be used on the event loop, or know what requests mean.

Why this way: a request's work is done inside the kernel's sendmsg (deleting a veth takes some 15 ms): that belongs in
a thread, which also is the only way to reach another network namespace. Several requests go in one datagram; the kernel
acknowledges each.
Source: RFC 3549; linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from manx_agent.drivers.netlink_codec import parsed
from manx_agent.model import AgentError

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_EXCL, NLM_F_CREATE, NLM_F_REPLACE = 0x200, 0x400, 0x100
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_DUMP, NLM_F_DUMP_INTR = 0x300, 0x10
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 11, 12
HEADER = struct.Struct("=IHHII")
QUERIES_AT_ONCE = 64
"""More answers than this might not fit the socket's receive buffer."""
ATTEMPTS = 5
"""To read a table in one go; the last counts, whatever happened meanwhile."""
TIMEOUT = struct.pack("@ll", 10, 0)
"""Seconds (a timeval) for the kernel to answer: it does so within the send, so more is a fault. An option of the
socket: with Python's time limit each call would be two, and each is an occasion to wait for other threads."""


class NetlinkError(AgentError):
    """The kernel refused a request; `errno` says why (0 where it is no errno)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.errno = code


class Message(NamedTuple):
    """A request: `body` is its header of the kind and its attributes; `about` names what it does, for errors.
    `ignore`: errno values that mean that the kernel already is as wanted."""

    about: str
    type: int
    flags: int
    body: bytes
    ignore: frozenset[int] = frozenset()


class Wire:
    """A socket in the network namespace of the thread that opens it. `strict`: the kernel heeds all of a dump's filter
    (Linux 4.20). Raises NetlinkError."""

    def __init__(self, family: int = socket.NETLINK_ROUTE, *, strict: bool = False) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
            if strict:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            self._interrupted = False
        except OSError as error:
            raise NetlinkError(f"netlink socket: {error.strerror}", error.errno or 0) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Send all in one datagram and wait for each's acknowledgement. The kernel does them in order and does not stop
        at one that fails; the first failure is raised."""
        packed = b"".join(_encode(message, number) for number, message in enumerate(messages, 1))
        try:
            self._socket.send(packed)
            answers = self._acknowledgements(len(messages))
        except OSError as error:
            text = error.strerror or str(error)
            raise NetlinkError(f"{messages[0].about}: {text}", error.errno or 0) from error
        for number, message in enumerate(messages, 1):
            code, text = answers[number]
            if code and code not in message.ignore:
                raise NetlinkError(f"{message.about}: {os.strerror(code)}{text}", code)

    def query(self, requests: Sequence[tuple[int, bytes]]) -> dict[int, bytes]:
        """Send (type, body) requests that are answered by one message each. Returns the bodies of the answers by the
        requests' positions; a request that the kernel answers with an error is not among them."""
        packed = [
            HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST, number, 0) + body
            for number, (kind, body) in enumerate(requests)
        ]
        answers: dict[int, bytes | None] = {}
        try:
            for start in range(0, len(packed), QUERIES_AT_ONCE):
                self._socket.send(b"".join(packed[start : start + QUERIES_AT_ONCE]))
                while len(answers) < min(start + QUERIES_AT_ONCE, len(packed)):
                    answers |= parse_answers(self._socket.recv(1 << 16))
        except OSError as error:
            raise NetlinkError(f"netlink query: {error.strerror or error}", error.errno or 0) from error
        return {number: body for number, body in answers.items() if body is not None}

    def ask(self, kind: int, body: bytes) -> bytes:
        """The body of the answer to a request that is answered by one message. Raises NetlinkError."""
        try:
            self._socket.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST, 1, 0) + body)
            number, _, _, content = next(_messages(self._socket.recv(1 << 16)))
        except OSError as error:
            raise NetlinkError(f"netlink query: {error.strerror or error}", error.errno or 0) from error
        if number == NLMSG_ERROR:
            raise _refused("netlink query", content)
        return content

    def table(self, kind: int, body: bytes) -> list[bytes]:
        """A dump of what may change meanwhile: then it is begun anew, for entries may have been left out."""
        for _ in range(ATTEMPTS):
            self._interrupted = False
            found = list(self.dump(kind, body))
            if not self._interrupted:
                break
        return found

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of all messages of a request that is answered by many."""
        packed = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body
        try:
            self._socket.send(packed)
            while True:
                data = self._socket.recv(1 << 16)
                for number, flags, _, content in _messages(data):
                    self._interrupted |= bool(flags & NLM_F_DUMP_INTR)
                    if number == NLMSG_DONE:
                        return
                    if number == NLMSG_ERROR:
                        raise _refused("netlink dump", content)
                    yield content
        except OSError as error:
            raise NetlinkError(f"netlink dump: {error.strerror or error}", error.errno or 0) from error

    def _acknowledgements(self, count: int) -> dict[int, tuple[int, str]]:
        answers: dict[int, tuple[int, str]] = {}
        while len(answers) < count:
            answers |= parse_acknowledgements(self._socket.recv(1 << 16))
        return answers


def _encode(message: Message, number: int) -> bytes:
    flags = message.flags | NLM_F_REQUEST | NLM_F_ACK
    padded = message.body + bytes(-len(message.body) % 4)
    return HEADER.pack(HEADER.size + len(message.body), message.type, flags, number, 0) + padded


def _refused(what: str, content: bytes) -> NetlinkError:
    code = -struct.unpack_from("=i", content)[0]
    return NetlinkError(f"{what}: {os.strerror(code)}", code)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, body) of the messages in a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += max(HEADER.size, (length + 3) & ~3)


def parse_acknowledgements(data: bytes) -> dict[int, tuple[int, str]]:
    """Sequence number → (errno, the kernel's own words, if any) of the NLMSG_ERROR messages in a datagram."""
    return {
        sequence: (-struct.unpack_from("=i", payload)[0], _extended(payload, flags))
        for kind, flags, sequence, payload in _messages(data)
        if kind == NLMSG_ERROR
    }


def parse_answers(data: bytes) -> dict[int, bytes | None]:
    """Sequence number → body of the messages in a datagram, None for an error."""
    return {sequence: None if kind == NLMSG_ERROR else body for kind, _, sequence, body in _messages(data)}


def _extended(payload: bytes, flags: int) -> str:
    """The text of an extended acknowledgement: after the error comes the request's header, its payload too if not
    capped."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    offset = 4 + (HEADER.size if flags & NLM_F_CAPPED else struct.unpack_from("=I", payload, 4)[0])
    text = parsed(payload, offset).get(NLMSGERR_ATTR_MSG)
    return "" if text is None else " (" + text.rstrip(b"\0").decode("utf-8", "replace") + ")"


ALREADY = frozenset({errno.EEXIST})
ABSENT = frozenset({errno.ENODEV, errno.ENXIO})
