"""Owns talking to a lab's API server by kubectl, as its users do.

It must not use a client library: what the lab shows and tests is what a person types.
"""

from __future__ import annotations

import json
import os
from typing import Any

from lab import binaries
from lab.run import run
from lab.settings import Settings


class Kubectl:
    """kubectl as the lab's administrator."""

    def __init__(self, settings: Settings) -> None:
        self.env = {**os.environ, "KUBECONFIG": str(settings.kubeconfig), "KUBECTL_KUBERC": "false"}

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl and return its output; LabError with its complaint if it fails."""
        return run([binaries.path_of("kubectl"), *words], stdin=stdin, env=self.env, timeout=timeout)

    def json(self, *words: str) -> Any:
        """Run kubectl with ``-o json`` and decode what it says."""
        return json.loads(self(*words, "-o", "json"))

    def items(self, *words: str) -> list[dict[str, Any]]:
        """The objects that ``kubectl get WORDS`` lists."""
        found: list[dict[str, Any]] = self.json("get", *words)["items"]
        return found
