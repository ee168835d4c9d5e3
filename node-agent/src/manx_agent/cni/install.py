"""Puts Manx's CNI executable and configuration where the node's runtime looks for them.

Owns: these files on the node, and their order. Must not: touch files of others there, portmap where the node has one,
or write the configuration before the agent serves: its appearance is what makes the node Ready.

Every file appears in one rename: a runtime never executes half a binary or reads half a configuration; a file that is
as it should be is not written, since runtimes reload on any change.
Source: CNI specification 1.1.0, section 1 (configuration format); the runtime takes the first file by name.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manx_agent.model import AgentError

log = logging.getLogger(__name__)

EXECUTABLE = "manx"
PORTMAP = "portmap"
CONFLIST = "10-manx.conflist"
SPEC_VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")


class InstallError(AgentError):
    """The node's CNI directories cannot be written, or a setting is not allowed."""


@dataclass(frozen=True)
class Places:
    """Where what goes; `socket` as processes on the node see it."""

    source: Path = Path("/opt/manx/cni")
    executables: Path = Path("/opt/cni/bin")
    configurations: Path = Path("/etc/cni/net.d")
    socket: Path = Path("/run/manx/cni.sock")
    spec_version: str = "1.0.0"
    """The highest that containerd 1.6, the oldest runtime of Kubernetes 1.32 on, understands; with 1.1.0 runtimes also
    use STATUS and GC."""
    host_ports: bool = True
    """Whether portmap is chained, for pods' hostPort."""


def places_from(environment: Mapping[str, str], socket: Path) -> Places:
    """Raises InstallError."""
    version = environment.get("MANX_CNI_SPEC_VERSION", Places.spec_version)
    if version not in SPEC_VERSIONS:
        raise InstallError(f"MANX_CNI_SPEC_VERSION is {version!r}: allowed are {', '.join(SPEC_VERSIONS)}")
    host_ports = environment.get("MANX_HOST_PORTS", "Enabled")
    if host_ports not in ("Enabled", "Disabled"):
        raise InstallError(f"MANX_HOST_PORTS is {host_ports!r}: allowed are Enabled, Disabled")
    return Places(
        source=Path(environment.get("MANX_CNI_SOURCE_DIR", Places.source)),
        executables=Path(environment.get("MANX_CNI_BIN_DIR", Places.executables)),
        configurations=Path(environment.get("MANX_CNI_CONF_DIR", Places.configurations)),
        socket=socket,
        spec_version=version,
        host_ports=host_ports == "Enabled",
    )


def install(places: Places) -> None:
    """Blocking. The executables first, the configuration last. Raises InstallError."""
    try:
        places.executables.mkdir(parents=True, exist_ok=True)
        places.configurations.mkdir(parents=True, exist_ok=True)
        _install_executable(places, EXECUTABLE, replace=True)
        if places.host_ports:
            _install_executable(places, PORTMAP, replace=False)
        if not (places.executables / EXECUTABLE).exists():
            raise InstallError(f"{EXECUTABLE} is neither in {places.source} nor in {places.executables}")
        _write(places.configurations / CONFLIST, conflist(places, has_portmap=_has_portmap(places)), 0o644)
    except OSError as error:
        raise InstallError(f"{error.filename}: {error.strerror}") from error
    _warn_of_others(places)


def conflist(places: Places, *, has_portmap: bool) -> bytes:
    """The network configuration list."""
    plugins: list[dict[str, object]] = [{"type": EXECUTABLE, "socket": str(places.socket)}]
    if has_portmap:
        plugins.append({"type": PORTMAP, "snat": True, "capabilities": {"portMappings": True}})
    document = {"cniVersion": places.spec_version, "name": "manx", "plugins": plugins}
    return json.dumps(document, indent=2).encode() + b"\n"


def _has_portmap(places: Places) -> bool:
    if not places.host_ports:
        return False
    found = (places.executables / PORTMAP).exists()
    if not found:
        log.warning("no %s in %s: pods' hostPort will do nothing", PORTMAP, places.executables)
    return found


def _install_executable(places: Places, name: str, *, replace: bool) -> None:
    source, target = places.source / name, places.executables / name
    if source.exists() and (replace or not target.exists()):
        _write(target, source.read_bytes(), 0o755)


def _write(target: Path, content: bytes, mode: int) -> None:
    if target.exists() and target.read_bytes() == content and target.stat().st_mode & 0o777 == mode:
        return
    # Neither a runtime's configuration loader nor its executables' look-up takes a name like this one.
    temporary = target.with_name(f".{target.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    temporary.rename(target)
    log.info("installed %s", target)


def _warn_of_others(places: Places) -> None:
    suffixes = (".conf", ".conflist", ".json")
    names = sorted(path.name for path in places.configurations.iterdir() if path.suffix in suffixes)
    if names[0] != CONFLIST:
        text = "%s has %s before %s: the runtime uses that network, not Manx"
        log.warning(text, places.configurations, names[0], CONFLIST)
