"""The frame for outside suites, with a suite that is a few lines of shell: what it is given, what is made of its
results, and that it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.machines import HERE

ASKED_FOR = "registry.k8s.io/e2e-test-images/agnhost:2.56"
SUITE = f"""#!/bin/sh -eux
kubectl run conforming --image={ASKED_FOR} --restart=Never --labels=conforming=yes -- pause
kubectl wait --for=condition=Ready pod/conforming --timeout=90s
kubectl delete pod conforming --grace-period=0 --force
test "$1" = "two words"
test "$2" = "$ARTIFACTS"
cat >"$ARTIFACTS/junit.xml" <<XML
<testsuite><testcase name="runs"/><testcase name="fails"><failure message="as it should"/></testcase></testsuite>
XML
exit 3
"""


def _run(cluster: Cluster, suite: Path, text: str, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, output and result.json of a suite of this text."""
    suite.write_text(text)
    suite.chmod(0o755)
    report = suite.parent / "report"
    words = ["--name", cluster.settings.name, "--suite", str(suite), "--report", str(report), *options]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", *words],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr, json.loads((report / "result.json").read_text())


def test_a_suite_finds_cluster_images_and_arguments_and_its_cases_are_told(cluster: Cluster, tmp_path: Path) -> None:
    code, said, result = _run(cluster, tmp_path / "suite", SUITE, "--args", "'two words' {report}")
    assert (code, result["passed"], result["failed"]) == (1, ["runs"], {"fails": "as it should"}), said
    assert "suite: 1 passed, 1 failed, 0 skipped" in said


def test_a_suite_that_does_not_end_is_ended_with_all_that_it_began(cluster: Cluster, tmp_path: Path) -> None:
    text = f"#!/bin/sh\necho begun\nsleep 1000 & echo $! >{tmp_path}/child\nwait\n"
    code, said, result = _run(cluster, tmp_path / "suite", text, "--minutes", "0.1")
    assert (code, result["code"]) == (1, 124), said
    assert "begun" in said
    assert "had not ended" in said
    child = int((tmp_path / "child").read_text())
    cluster.wait_for("the suite's child to be gone", lambda: not Path(f"/proc/{child}").exists(), timeout=30)
