"""Network namespaces for tests: made, entered, wired, and gone when the test is, whatever happens to it.

Owns: `Netns`, veth pairs between two of them, a node's way of wiring pods. Must not: touch the network of the namespace
that the tests are started in.

A namespace has no name and no mount: it lives as long as a `cat` whose standard input is a pipe held by this process.
When this process ends, even by SIGKILL, the pipe closes, `cat` ends and the kernel takes the namespace away with all
that is in it. A socket belongs to the namespace in which it was made, so one test process can hold sockets of many.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

GATEWAY = "169.254.1.1"
"""The next hop that pods see; their node answers for it by proxy ARP."""


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "setns")


class Netns:
    """A network namespace, with its loopback up. A context manager; `close` may be called twice."""

    def __init__(self) -> None:
        script = "ip link set lo up && echo ready && exec cat >/dev/null"
        argv = ["unshare", "--net", "sh", "-c", script]
        self._holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError("no network namespace could be made: are the tests run as root?")
        self.pid = self._holder.pid
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> str:
        """A file that stands for the namespace, as CNI_NETNS wants it."""
        return f"/proc/{self.pid}/ns/net"

    def __enter__(self) -> Netns:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the namespace, once nothing else holds it."""
        if self._holder.poll() is not None:
            return
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        os.close(self._descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile, and so are threads and processes that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._descriptor)
            yield
        finally:
            _setns(before)
            os.close(before)

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["nsenter", f"--net={self.path}", *argv]

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Runs a program inside and returns what it says. Raises CalledProcessError, with its stderr as a note."""
        done = subprocess.run(self.argv(*argv), input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
            error.add_note(done.stderr)
            raise error
        return done.stdout

    def popen(self, *argv: str) -> subprocess.Popen[bytes]:
        """Starts a program inside; ending it is the caller's."""
        return subprocess.Popen(self.argv(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def pids(self) -> list[int]:
        """The processes inside, the one that holds it excepted."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.path.samefile(entry / "ns/net", self.path):
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self.pid]

    def ip(self, *words: str) -> str:
        return self.run("ip", *words)

    def sysctl(self, name: str, value: str) -> None:
        """Sets net.`name`, with dots, or slashes where an interface's name has dots."""
        with self.entered():
            Path("/proc/sys/net", name.replace(".", "/")).write_text(value)


def veth(one: Netns, one_name: str, other: Netns, other_name: str) -> None:
    """Connects two namespaces by a pair of interfaces, both up."""
    one.ip("link", "add", one_name, "type", "veth", "peer", "name", other_name, "netns", str(other.pid))
    one.ip("link", "set", one_name, "up")
    other.ip("link", "set", other_name, "up")


def addressed_veth(one: Netns, other: Netns, names: Sequence[str], addresses: Sequence[str]) -> None:
    """The same with an address (with prefix length) on each side."""
    veth(one, names[0], other, names[1])
    for namespace, name, address in zip((one, other), names, addresses, strict=True):
        namespace.ip("address", "add", address, "dev", name)


def make_node(node: Netns) -> None:
    """Makes a namespace forward."""
    node.sysctl("ipv4.ip_forward", "1")


def wire_pod(node: Netns, pod: Netns, interface: str, address: str) -> None:
    """Connects a pod to its node as Manx's CNI does: a veth pair, address/32 on eth0, a default route by a link-local
    next hop that the node answers for."""
    veth(node, interface, pod, "eth0")
    pod.ip("address", "add", f"{address}/32", "dev", "eth0")
    pod.ip("route", "add", GATEWAY, "dev", "eth0", "scope", "link")
    pod.ip("route", "add", "default", "via", GATEWAY, "dev", "eth0")
    node.sysctl(f"ipv4.conf.{interface}.proxy_arp", "1")
    node.sysctl(f"ipv4.neigh.{interface}.proxy_delay", "0")
    node.sysctl(f"ipv4.conf.{interface}.send_redirects", "0")
    node.ip("route", "add", address, "dev", interface, "scope", "link")
