"""The agent's settings, from its environment.

Owns: their names, defaults and ranges. Must not: read anything but the mapping given.

Why the environment and not a file: everything that users configure arrives in the NodeState; what is here says where
the agent runs, and is set by the DaemonSet, by the lab and by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manx_agent.model import AgentError


class ConfigError(AgentError):
    """A variable is missing or out of range; the message names it and what is allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where this agent runs."""

    node: str
    cni_socket: Path
    state_dir: Path
    bgp_dir: Path
    probe_port: int
    """On 127.0.0.1; 0 serves no probes."""
    log_level: str
    proc_sys_net: Path
    """Where the node's /proc/sys/net can be written."""


def config_from(environment: Mapping[str, str]) -> Config:
    """Raises ConfigError."""
    return Config(
        node=_node(environment),
        cni_socket=Path(environment.get("MANX_CNI_SOCKET", "/run/manx/cni.sock")),
        state_dir=Path(environment.get("MANX_STATE_DIR", "/var/lib/manx")),
        bgp_dir=Path(environment.get("MANX_BGP_DIR", "/run/manx/bgp")),
        probe_port=_port(environment.get("MANX_PROBE_PORT", "9098")),
        log_level=_level(environment.get("MANX_LOG_LEVEL", "info")),
        proc_sys_net=Path(environment.get("MANX_PROC_SYS_NET", "/proc/sys/net")),
    )


def _node(environment: Mapping[str, str]) -> str:
    node = environment.get("NODE_NAME", "")
    if not node:
        raise ConfigError("NODE_NAME is not set: it must be the Node object's name")
    return node


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigError(f"MANX_PROBE_PORT is {text!r}: allowed are 0 to 65535, 0 for none")
    return int(text)


def _level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text.lower() not in levels:
        raise ConfigError(f"MANX_LOG_LEVEL is {text!r}: allowed are {', '.join(levels)}")
    return text.upper()
