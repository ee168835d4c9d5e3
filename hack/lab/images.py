"""Owns the lab's own images: pause, agnhost and CoreDNS, each one static executable on an empty base.

It must not need a container engine or a registry: an archive as containerd imports it is three files in a tar,
written here. Archives lie in the cache under their content's hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from lab import binaries
from lab.node import PAUSE_IMAGE
from lab.settings import CACHE

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "cat",
    "ls",
    "ip",
    "ping",
    "sleep",
    "nc",
    "ps",
    "env",
    "echo",
    "hostname",
    "ifconfig",
    "netstat",
    "arping",
)
ETC = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


@dataclass(frozen=True)
class Scratch:
    """An image of some files, some symbolic links, and what it starts."""

    name: str
    files: dict[str, Path]
    command: list[str]
    links: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Changes when the image would."""
        seen = hashlib.sha256(json.dumps([self.name, self.command, sorted(self.links), ETC]).encode())
        for target, source in sorted(self.files.items()):
            seen.update(target.encode())
            with source.open("rb") as content:
                seen.update(hashlib.file_digest(content, "sha256").digest())
        return seen.hexdigest()[:12]


def lab_images() -> list[Scratch]:
    """The images of every lab; the Go programs must have been built."""
    shell = {"bin/busybox": BUSYBOX}
    applets = {f"bin/{applet}": "busybox" for applet in APPLETS}
    return [
        Scratch(PAUSE_IMAGE, shell, ["/bin/busybox", "sleep", "2147483647"]),
        Scratch(
            "localhost/agnhost:lab", {"agnhost": binaries.path_of("agnhost"), **shell}, ["/agnhost", "pause"], applets
        ),
        Scratch("localhost/coredns:lab", {"coredns": binaries.path_of("coredns")}, ["/coredns"]),
    ]


def archives() -> list[Path]:
    """Archives of the lab's images, written if they are not in the cache."""
    return [_archive(image) for image in lab_images()]


def _archive(image: Scratch) -> Path:
    short = image.name.rpartition("/")[2].replace(":", "-")
    path = CACHE / "images" / f"{short}-{image.digest()}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.parent / f".{short}-{os.getpid()}"
        write_archive(image, unfinished)
        unfinished.rename(path)
    return path


def write_archive(image: Scratch, path: Path) -> None:
    """Write an image as a docker-archive: manifest.json, the image's configuration, one layer."""
    layer = _layer(image)
    config = json.dumps(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": image.command[:1], "Cmd": image.command[1:], "Env": ["PATH=/bin:/"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [image.name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(image: Scratch) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for directory in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            layer.addfile(entry)
        for name, text in ETC.items():
            _add(layer, name, text.encode())
        for target, source in image.files.items():
            _add(layer, target, source.read_bytes(), mode=0o755)
        for target, points_to in image.links.items():
            entry = tarfile.TarInfo(target)
            entry.type, entry.linkname = tarfile.SYMTYPE, points_to
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
