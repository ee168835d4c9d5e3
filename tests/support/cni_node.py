"""A node for CNI tests: a namespace, the agent's CNI part in it, and the real executable called as a runtime calls it.

Owns: their processes and files. Must not: leave any of them behind.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from manx_agent.ipam.records import parse
from manx_agent.ipam.table import Table
from netns import Netns

CHECKOUT = Path(__file__).resolve().parents[2]
AGENT = Path(__file__).with_name("cni_agent.py")
NODE_ADDRESS = "198.51.100.7"


@functools.cache
def compiled(package: str, name: str) -> Path:
    """An executable of the Go module in cni/, compiled once for this process (Go's own cache makes it quick)."""
    directory = Path(tempfile.mkdtemp(prefix="manx-cni-"))
    environment = {**os.environ, "CGO_ENABLED": "0"}
    command = ["go", "build", "-o", str(directory / name), package]
    subprocess.run(command, cwd=CHECKOUT / "cni", env=environment, check=True)
    return directory / name


class CniFailure(Exception):
    """The executable failed; `error` is the CNI error that it printed."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("msg"))
        self.error = error
        self.code = error.get("code")


class CniNode:
    """A context manager. Its agent has to be started."""

    def __init__(self, *, version: str = "1.1.0", blocks: str = "10.99.0.0/28") -> None:
        self.netns = Netns()
        self.netns.ip("address", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
        self.directory = Path(tempfile.mkdtemp(prefix="manx-cni-node-"))
        self.socket = self.directory / "cni.sock"
        self.version = version
        self.blocks = blocks
        self.agent: subprocess.Popen[str] | None = None
        self.timeout = 20.0

    def __enter__(self) -> CniNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.netns.close()
        shutil.rmtree(self.directory)

    # --- the agent ----------------------------------------------------------------------------------------------------

    def start(self) -> list[str]:
        """Returns the container IDs that the agent found at its start."""
        self.starting()
        return self.started()

    def starting(self) -> subprocess.Popen[str]:
        command = self.netns.argv(
            sys.executable, str(AGENT), str(self.directory), str(self.socket), "--blocks", self.blocks
        )  # fmt: skip
        with (self.directory / "log").open("a") as log:
            self.agent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        return self.agent

    def started(self) -> list[str]:
        line = self.say()
        assert line.startswith("ready "), (self.directory / "log").read_text()
        found: list[str] = json.loads(line.removeprefix("ready ").replace("'", '"'))
        return found

    def say(self) -> str:
        """The agent's next line."""
        assert self.agent is not None
        assert self.agent.stdout is not None
        return self.agent.stdout.readline()

    def signal(self, number: int) -> None:
        assert self.agent is not None
        self.agent.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.agent is not None:
            self.agent.kill()
            self.wait()

    def stop(self) -> None:
        """SIGTERM."""
        assert self.agent is not None
        self.agent.terminate()
        self.wait()

    def wait(self) -> None:
        assert self.agent is not None
        assert self.agent.stdout is not None
        self.agent.wait()
        self.agent.stdout.close()
        self.agent = None

    def steer(self, name: str, on: bool = True) -> None:
        """See cni_agent."""
        path = self.directory / name
        if on:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """As it was at first, but for addresses that are not given again."""
        self.timeout = 20.0
        for name in ("unexpected", "hold", "refuse", "die"):
            self.steer(name, on=False)
        if self.agent is None:
            self.start()
        for container in set(self.allocated()):
            self.cni("DEL", container)

    def allocated(self) -> list[str]:
        """Container IDs that the journal on the disk has addresses for."""
        parsed = parse((self.directory / "addresses").read_bytes() if (self.directory / "addresses").exists() else b"")
        table = Table()
        for record in parsed.records:
            table.apply(record)
        return [container for container, _ in table.allocations()]

    def events(self) -> list[str]:
        path = self.directory / "events"
        return path.read_text().splitlines() if path.exists() else []

    # --- the executable -----------------------------------------------------------------------------------------------

    def configuration(self, **extra: Any) -> dict[str, Any]:
        own = {"cniVersion": self.version, "name": "manx", "type": "manx"}
        return {**own, "socket": str(self.socket), "timeout": self.timeout, **extra}

    def popen(self, command: str, container: str, netns: str, *, uid: str = "", **extra: Any) -> subprocess.Popen[str]:
        """Starts the executable, in the node's namespace."""
        arguments = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID={uid or 'uid-' + container}"
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": f"IgnoreUnknown=1;{arguments}", "PATH": os.environ["PATH"],
        }  # fmt: skip
        process = subprocess.Popen(
            self.netns.argv(str(compiled(".", "manx"))),
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.configuration(**extra)))
        process.stdin.close()
        process.stdin = None
        return process

    def cni(self, command: str, container: str, netns: str = "", **extra: Any) -> dict[str, Any]:
        """What it printed. Raises CniFailure."""
        return finished(self.popen(command, container, netns, **extra))

    def add(self, container: str, pod: Netns, **extra: Any) -> str:
        """The pod's address."""
        return address_of(self.cni("ADD", container, pod.path, **extra))

    def interfaces(self) -> list[str]:
        """The node's ends of veths."""
        links = json.loads(self.netns.ip("-j", "link"))
        return sorted(link["ifname"] for link in links if link["ifname"].startswith("mnx"))


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Raises CniFailure."""
    output, _ = process.communicate(timeout=120)
    printed: dict[str, Any] = json.loads(output) if output.strip() else {}
    if process.returncode:
        raise CniFailure(printed)
    return printed


def address_of(result: dict[str, Any]) -> str:
    return str(result["ips"][0]["address"]).partition("/")[0]
