"""Which suites are known by name, how each is built, and what it is started with.

Owns: names, Go packages, default arguments. Must not: change what a suite tests. What is known here is built of its own
Go module, pinned by the go.sum beside its go.mod; any other executable that reads KUBECONFIG is given by its path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.binaries import KUBERNETES, Module, build
from lab.run import LabError

NOT_FOR_A_LAB = "Slow|Serial|Disruptive|Flaky|SCTPConnectivity|Feature:IPv6DualStack"
"""Of upstream's tests: SCTP needs a kernel with SCTP sockets; the others are upstream's own words for what one leaves
out of an ordinary run."""


@dataclass(frozen=True)
class Suite:
    """An executable and the words after it, in which ``{report}`` stands for the directory of the results."""

    name: str
    program: Path
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """A suite that is built from Go modules. `fixed` are always given, `default` where the user gives none."""

    module: Module
    program: str
    fixed: tuple[str, ...]
    default: tuple[str, ...]


KNOWN = {
    "e2e": _Known(
        Module("e2e", KUBERNETES, {"e2e": "."}),
        "e2e",
        ("--provider=skeleton", "--report-dir={report}", "--ginkgo.no-color", "--delete-namespace-on-failure=true"),
        ("--ginkgo.focus=NetworkPolicy|Netpol", f"--ginkgo.skip={NOT_FOR_A_LAB}"),
    ),
    "cyclonus": _Known(
        Module("cyclonus", "0.5.6", {"cyclonus": "github.com/mattfenwick/cyclonus/cmd/cyclonus"}),
        "cyclonus",
        # It expects a pod's way to itself to be denied, where the API says that it cannot be.
        ("generate", "--junit-results-file={report}/junit.xml", "--cleanup-namespaces", "--ignore-loopback"),
        (
            # A way that is denied takes the whole time-out; one that is allowed and slow is tried again.
            *("--server-protocol=TCP,UDP", "--job-timeout-seconds=1", "--perturbation-wait-seconds=3", "--retries=3"),
            *("--pod-creation-timeout-seconds=240", "--exclude=multi-peer,example"),
        ),
    ),
}


def find(name: str, arguments: Sequence[str]) -> Suite:
    """The suite of this name, built if need be, or the executable at this path. LabError where there is neither."""
    if known := KNOWN.get(name):
        build(known.module)
        words = (*known.fixed, *(arguments or known.default))
        return Suite(name, known.module.directory / known.program, words)
    path = Path(name).absolute()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise LabError(f"SUITE={name}: neither an executable nor one of {', '.join(KNOWN)}")
    return Suite(path.name, path, tuple(arguments))
