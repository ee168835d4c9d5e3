"""Owns what each command of the lab's command line does, in a few lines each. It must not know of option parsing."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from lab import binaries, dev, image, install, node, show, up
from lab.down import down
from lab.kubectl import Kubectl
from lab.machines import Daemon, Machines
from lab.run import LabError, run
from lab.settings import CHECKOUT, Settings, load, running_labs
from lab.stages import Stages


def do_up(options: Namespace) -> None:
    """Bring a lab up, end with the show, say how to use it."""
    settings = Settings(
        name=options.name,
        nodes=options.nodes,
        bare=options.bare,
        dev=options.dev,
        ipv4_only=options.ipv4_only,
        ipv6_only=options.ipv6_only,
        image=options.image,
        extra_images=options.images,
        apiserver_args=options.apiserver_arg,
    )
    with_show = not (options.bare or options.no_show)
    stages = Stages(up.count_stages(settings) + with_show)
    machines = up.bring_up(settings, stages)
    if with_show:
        with stages.stage("The show", "20 s"):
            show.show(machines)
    print_usage(machines.settings, stages)


def print_usage(settings: Settings, stages: Stages) -> None:
    """What a newcomer types next."""
    name = "" if settings.name == "manx" else f" --name {settings.name}"
    print(
        f"""
The lab {settings.name!r} is up after {stages.elapsed():.0f} s. To use it:
  export KUBECONFIG={settings.kubeconfig}
  export PATH={binaries.KUBE.directory}:$PATH
  kubectl get nodes -o wide
  ./hack/labctl exec{name} node1   # a shell on a node; also control-plane, fabric
  ls {settings.state}/logs   # what its daemons say
  ./hack/down{name}"""
    )


def do_down(options: Namespace) -> None:
    """Take one lab or all down."""
    for name in running_labs() if options.all else [options.name]:
        print(f"The lab {name!r} is down." if down(name) else f"There was no lab {name!r}.")


def do_status(options: Namespace) -> None:
    """List machines and daemons with their pids."""
    machines = Machines(load(options.name))
    for machine in machines.started():
        for daemon in machines.daemons(machine):
            state = f"pid {daemon.pid}" if machines.is_running(daemon) else "ended"
            print(f"{machine:15} {daemon.name:25} {state}")


def do_show(options: Namespace) -> None:
    """The show, again."""
    show.show(Machines(load(options.name)))


def do_exec(options: Namespace) -> None:
    """Become the command inside the machine."""
    machines = Machines(load(options.name))
    argv = [*machines.enter(options.machine), *(_words(options) or [os.environ.get("SHELL", "/bin/sh")])]
    os.execvp(argv[0], argv)


def _words(options: Namespace) -> list[str]:
    words: list[str] = options.words
    return words[1:] if words[:1] == ["--"] else words


def do_import(options: Namespace) -> None:
    """Load archives into every node."""
    machines = Machines(load(options.name))
    for archive in [Path(name).absolute() for name in options.archives]:
        import_everywhere(machines, archive)


def import_everywhere(machines: Machines, archive: Path) -> None:
    """Load one archive into every node at once."""
    up.each_node(machines, lambda name: node.import_image(machines, name, archive))


def do_restart(options: Namespace) -> None:
    """Restart one daemon."""
    daemon = Machines(load(options.name)).restart(options.machine, options.daemon)
    print(f"{daemon.name} on {daemon.machine} is pid {daemon.pid}")


def do_dev_restart(options: Namespace) -> None:
    """Restart Manx's own processes of a --dev lab."""
    machines = Machines(load(options.name))
    for daemon in dev.restart(machines, options.processes):
        _say_where(machines, daemon)


def do_dev_run(options: Namespace) -> None:
    """Run a command as a daemon of a machine."""
    machines = Machines(load(options.name))
    daemon = dev.start(machines, options.machine, options.daemon, _words(options))
    _say_where(machines, daemon)


def _say_where(machines: Machines, daemon: Daemon) -> None:
    log = machines.log(daemon.machine, daemon.name)
    print(f"{daemon.name} on {daemon.machine} is pid {daemon.pid}; its log: {log}")


def do_image(options: Namespace) -> None:
    """Build the image, or only what it copies."""
    if options.collect:
        image.collect()
    elif options.archive:
        print(image.build_archive(options.image))
    else:
        engine = options.engine or next(filter(shutil.which, ("docker", "podman", "buildah")), None)
        if not engine:
            raise LabError("none of docker, podman, buildah is installed: one of them builds the image")
        image.build_with(engine, options.image, options.base)


def do_refresh(options: Namespace) -> None:
    """Bring the working tree into a running lab by way of the image."""
    machines = Machines(load(options.name))
    import_everywhere(machines, image.build_archive(machines.settings.image))
    kubectl = Kubectl(machines.settings)
    for workload in kubectl("-n", install.NAMESPACE, "get", "deployments,daemonsets", "-o", "name").split():
        print(kubectl("-n", install.NAMESPACE, "rollout", "restart", workload).strip())


def do_build(_: Namespace) -> None:
    """Fill the cache."""
    binaries.build_all()
    for module in binaries.MODULES:
        print(module.directory)


def do_gotest(_: Namespace) -> None:
    """Vet and test the CNI executable."""
    go, directory = binaries.find_go(), CHECKOUT / "cni"
    if not any(directory.rglob("*.go")):
        raise LabError("cni/ has no Go code")
    env = {**os.environ, "CGO_ENABLED": "0"}
    run([go, "vet", "./..."], cwd=directory, env=env)
    print(run([go, "test", "./..."], cwd=directory, env=env), end="")


ACTIONS: dict[str, Callable[[Namespace], None]] = {
    "up": do_up,
    "down": do_down,
    "status": do_status,
    "show": do_show,
    "exec": do_exec,
    "import": do_import,
    "restart": do_restart,
    "dev-restart": do_dev_restart,
    "dev-run": do_dev_run,
    "image": do_image,
    "refresh": do_refresh,
    "build": do_build,
    "gotest": do_gotest,
}
