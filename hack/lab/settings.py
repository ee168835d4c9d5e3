"""Owns every name, path and address of a lab: all other modules ask here, so that two labs of different names never
meet.

It must not do I/O beyond reading and writing its own file. A lab's addresses are the same in every lab, for each lab
has namespaces of its own; what the whole machine shares (state directory, cgroup, the forwarder's port) carries the
lab's name.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.run import LabError

STATE_ROOT = Path("/var/lib/manx-lab")
CACHE = Path(os.environ.get("MANX_CACHE", "/var/cache/manx"))
CHECKOUT = Path(__file__).resolve().parents[2]

POD_CIDR = {4: "10.244.0.0/16", 6: "fd10:244::/64"}  # RFC 4193
SERVICE_CIDR = {4: "10.96.0.0/16", 6: "fd10:96::/112"}
API_SERVICE = {4: "10.96.0.1", 6: "fd10:96::1"}
CLUSTER_DNS = {4: "10.96.0.10", 6: "fd10:96::a"}
CLUSTER_DOMAIN = "cluster.local"
MTU = 1500
UNDERLAY4 = "198.51.100.{host}"  # RFC 5737
UNDERLAY6 = "2001:db8:51::{host:x}"  # RFC 3849
ROUTER_HOST, CONTROL_PLANE_HOST, FIRST_NODE_HOST, FIRST_EXTRA_HOST = 1, 2, 10, 200
API_PORT = 6443
OUTSIDE = {4: "203.0.113.10", 6: "2001:db8:cb::10"}  # RFC 5737, 3849: a host that knows no pod's address
MAX_NODES = 60
DEFAULT_IMAGE = "docker.io/manxnet/manx:v0.1.0"


@dataclass(frozen=True)
class Member:
    """One network stack of the lab: the fabric, the control plane, a node, or a host that a test adds."""

    name: str
    host: int
    has_ipv4: bool = True

    @property
    def address(self) -> str:
        """Address on the fabric by which the cluster knows it: the IPv4 one if it has one."""
        return UNDERLAY4.format(host=self.host) if self.has_ipv4 else self.address6

    @property
    def address6(self) -> str:
        """IPv6 address on the fabric."""
        return UNDERLAY6.format(host=self.host)


@dataclass(frozen=True)
class Settings:
    """What a lab is. Frozen at ``up``, kept in its state directory, read again by every later command."""

    name: str = "manx"
    nodes: int = 3
    api_port: int = 0
    bare: bool = False
    dev: bool = False
    ipv4_only: bool = False
    ipv6_only: bool = False
    image: str = DEFAULT_IMAGE
    extra_images: list[str] = field(default_factory=list)
    apiserver_args: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.name):
            raise LabError(f"--name {self.name!r}: lower-case letters, digits and dashes, at most 31, a letter first")
        if self.ipv4_only and self.ipv6_only:
            raise LabError("--ipv4-only and --ipv6-only: one of them")
        if not 1 <= self.nodes <= MAX_NODES:
            raise LabError(f"--nodes {self.nodes}: 1 to {MAX_NODES} nodes are possible")

    @property
    def state(self) -> Path:
        """The directory that holds all of this lab that is in the file system."""
        return STATE_ROOT / self.name

    @property
    def cgroup(self) -> str:
        """Path of the lab's cgroup below every hierarchy's root."""
        return f"manx-lab-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use from the root namespace."""
        return self.state / "kubeconfig"

    @property
    def families(self) -> tuple[int, ...]:
        """Which families of addresses pods have."""
        return (4,) if self.ipv4_only else (6,) if self.ipv6_only else (4, 6)

    @property
    def node_families(self) -> tuple[int, ...]:
        """Which families of addresses machines and services have, the cluster's first one first."""
        return (6,) if self.ipv6_only else (4, 6)

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes, in Kubernetes and in the lab's commands."""
        return [f"node{i}" for i in range(1, self.nodes + 1)]

    @property
    def preferred_port(self) -> int:
        """The API server's port on 127.0.0.1 if it is free: 16443 for the lab ``manx``, another for each other name."""
        return 16443 if self.name == "manx" else 16500 + zlib.crc32(self.name.encode()) % 1000

    def member(self, name: str) -> Member:
        """The network stack called ``name``; LabError if this lab has none."""
        fixed = {"fabric": ROUTER_HOST, "control-plane": CONTROL_PLANE_HOST}
        if name in fixed:
            return self.at(name, fixed[name])
        if name in self.node_names:
            return self.at(name, FIRST_NODE_HOST + int(name.removeprefix("node")))
        raise LabError(f"{name!r} is not in the lab {self.name!r}: it has {', '.join([*fixed, *self.node_names])}")

    def at(self, name: str, host: int) -> Member:
        """The network stack of this number on the fabric."""
        return Member(name, host, has_ipv4=4 in self.node_families)

    def save(self) -> None:
        """Write the settings into the state directory."""
        (self.state / "lab.json").write_text(json.dumps(asdict(self), indent=1))


def load(name: str) -> Settings:
    """The settings of the lab ``name`` as it was started; LabError where there is none."""
    try:
        return Settings(**json.loads((STATE_ROOT / name / "lab.json").read_text()))
    except FileNotFoundError:
        raise LabError(f"no lab named {name!r} is up (start it with ./hack/up --name {name})") from None


def running_labs() -> list[str]:
    """Names of all labs that have a state directory on this machine."""
    return sorted(path.name for path in STATE_ROOT.glob("*") if path.is_dir())
