"""Owns the birth of one machine of the lab: a process that is PID 1 of new namespaces and does nothing but hold them.

It must not run any daemon itself. Network, mount, PID, IPC and UTS namespaces all hang on this one process, so
killing it ends everything that runs in that machine, and its mounts with it, in the kernel: nothing depends on a tidy
shutdown. Named namespaces (``ip netns``) are avoided on purpose: they are mounts in the root's table that outlive a
killed command.

Run as a script, ``holder.py CGROUP HOSTNAME STATE PATHS…``: prints the holder's process id as the root sees it once
all is ready. PATHS are directories whose content is the machine's own (see ``_own_directory``); the control plane and
routers have none.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import cgroups

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

# What kubelet writes into these files when they differ. They belong to the whole machine, so it is shown what it
# wants to see.
KUBELET_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}


def unshare(flags: int) -> None:
    """Leave the caller's namespaces for new ones; OSError as in unshare(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(*words: str) -> None:
    """mount(8); its complaint ends the holder."""
    subprocess.run(["mount", *words], check=True)


def _own_directory(path: str, scratch: Path) -> None:
    """Give the machine a writable view of ``path`` whose changes stay in ``scratch`` (memory) and end with the machine.

    An overlay and not an empty file system: what else the host keeps there (certificates below /etc, a Python below
    /opt) stays visible, and no mount point has to be made on the host.
    """
    upper, work = scratch / "upper" / path.strip("/"), scratch / "work" / path.strip("/")
    upper.mkdir(parents=True)
    work.mkdir(parents=True)
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", path)


def _empty_directory(entry: str) -> None:
    """A directory of the machine's own, which hides what the host may have there.

    ``PATH`` is a file system in memory; ``PATH=SOURCE`` shows SOURCE, for what must be readable from outside (logs).
    """
    path, _, source = entry.partition("=")
    os.makedirs(path, exist_ok=True)
    if source:
        mount("--bind", source, path)
    else:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)


def _fresh_sys() -> None:
    """A /sys that shows this machine's network interfaces, with the host's cgroups in their place."""
    os.makedirs("/run/old-cgroup", exist_ok=True)
    mount("--rbind", "/sys/fs/cgroup", "/run/old-cgroup")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", "/run/old-cgroup", "/sys/fs/cgroup")
    subprocess.run(["umount", "--lazy", "/run/old-cgroup"], check=True)
    os.rmdir("/run/old-cgroup")


def _show_tunables(scratch: Path) -> None:
    for name, value in KUBELET_TUNABLES.items():
        shown = scratch / name.replace("/", ".")
        shown.write_text(value + "\n")
        mount("--bind", str(shown), f"/proc/sys/{name}")


def build_file_systems(state: Path, overlays: list[str], own: list[str]) -> None:
    """Mounts of this machine, all in its own mount namespace; shared at the end, so that pods' namespaces reach its
    agents.
    """
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    keep = os.open(state, os.O_PATH)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    _fresh_sys()
    if overlays:
        scratch = Path("/run/.lab")
        scratch.mkdir(mode=0o700)
        for path in overlays:
            _own_directory(path, scratch)
        _show_tunables(scratch)
    os.makedirs(state, exist_ok=True)
    mount("--no-canonicalize", "--bind", f"/proc/1/fd/{keep}", str(state))
    for entry in own:
        _empty_directory(entry)
    os.makedirs("/run/lock", exist_ok=True)
    mount("--make-rshared", "/")


def set_up_network() -> None:
    """Forwarding and addresses as a node of a real cluster has them; links come from the fabric."""
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def reap_for_ever() -> None:
    """Be PID 1: collect the orphans' exit codes, nothing else."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


def hold(hostname: str, state: Path, overlays: list[str], own: list[str], ready: int) -> None:
    """Life of the holder after its birth; writes one byte to ``ready`` when the machine can be used."""
    os.setsid()
    build_file_systems(state, overlays, own)
    socket.sethostname(hostname)
    set_up_network()
    os.write(ready, b"+")
    os.close(ready)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.chdir("/")
    reap_for_ever()


def main(cgroup: str, hostname: str, state: str, overlays: str, own: str) -> int:
    """Fork the holder into new namespaces; print its pid; 1 if it did not get ready (it said why on stderr)."""
    cgroups.join(cgroup)
    unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        hold(hostname, Path(state), overlays.split(), own.split(), writer)
    os.close(writer)
    if os.read(reader, 1) != b"+":
        return 1
    print(pid, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
