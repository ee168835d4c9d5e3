"""Owns the lab's machines as the root namespace sees them: starting a holder, daemons in it, commands in it, and
finding both again.

It must not know what a daemon is for. What was started is written down (argv, environment, pid) so that a later
command, or a test that killed it, can start the very same again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import cgroups
from lab.run import LabError, run
from lab.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = "root"  # the machine that stands for the root namespace: the forwarder alone runs there

OVERLAYS = ("/etc", "/opt", "/var/lib", "/var/log")
OWN = (
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/lib/manx",
    "/var/lib/calico",
    "/var/log/containers",
)


@dataclass(frozen=True)
class Daemon:
    """One long-lived process of the lab."""

    machine: str
    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    started: str = ""


def start_time(pid: int) -> str:
    """The kernel's start time of a process, which tells it from a later one of the same pid; empty if it has ended."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state in "ZX" else numbers[18]


class Machines:
    """All machines of one lab."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.run_dir = settings.state / "run"
        self.log_dir = settings.state / "logs"

    def start(self, machine: str, *, containerd: Path | None = None) -> int:
        """Start a machine's holder and return its pid. One with a directory for containerd is a node: it gets
        directories of its own wherever Kubernetes keeps things."""
        self._prepare(machine)
        pods = self.settings.state / "pods" / machine
        pods.mkdir(parents=True, exist_ok=True)
        own = [*OWN, f"/var/log/pods={pods}", f"/var/lib/containerd={containerd}"] if containerd else []
        overlays = OVERLAYS if containerd else ()
        words = [self.cgroup(machine), machine, str(self.settings.state), " ".join(overlays), " ".join(own)]
        pid = int(run([sys.executable, "-P", str(HERE / "holder.py"), *words], timeout=60))
        (self.run_dir / f"{machine}.holder").write_text(json.dumps([pid, start_time(pid)]))
        return pid

    def _prepare(self, machine: str) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        cgroups.create(self.cgroup(machine))

    def cgroup(self, machine: str) -> str:
        """The cgroup of a machine's own daemons (a node's pods are beside it, in ``kubepods``)."""
        return f"{self.settings.cgroup}/{machine}/daemons"

    def holder(self, machine: str) -> int:
        """Pid of a machine's holder; LabError if the machine is down."""
        try:
            pid, started = json.loads((self.run_dir / f"{machine}.holder").read_text())
        except FileNotFoundError:
            raise LabError(f"the machine {machine!r} of the lab {self.settings.name!r} was never started") from None
        if start_time(pid) != started:
            raise LabError(f"the machine {machine!r} of the lab {self.settings.name!r} is down")
        return int(pid)

    def spawn(
        self, machine: str, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> Daemon:
        """Start a daemon in a machine (``ROOT``: in the root namespace); its output goes to ``log(machine, name)``."""
        if machine == ROOT:
            self._prepare(ROOT)
        holder = 0 if machine == ROOT else self.holder(machine)
        words = [str(word) for word in argv]
        launcher = [
            sys.executable,
            "-P",
            str(HERE / "spawn.py"),
            str(holder),
            self.cgroup(machine),
            str(self.log(machine, name)),
        ]
        pid = int(run([*launcher, *words], env={**os.environ, **(env or {})}, timeout=60))
        daemon = Daemon(machine, name, words, dict(env or {}), pid, start_time(pid))
        self._record(machine, name).write_text(json.dumps(asdict(daemon)))
        return daemon

    def _record(self, machine: str, name: str) -> Path:
        return self.run_dir / f"{machine}.{name}.daemon"

    def log(self, machine: str, name: str) -> Path:
        """File that takes a daemon's output."""
        return self.log_dir / f"{machine}.{name}.log"

    def daemon(self, machine: str, name: str) -> Daemon:
        """What was last started under this name; LabError if nothing was."""
        try:
            return Daemon(**json.loads(self._record(machine, name).read_text()))
        except FileNotFoundError:
            raise LabError(f"no daemon {name!r} was ever started on {machine!r}") from None

    def started(self) -> list[str]:
        """Names of all machines that have, or had, daemons."""
        return sorted({path.name.split(".")[0] for path in self.run_dir.glob("*.daemon")})

    def daemons(self, machine: str) -> list[Daemon]:
        """All daemons ever started on a machine."""
        return [Daemon(**json.loads(path.read_text())) for path in sorted(self.run_dir.glob(f"{machine}.*.daemon"))]

    def is_running(self, daemon: Daemon) -> bool:
        """Whether this very process still is."""
        return bool(daemon.started) and start_time(daemon.pid) == daemon.started

    def signal(self, machine: str, name: str, number: int = signal.SIGKILL) -> None:
        """Send a daemon a signal; nothing if it is already gone."""
        daemon = self.daemon(machine, name)
        if self.is_running(daemon):
            os.kill(daemon.pid, number)

    def stop(self, machine: str, name: str, *, grace: float = 5) -> None:
        """End a daemon: politely, then not."""
        daemon = self.daemon(machine, name)
        self.signal(machine, name, signal.SIGTERM)
        end = time.monotonic() + grace
        while self.is_running(daemon):
            if time.monotonic() > end:
                self.signal(machine, name, signal.SIGKILL)
            time.sleep(0.02)

    def restart(self, machine: str, name: str) -> Daemon:
        """End a daemon if it still runs and start the same again."""
        self.stop(machine, name)
        old = self.daemon(machine, name)
        return self.spawn(machine, name, old.argv, old.env)

    def enter(self, machine: str) -> list[str]:
        """The words that, put before a command, run it inside a machine."""
        return ["nsenter", "--target", str(self.holder(machine)), "--net", "--mount", "--uts", "--ipc", "--pid", "--"]

    def exec(self, machine: str, argv: Sequence[str | Path], *, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command inside a machine and return its output; LabError as ``run``."""
        return run([*self.enter(machine), *argv], stdin=stdin, timeout=timeout)

    def popen(self, machine: str, argv: Sequence[str | Path]) -> subprocess.Popen[str]:
        """Start a command inside a machine whose output the caller reads; the caller ends it."""
        words = [*self.enter(machine), *(str(word) for word in argv)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def forget(self, machine: str) -> None:
        """Remove what is written down of a machine that is down."""
        for record in self.run_dir.glob(f"{machine}.*"):
            record.unlink()

    def kill(self, machine: str) -> None:
        """End a machine as a power cut would: its holder first, then whatever its cgroup still has."""
        with contextlib.suppress(LabError, ProcessLookupError):
            os.kill(self.holder(machine), signal.SIGKILL)
        cgroups.kill(f"{self.settings.cgroup}/{machine}")
        cgroups.remove(f"{self.settings.cgroup}/{machine}")
