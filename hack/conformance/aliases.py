"""The images that outside suites ask for, by other names of those that every lab has.

Owns: which names there are for which image, and giving them in every node. Must not: fetch anything: a lab has no
registry. An upstream suite pulls `registry.k8s.io/e2e-test-images/agnhost:2.N`; the lab's own agnhost is built from the
same source. The kubelet finds the name and pulls nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.cluster import AGNHOST
from lab.machines import Machines
from lab.node import PAUSE_IMAGE, ctr
from lab.run import LabError
from lab.up import each_node

_REGISTRY = "registry.k8s.io"
_AGNHOST = [f"{_REGISTRY}/e2e-test-images/agnhost:2.{minor}" for minor in range(20, 80)]
_BUSYBOX = [f"{_REGISTRY}/e2e-test-images/busybox:{tag}" for tag in ("1.29-2", "1.29-4", "1.36.1-1", "1.37.0-1")]
_PAUSE = [f"{_REGISTRY}/pause:3.{minor}" for minor in range(1, 15)]


def names(extra: Iterable[str]) -> dict[str, list[str]]:
    """Image of the lab → its other names. `extra`: ``asked-for=the lab's``, or only what is asked for: agnhost.

    Raises LabError for what is neither.
    """
    found = {AGNHOST: [*_AGNHOST, *_BUSYBOX], PAUSE_IMAGE: list(_PAUSE)}
    for word in extra:
        asked, _, ours = word.partition("=")
        if not asked or any(c.isspace() for c in word):
            raise LabError(f"--alias {word!r}: NAME or NAME=IMAGE-OF-THE-LAB")
        found.setdefault(ours or AGNHOST, []).append(_full(asked))
    return found


def _full(name: str) -> str:
    """As containerd keeps it: with a registry and a tag."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not any(c in first for c in ".:") and first != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def give(machines: Machines, aliases: dict[str, list[str]]) -> None:
    """Let every node know the lab's images by these names, too."""

    def tag(node: str) -> None:
        for ours, others in aliases.items():
            ctr(machines, node, "images", "tag", "--force", ours, *others)

    each_node(machines, tag)
