"""Who this operator is in the election of a leader, and how the election is timed.

Owns: reading identity and timing from the environment. Must not: elect (`manx_kube.lease` does) or lead.

Environment: POD_NAME and POD_NAMESPACE (downward API); MANX_LEASE_DURATION, MANX_LEASE_RENEW_DEADLINE and
MANX_LEASE_RETRY_PERIOD in seconds, default 15, 10 and 2 as kube-controller-manager's. Labs shorten them (6, 4, 1).
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping

from manx_kube.client import KubeClient
from manx_kube.errors import ConfigError
from manx_kube.lease import LeaseElector, LeaseTiming

LEASE_NAME = "manx-operator"
DEFAULT_NAMESPACE = "manx-system"


def timing_from_env(env: Mapping[str, str] | None = None) -> LeaseTiming:
    """Raises ConfigError, naming the variable, for what is no number or does not fit together."""
    env = os.environ if env is None else env
    default = LeaseTiming()
    try:
        return LeaseTiming(
            _seconds(env, "MANX_LEASE_DURATION", default.duration),
            _seconds(env, "MANX_LEASE_RENEW_DEADLINE", default.renew_deadline),
            _seconds(env, "MANX_LEASE_RETRY_PERIOD", default.retry_period),
        )
    except ValueError as error:
        raise ConfigError(f"MANX_LEASE_*: {error}") from error


def identity_from_env(env: Mapping[str, str] | None = None) -> str:
    """The pod's (else the host's) name and something random: a restarted container is another candidate."""
    env = os.environ if env is None else env
    return f"{env.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


def elector_from_env(
    client: KubeClient, *, floor_epoch: Callable[[], int], env: Mapping[str, str] | None = None
) -> LeaseElector:
    """The candidate that this process is. Raises ConfigError as `timing_from_env` does."""
    env = os.environ if env is None else env
    return LeaseElector(
        client,
        name=LEASE_NAME,
        namespace=env.get("POD_NAMESPACE") or DEFAULT_NAMESPACE,
        identity=identity_from_env(env),
        timing=timing_from_env(env),
        floor_epoch=floor_epoch,
    )


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise ConfigError(f"{name}={text!r}: must be a number of seconds") from None
