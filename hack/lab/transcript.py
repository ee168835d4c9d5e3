"""Owns how the show speaks: each step's title, what was typed, what was seen, what that proves.

It must not decide what is proved. A check that fails ends the show with a LabError.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.kubectl import Kubectl
from lab.machines import Machines
from lab.run import LabError, wait_for
from lab.settings import CHECKOUT


class Transcript:
    """One show on one lab, to standard output."""

    def __init__(self, machines: Machines) -> None:
        self.machines, self.settings = machines, machines.settings
        self.kubectl = Kubectl(machines.settings)
        self.number = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self.number += 1
        print(f"\n  {self.number}. {title}", flush=True)

    def typed(self, *words: str) -> str:
        """Run kubectl as a person would; print the command and the answer."""
        answer = self.kubectl(*words)
        self._print("kubectl", words, answer)
        return answer

    def typed_file(self, verb: str, path: Path) -> None:
        """``kubectl apply`` or ``delete`` of a file, which is shown too."""
        for line in path.read_text().splitlines():
            print(f"     | {line}")
        self.typed(verb, "-f", str(path.relative_to(CHECKOUT)) if path.is_relative_to(Path.cwd()) else str(path))

    def typed_on(self, node: str, *words: str) -> str:
        """Run a command on a node; print both. The command that is shown is the one that a person can type."""
        answer = self.machines.exec(node, words)
        name = [] if self.settings.name == "manx" else ["--name", self.settings.name]
        self._print("./hack/labctl", ["exec", *name, node, *words], answer)
        return answer

    def _print(self, program: str, words: Sequence[str], answer: str) -> None:
        print(f"     $ {program} {shlex.join(words)}")
        for line in answer.rstrip().splitlines():
            print(f"     {line}")

    def check(self, holds: object, claim: str, otherwise: str = "") -> None:
        """Say what has been seen to be so; LabError if it is not."""
        if not holds:
            raise LabError(f"the show: not so: {claim}{': ' + otherwise if otherwise else ''}")
        print(f"     ok: {claim}", flush=True)

    def becomes(self, claim: str, probe: Callable[[], object], *, timeout: float = 30) -> None:
        """Wait until ``probe`` is true, then say so; LabError if that takes longer than ``timeout`` seconds."""
        try:
            wait_for(claim, lambda: bool(probe()), timeout=timeout)
        except LabError as error:
            raise LabError(f"the show: {error}") from None
        print(f"     ok: {claim}", flush=True)
