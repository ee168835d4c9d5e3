"""Kernel parameters of the node and of the node's ends of veths.

Owns: which parameters Manx sets, and where they are (a container sees its own /proc/sys read-only, so the directory is
configurable: the node's /proc/sys/net is mounted for it). Must not: touch a parameter of an interface not ours.
Source: Linux Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

import os
from pathlib import Path

from manx_agent.drivers.netlink_wire import NetlinkError

PROC_SYS_NET = Path("/proc/sys/net")

NODE = {"ipv4/ip_forward": "1"}
"""Without it nothing is routed to pods."""


def of_interface(interface: str) -> dict[str, str]:
    """What the node's end of a veth needs."""
    return {
        f"ipv4/conf/{interface}/proxy_arp": "1",  # answer for the gateway, which no interface has
        f"ipv4/neigh/{interface}/proxy_delay": "0",  # at once, not after up to 0.8 s
        f"ipv4/conf/{interface}/forwarding": "1",  # whatever the default for new interfaces is
        f"ipv4/conf/{interface}/send_redirects": "0",  # a pod that reaches itself through a service is on the right way
        f"ipv4/conf/{interface}/rp_filter": "1",  # a second line behind the raw table's anti-spoofing
        f"ipv6/conf/{interface}/disable_ipv6": "1",  # pods have no IPv6 yet, and must not reach the node by it
    }


def write(root: Path, values: dict[str, str]) -> None:
    """Raises NetlinkError. A kernel without IPv6 needs none of its parameters."""
    for name, value in values.items():
        if name.startswith("ipv6/") and not (root / "ipv6").is_dir():
            continue
        try:
            (root / name).write_text(value)
        except OSError as error:
            raise NetlinkError(f"{root / name}: {error.strerror}", error.errno or 0) from error


def differing(root: Path, values: dict[str, str]) -> dict[str, str]:
    """Those of `values` that the kernel has otherwise (or whose interface is gone), as the kernel has them."""
    has_ipv6 = (root / "ipv6").is_dir()
    found = {name: _read(f"{root}/{name}") for name in values if has_ipv6 or not name.startswith("ipv6/")}
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
