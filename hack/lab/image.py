"""Owns building Manx's image from the project's Containerfile: collecting what it copies, the local Debian base, the
archive.

It must not need a registry or a container engine: buildah works in a private mount namespace, on a base that
mmdebstrap made. All that can be reused is in the cache; dist/ in the checkout holds only what the Containerfile
copies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.binaries import compile_go, find_go
from lab.run import LabError, run
from lab.settings import CACHE, CHECKOUT, DEFAULT_IMAGE

PYTHON = "3.11"  # the interpreter of both bases: compiled packages must match it
DIST = CHECKOUT / "dist"
VERSION = DEFAULT_IMAGE.rpartition(":")[2]
LOCK = CHECKOUT / "requirements-runtime.lock"
PORTMAP = "github.com/containernetworking/plugins/plugins/meta/portmap"
BASE_PACKAGES = "python3,iptables,ipset,conntrack,iproute2"
SLIM = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale", "lintian")]
PRIVATE = ("unshare", "--mount", "--propagation", "private", "--")
STORE = CACHE / "buildah"
BUILDAH = (
    *PRIVATE,
    "buildah",
    *("--root", str(STORE / "root"), "--runroot", str(STORE / "run"), "--storage-driver", "overlay"),
)


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one build at a time use dist/ and buildah's store."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "image.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_archive(image: str) -> Path:
    """Build ``image`` on the local base and return its archive, as containerd imports it."""
    with exclusive():
        collect()
        base = _base_image()
        run([*BUILDAH, "rm", "--all"])
        _bud("--layers", "--build-arg", f"BASE={base}", "--tag", image, "--file", CHECKOUT / "Containerfile", CHECKOUT)
        return _export(image)


def build_with(engine: str, image: str, base: str | None) -> None:
    """Build ``image`` for a registry of one's own with ``docker``, ``podman`` or ``buildah``."""
    with exclusive():
        collect()
        argument = ["--build-arg", f"BASE={base}"] if base else []
        run([engine, "build", *argument, "--tag", image, "--file", CHECKOUT / "Containerfile", CHECKOUT])


def _bud(*words: str | Path) -> None:
    ignore = ["--ignorefile", str(CHECKOUT / ".containerignore")]
    run([*BUILDAH, "bud", "--isolation", "chroot", *(ignore if CHECKOUT in words else []), *words])


def collect() -> None:
    """Fill dist/: Python packages by their hashes, and the CNI executable. Nothing is fetched if the lock did not
    change.
    """
    _collect_site()
    compile_cni(DIST / "cni")


def _collect_site() -> None:
    wanted = hashlib.sha256(LOCK.read_bytes() + PYTHON.encode()).hexdigest()
    site, stamp = DIST / "site", DIST / "site.lock"
    if site.is_dir() and stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(site, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    flags = ["--link-mode", "copy", "--no-deps", "--require-hashes"]
    run([_uv(), "pip", "install", "--quiet", "--python", PYTHON, "--target", site, *flags, "-r", LOCK])
    for script in (site / "bin").iterdir():
        _use_python_on_path(script)
    stamp.write_text(wanted)


def _uv() -> str:
    for candidate in (shutil.which("uv"), str(CACHE / "uv/bin/uv")):
        if candidate and Path(candidate).exists():
            return candidate
    raise LabError("uv is neither on PATH nor in the cache: ./hack/up fetches it")


def _use_python_on_path(script: Path) -> None:
    """Console scripts name the interpreter of the machine that installed them; the image has another."""
    lines = script.read_text().split("\n")
    if lines[0].startswith("#!"):
        script.write_text("\n".join(["#!/usr/bin/env python3", *lines[1:]]))


def compile_cni(directory: Path) -> None:
    """Compile the CNI executables; a compiler that finds nothing new leaves the files, and so the layer, as they
    were.
    """
    directory.mkdir(parents=True, exist_ok=True)
    go, ldflags = find_go(), f"-s -w -X main.release={VERSION}"
    compile_go(go, CHECKOUT / "cni", ".", directory / "manx", ldflags)
    compile_go(go, CHECKOUT / "cni", PORTMAP, directory / "portmap", ldflags)


def _base_image() -> str:
    """The local Debian base in buildah's store, made from Debian's packages the first time (usually 40 s)."""
    key = hashlib.sha256(" ".join([BASE_PACKAGES, *SLIM]).encode()).hexdigest()[:12]
    name, tar = f"localhost/manx-base:{key}", CACHE / "base" / f"bookworm-{key}.tar"
    if not tar.exists():
        _debootstrap(tar)
    if run([*BUILDAH, "images", "--format", "{{.Name}}:{{.Tag}}"]).split().count(name) == 0:
        with_base = tar.parent / f"{key}.Containerfile"
        with_base.write_text(f"FROM scratch\nADD {tar.name} /\n")
        _bud("--tag", name, "--file", with_base, tar.parent)
    return name


def _debootstrap(tar: Path) -> None:
    print("      Debian base from its packages (once, usually 40 s)", flush=True)
    work = tar.parent / f".work-{os.getpid()}"
    work.mkdir(parents=True)
    unfinished = work / tar.name
    include = f"--include={BASE_PACKAGES}"
    command = [*PRIVATE, "mmdebstrap", "--quiet", "--variant=minbase", include, *SLIM, "bookworm", str(unfinished)]
    run(command, env={**os.environ, "TMPDIR": str(work)})
    unfinished.rename(tar)
    shutil.rmtree(work)


def _export(image: str) -> Path:
    """Write the image as a docker-archive named after its id, unless the cache has it; earlier ones go."""
    digest = run([*BUILDAH, "images", "--no-trunc", "--quiet", image]).strip().rpartition(":")[2][:12]
    path = CACHE / "images" / f"manx-{digest}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("manx-*.tar"):
            old.unlink()
        unfinished = path.parent / f".manx-{os.getpid()}"
        unfinished.unlink(missing_ok=True)
        run([*BUILDAH, "push", "--quiet", image, f"docker-archive:{unfinished}:{image}"])
        unfinished.rename(path)
        run([*BUILDAH, "rmi", "--prune"])
    return path
