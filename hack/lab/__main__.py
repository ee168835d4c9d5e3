"""Owns the lab's command line. It must not do any work but choosing who does it and saying what went wrong."""

from __future__ import annotations

import argparse
import os
import sys

from lab import node
from lab.down import down
from lab.machines import Machines
from lab.run import LabError
from lab.settings import Settings, load, running_labs
from lab.stages import Stages


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(prog="lab", description="A Kubernetes cluster on this machine.")
    commands = root.add_subparsers(dest="command", required=True)
    _add_up(_add(commands, "up", "bring a lab up (what is left of one of the same name goes first)"))
    _add(commands, "down", "take a lab down and leave nothing behind").add_argument("--all", action="store_true", help="every lab")
    _add(commands, "status", "say what runs")
    enter = _add(commands, "exec", "run a command (or a shell) on a machine of the lab")
    enter.add_argument("machine", help="fabric, control-plane, node1, ...")
    enter.add_argument("words", nargs=argparse.REMAINDER, help="the command; none: a shell")
    load_images = _add(commands, "import", "load image archives into every node")
    load_images.add_argument("archives", nargs="+")
    again = _add(commands, "restart", "end a daemon and start it again")
    again.add_argument("machine")
    again.add_argument("daemon")
    return root


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--name", default=os.environ.get("MANX_LAB", "manx"), help="which lab (default: manx, or $MANX_LAB)")
    return command


def _add_up(command: argparse.ArgumentParser) -> None:
    command.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    command.add_argument("--bare", action="store_true", help="a cluster without Manx: nodes stay NotReady")
    command.add_argument("--dev", action="store_true", help="Manx from the working tree, as processes of the host")
    command.add_argument("--images", nargs="+", default=[], metavar="FILE", help="further image archives for every node")
    command.add_argument("--apiserver-arg", action="append", default=[], metavar="FLAG", help="a further flag of kube-apiserver")


def do_up(options: argparse.Namespace) -> None:
    """Bring a lab up and say how to use it."""
    from lab.up import bare_stages, bring_up_bare

    settings = Settings(
        name=options.name,
        nodes=options.nodes,
        bare=options.bare,
        dev=options.dev,
        extra_images=options.images,
        apiserver_args=options.apiserver_arg,
    )
    stages = Stages(bare_stages())
    bring_up_bare(settings, stages)
    print_usage(settings, stages)


def print_usage(settings: Settings, stages: Stages) -> None:
    """What a newcomer types next."""
    from lab import binaries

    name = "" if settings.name == "manx" else f" --name {settings.name}"
    print(
        f"""
The lab {settings.name!r} is up after {stages.elapsed():.0f} s. To use it:
  export KUBECONFIG={settings.kubeconfig}
  export PATH={binaries.KUBE.directory}:$PATH
  kubectl get nodes -o wide
  ./hack/labctl exec{name} node1      # a shell on a node (node1 to node{settings.nodes}, control-plane, fabric)
  ls {settings.state}/logs            # what its daemons say
  ./hack/down{name}"""
    )


def do_down(options: argparse.Namespace) -> None:
    """Take one lab or all down."""
    for name in running_labs() if options.all else [options.name]:
        print(f"The lab {name!r} is down." if down(name) else f"There was no lab {name!r}.")


def do_status(options: argparse.Namespace) -> None:
    """List machines and daemons with their pids."""
    machines = Machines(load(options.name))
    for machine in ("root", "fabric", "control-plane", *machines.settings.node_names):
        for daemon in machines.daemons(machine):
            state = f"pid {daemon.pid}" if machines.is_running(daemon) else "ended"
            print(f"{machine:15} {daemon.name:25} {state}")


def do_exec(options: argparse.Namespace) -> None:
    """Become the command inside the machine."""
    machines = Machines(load(options.name))
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    argv = [*machines.enter(options.machine), *(words or [os.environ.get("SHELL", "/bin/sh")])]
    os.execvp(argv[0], argv)


def do_import(options: argparse.Namespace) -> None:
    """Load archives into every node."""
    from pathlib import Path

    from lab.up import each_node

    machines = Machines(load(options.name))
    for archive in options.archives:
        each_node(machines, lambda name, path=Path(archive).absolute(): node.import_image(machines, name, path))


def do_restart(options: argparse.Namespace) -> None:
    """Restart one daemon."""
    daemon = Machines(load(options.name)).restart(options.machine, options.daemon)
    print(f"{daemon.name} on {daemon.machine} is pid {daemon.pid}")


def main() -> int:
    """Run one command; 1 and a sentence on standard error if it failed."""
    options = parser().parse_args()
    actions = {"up": do_up, "down": do_down, "status": do_status, "exec": do_exec, "import": do_import, "restart": do_restart}
    if os.geteuid() != 0:
        print("lab: this needs root: it makes namespaces and mounts (of its own)", file=sys.stderr)
        return 1
    try:
        actions[options.command](options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
