"""Kernel parameters of the node and of the node's ends of veths.

Owns: which parameters Manx sets, and where they are (a container sees its own /proc/sys read-only, so the directory is
configurable: the node's /proc/sys/net is mounted for it; whose parameters appear there depends on the network namespace
of the thread that looks). Must not: touch a parameter of an interface not ours, but for one (`forward_ipv6`).
Those of IPv4 go to the kernel by netlink, with the interface (`by_netlink`): some files it writes only once it has the
lock on links, for which it spins.
Source: Linux Documentation/networking/ip-sysctl.rst; linux/ip.h.
"""

from __future__ import annotations

import os
from pathlib import Path

from manx_agent.drivers.netlink_wire import NetlinkError

PROC_SYS_NET = Path("/proc/sys/net")

NODE = {"ipv4/ip_forward": "1"}
"""Without it nothing is routed to pods."""
PROXY_DELAY = 0
"""Of IPv4, in hundredths of a second or milliseconds."""
FORWARDING6 = "ipv6/conf/all/forwarding"


def has_ipv6(root: Path) -> bool:
    """Whether this kernel has IPv6 (not, where it was started with ipv6.disable=1)."""
    return os.path.isdir(f"{root}/ipv6/conf")


def of_interface(interface: str, *, ipv6: bool) -> dict[str, str]:
    """What the node's end of a veth needs. `ipv6`: its pod has an IPv6 address."""
    return _of_both(interface) | (_of_ipv6(interface) if ipv6 else {f"ipv6/conf/{interface}/disable_ipv6": "1"})


def of_pod_interface(interface: str) -> dict[str, str]:
    """What the pod's end needs for IPv6, whatever a node's defaults are."""
    return {
        f"ipv6/conf/{interface}/disable_ipv6": "0",
        f"ipv6/conf/{interface}/accept_ra": "0",  # its route is known
        f"ipv6/conf/{interface}/addr_gen_mode": "1",  # no link-local address: policy would drop what is sent from it
        "ipv6/conf/lo/disable_ipv6": "0",
    }


def forward_ipv6(root: Path) -> None:
    """Let the node forward IPv6. From then on the kernel listens to router advertisements only where accept_ra is 2: a
    node that has its own default route from them must not lose it. Raises NetlinkError."""
    if _read(f"{root}/{FORWARDING6}") == "1":
        return
    for interface in (root / "ipv6/conf").iterdir():
        if _read(f"{interface}/accept_ra") == "1" and interface.name not in ("all", "default"):
            write(root, {f"ipv6/conf/{interface.name}/accept_ra": "2"})
    write(root, {FORWARDING6: "1"})


def _of_ipv6(interface: str) -> dict[str, str]:
    return {
        f"ipv6/conf/{interface}/disable_ipv6": "0",
        f"ipv6/conf/{interface}/addr_gen_mode": "1",
        f"ipv6/conf/{interface}/accept_ra": "0",  # a pod is no router
        f"ipv6/conf/{interface}/accept_redirects": "0",
        f"ipv6/conf/{interface}/forwarding": "1",
    }


def _of_both(interface: str) -> dict[str, str]:
    return {
        f"ipv4/conf/{interface}/proxy_arp": "1",  # answer for the gateway, which no interface has
        f"ipv4/neigh/{interface}/proxy_delay": str(PROXY_DELAY),  # at once, not after up to 0.8 s
        f"ipv4/conf/{interface}/forwarding": "1",  # whatever the default for new interfaces is
        f"ipv4/conf/{interface}/send_redirects": "0",  # a pod that reaches itself through a service is on the right way
        f"ipv4/conf/{interface}/rp_filter": "1",  # a second line behind the raw table's anti-spoofing
    }


_DEVCONF = {"forwarding": 1, "proxy_arp": 3, "send_redirects": 6, "rp_filter": 8}
"""IPV4_DEVCONF_*"""


def by_netlink(values: dict[str, str]) -> dict[int, int]:
    """Those of an interface's parameters that IFLA_INET_CONF can set, by their numbers there."""
    found = {name.rpartition("/")[2]: value for name, value in values.items() if name.startswith("ipv4/conf/")}
    return {_DEVCONF[name]: int(value) for name, value in found.items()}


def by_file(values: dict[str, str]) -> dict[str, str]:
    """IPv6's."""
    return {name: value for name, value in values.items() if name.startswith("ipv6/")}


def write(root: Path, values: dict[str, str]) -> None:
    """Raises NetlinkError. A kernel without IPv6 needs none of its parameters."""
    for name, value in values.items():
        if name.startswith("ipv6/") and not has_ipv6(root):
            continue
        try:
            _write(f"{root}/{name}", value.encode())
        except OSError as error:
            raise NetlinkError(f"{root / name}: {error.strerror}", error.errno or 0) from error


def _write(path: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def differing(root: Path, values: dict[str, str]) -> dict[str, str]:
    """Those of `values` that the kernel has otherwise (or whose interface is gone), as the kernel has them."""
    ipv6 = has_ipv6(root)
    found = {name: _read(f"{root}/{name}") for name in values if ipv6 or not name.startswith("ipv6/")}
    return {name: value for name, value in found.items() if value != values[name]}


def _read(path: str) -> str:
    """Without a file object: every endpoint's parameters are read every few seconds."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).decode().strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)
