"""The two commands of an installation, back to back, twenty times in a row, each on a kube-apiserver of its own.

Twenty servers and not one: a server that has just been told to delete a definition may take minutes to do it, and the
hardest moment is a server that knows none of the definitions.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import apiserver
from apiserver import ApiServer
from lab.binaries import path_of

ROOT = Path(__file__).resolve().parents[2]
OPERATOR, RESOURCES = ROOT / "manifests/operator.yaml", ROOT / "manifests/custom-resources.yaml"


def kubectl(server: ApiServer, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """kubectl with a home of its own: what it remembers of the API server must be what these commands left there."""
    env = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "HOME": str(home)}
    command = [str(path_of("kubectl")), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("attempt", range(1, 21))
def test_back_to_back(attempt: int, tmp_path: Path) -> None:
    with apiserver.running(tmp_path) as server:
        for path in (OPERATOR, RESOURCES):
            done = kubectl(server, tmp_path / "home", "create", "-f", str(path))
            assert done.returncode == 0, f"attempt {attempt}, {path.name}: {done.stderr}"
        found = kubectl(server, tmp_path / "home", "get", "installations.operator.tigera.io", "-o", "name")
        assert found.stdout.strip() == "installation.operator.tigera.io/default"
