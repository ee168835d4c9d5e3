"""What can be tuned about the operator, from its environment.

Owns: names, defaults and limits of the variables. Must not: read anything else (leader.py reads the Lease's timing).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from manx_kube.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field's variable is MANX_ and its name in capitals. Times are seconds."""

    log_level: str = "info"
    alive_file: Path = Path("/tmp/manx-operator.alive")
    """Touched as long as the event loop turns."""
    ready_file: Path = Path("/tmp/manx-operator.ready")
    """Exists while every informer has its first list."""
    coalesce_ms: float = 10.0
    """Between two looks at what was heard, so that changes that come in a stream are written together. The first after
    a pause is looked at at once. Where much is to be written it is longer, up to 100."""
    write_rate: float = 1000.0
    """Writes a second, at most, in the long run."""
    write_burst: float = 200.0
    """Writes beyond that after a pause: so many more in its first second."""
    write_parallel: int = 32
    """In flight at a time, at most. A few would do for a quick server; one that takes 50 ms for each write keeps up
    with 400 a second only if it has these many."""
    status_rate: float = 100.0
    """Of these, writes a second that only tell where a policy is in force."""
    label_linger: float = 30.0
    """How long an object keeps a node's span label after that node last needed it."""
    node_gone_after: float = 300.0
    """How long a Node must be deleted before its blocks go back."""
    block_surplus_after: float = 600.0
    """How long an empty block that the node could do without is kept."""
    forget_interval: float = 2.0
    """How often freed addresses are looked at."""
    forget_settle: float = 120.0
    """How long a process that has just started forgets no address: it cannot know what was deleted before."""
    status_coalesce: float = 1.0
    """From a change of where a policy is in force to its status saying so."""
    kopf: bool = True
    """Whether kopf runs on the leader: conditions and Events of users' kinds."""
    installer: bool = True
    """Whether the Installation decides if anything is written at all. Off: it always is (tests, developers)."""


def from_env(env: Mapping[str, str] | None = None) -> Settings:
    """Raises ConfigError naming the variable and what is allowed."""
    env = os.environ if env is None else env
    given: dict[str, Any] = {}
    for field in fields(Settings):
        name = f"MANX_{field.name.upper()}"
        if env.get(name, ""):
            given[field.name] = _parsed(name, str(field.type), env[name])
    return Settings(**given)


def _parsed(name: str, type_: str, text: str) -> object:
    if type_ == "Path":
        return Path(text)
    if type_ == "bool":
        return _switch(name, text)
    if type_ == "str":
        return text
    try:
        number = float(text) if type_ == "float" else int(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: must be a number") from None
    if not 0 <= number < 1e9 or (number == 0 and name.startswith(("MANX_WRITE_", "MANX_STATUS_RATE"))):
        raise ConfigError(f"{name}={text!r}: must be greater than 0")
    return number


def _switch(name: str, text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ConfigError(f"{name}={text!r}: must be on or off")
    return text.lower() == "on"
