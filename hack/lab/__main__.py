"""Owns the lab's command line: which commands and options there are. It must not do any work (``commands`` does)."""

from __future__ import annotations

import argparse
import os
import sys

from lab import commands
from lab.run import LabError
from lab.settings import DEFAULT_IMAGE

Commands = argparse._SubParsersAction


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(prog="lab", description="A Kubernetes cluster on this machine, with Manx.")
    every = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(_add(every, "up", "bring a lab up; what is left of one of the same name goes first"))
    _add(every, "down", "take a lab down and leave nothing behind").add_argument(
        "--all", action="store_true", help="every lab of this machine"
    )
    _add(every, "status", "list the lab's daemons and their pids")
    _add(every, "show", "show with real packets that Manx works")
    _add_words(_add(every, "exec", "run a command (none: a shell) on a machine of the lab"))
    _add(every, "import", "load image archives into every node").add_argument("archives", nargs="+")
    restart = _add(every, "restart", "end a daemon and start it again")
    restart.add_argument("machine")
    restart.add_argument("daemon")
    _add_dev(every)
    _add_image(every)
    every.add_parser("build", help="compile the lab's Go programs into the cache, print where they are")
    every.add_parser("gotest", help="vet and test the Go code of cni/")
    return root


def _add(every: Commands[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    command = every.add_parser(name, help=text, description=text)
    default = os.environ.get("MANX_LAB", "manx")
    command.add_argument("--name", default=default, help="which lab (default: manx, or $MANX_LAB)")
    return command


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    up.add_argument("--bare", action="store_true", help="a cluster without Manx: its nodes stay NotReady")
    up.add_argument("--dev", action="store_true", help="Manx from the working tree, as processes of the host")
    up.add_argument("--ipv4-only", action="store_true", help="pods have IPv4 addresses only")
    up.add_argument("--ipv6-only", action="store_true", help="nothing in the cluster has an IPv4 address")
    up.add_argument("--no-show", action="store_true", help="install Manx, but do not end with the show")
    up.add_argument("--images", nargs="+", default=[], metavar="FILE", help="further image archives for every node")
    up.add_argument("--image", default=DEFAULT_IMAGE, help="the name that Manx's image gets in the nodes")
    up.add_argument(
        "--apiserver-arg", action="append", default=[], metavar="FLAG", help="a further kube-apiserver flag"
    )


def _add_words(command: argparse.ArgumentParser) -> None:
    command.add_argument("machine", help="fabric, control-plane, node1, ...")
    command.add_argument("words", nargs=argparse.REMAINDER, help="the command")


def _add_dev(every: Commands[argparse.ArgumentParser]) -> None:
    text = "restart Manx's processes of a lab brought up with --dev, from the working tree as it is now"
    _add(every, "dev-restart", text).add_argument("processes", nargs="*", help="operator, agent (default: all)")
    text = "run any command as a daemon of a machine, with KUBECONFIG and NODE_NAME set, its output in the lab's logs"
    run = _add(every, "dev-run", text)
    run.add_argument("daemon", help="the name to stop or restart it by")
    _add_words(run)


def _add_image(every: Commands[argparse.ArgumentParser]) -> None:
    image = every.add_parser("image", help="build Manx's image from the Containerfile, for a registry of your own")
    image.add_argument("--image", default=DEFAULT_IMAGE)
    image.add_argument("--base", help="the image to build on (default: the Containerfile's)")
    image.add_argument("--engine", help="docker, podman or buildah (default: the first that is installed)")
    image.add_argument(
        "--archive", action="store_true", help="build on the local Debian base; print the archive's path"
    )
    image.add_argument("--collect", action="store_true", help="only fill dist/")
    text = "build Manx's image, load it into the running lab and roll it out"
    _add(every, "refresh", text)


def main() -> int:
    """Run one command; 1 and a sentence on standard error if it failed."""
    options = parser().parse_args()
    if os.geteuid() != 0:
        print("lab: this needs root: it makes namespaces and mounts (of its own)", file=sys.stderr)
        return 1
    try:
        commands.ACTIONS[options.command](options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted (./hack/down removes what is there)", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
