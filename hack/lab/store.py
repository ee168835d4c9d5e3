"""Owns the images' store: unpacked once by a containerd, then given to every node as hard links.

It must not change a store that a node has been given. Layers and blobs are never written again once they are there
(overlayfs copies up first), so nodes can share their inodes: the second node costs neither time nor disk, nor a
second copy in the page cache. Databases are written, so each node has its own copy. A new store starts as a copy of
the last one: layers that did not change are not unpacked again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import node
from lab.machines import Machines
from lab.run import run
from lab.settings import CACHE

STORES = CACHE / "containerd"
BUILDER = "image-store"  # the machine that unpacks


@contextmanager
def _exclusive() -> Iterator[None]:
    STORES.mkdir(parents=True, exist_ok=True)
    with (CACHE / "containerd.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def give_to_nodes(machines: Machines, archives: list[Path]) -> None:
    """Put a store with these archives' images where each node of the lab will have its /var/lib/containerd."""
    with _exclusive():
        store = STORES / _key(archives)
        if not store.is_dir():
            _unpack(machines, archives, store)
        os.utime(store)
        for name in machines.settings.node_names:
            copy(store, node.containerd_directory(machines.settings, name))


def _key(archives: list[Path]) -> str:
    """Changes when any archive does: those of the cache are named after their content, others are told by time and
    size.
    """
    seen = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in archives]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]


def _unpack(machines: Machines, archives: list[Path], store: Path) -> None:
    """Start a containerd on a copy of the last store, import the archives, stop it, and keep what it leaves."""
    unfinished = STORES / f".unpack-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    last = max(
        (path for path in STORES.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, default=None
    )
    if last:
        copy(last, unfinished)
    unfinished.mkdir(exist_ok=True)
    machines.start(BUILDER, containerd=unfinished)
    node.start_containerd(machines, BUILDER)
    for archive in archives:
        node.import_image(machines, BUILDER, archive)
    machines.stop(BUILDER, "containerd")
    machines.kill(BUILDER)
    machines.forget(BUILDER)
    unfinished.rename(store)
    if last:
        shutil.rmtree(last)


def copy(source: Path, target: Path) -> None:
    """Copy a store by hard links (where the file systems differ: really), its databases really."""
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = source.stat().st_dev == target.parent.stat().st_dev
    run(["cp", "--archive", *(["--link"] if linked else []), source, target])
    for database in target.glob("*/*.db"):
        written = database.with_suffix(".own")
        shutil.copyfile(database, written)
        written.replace(database)
