"""Bad input to Calico's policy kinds, by `kubectl` on a real API server: each field once good and once bad, and what is
wrong in subtler ways; what is refused is refused with the field and what is allowed. No cluster is needed, but an API
server with Manx's definitions and admission policies.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import apiserver
from lab.binaries import KUBE
from policy_documents import REFUSED, SELECTOR, TAKEN, annotated, made, np
from policy_fields import NEVER_GOOD, Leaf, bad, good, leaves

ROOT = Path(__file__).resolve().parents[2]
LEAVES = leaves()
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Of the administrator, on an API server that has Manx's manifest."""
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as server:

        def run(*arguments: str, document: Any = None) -> subprocess.CompletedProcess[str]:
            command = [str(KUBE.directory / "kubectl"), f"--kubeconfig={server.kubeconfig}", *arguments]
            text = None if document is None else json.dumps(document)
            return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)

        found = run("create", "-f", str(ROOT / "manifests/operator.yaml"))
        assert found.returncode == 0, found.stderr
        _wait_for_admission(run)
        yield run


def _wait_for_admission(run: Kubectl) -> None:
    """Admission policies are in force a moment after they were made; these are the last of their kinds."""
    deadline = time.monotonic() + 60
    for document in (np(selector="("), made("NetworkSet", nets=["x"]), annotated(log_denied="x")):
        while "denied request" not in _created(run, document).stderr:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def _created(run: Kubectl, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return run("create", "--dry-run=server", "-f", "-", document=document)


@pytest.mark.parametrize(
    ("document", "field", "allowed"), REFUSED, ids=[f"{d['kind']}-{f}-{i}" for i, (d, f, _) in enumerate(REFUSED)]
)
def test_kubectl_refuses_it_and_says_why(kubectl: Kubectl, document: dict[str, Any], field: str, allowed: str) -> None:
    found = _created(kubectl, document)
    assert found.returncode != 0
    assert field in found.stderr
    assert allowed in found.stderr


@pytest.mark.parametrize("document", TAKEN, ids=[f"{d['kind']}-{i}" for i, d in enumerate(TAKEN)])
def test_calicos_own_yaml_is_taken(kubectl: Kubectl, document: dict[str, Any]) -> None:
    assert "created" in _created(kubectl, document).stdout


@pytest.fixture(scope="module")
def answers(kubectl: Kubectl) -> dict[str, str]:
    """What `kubectl` says of each document of the sweep, by its name: all of them in one go."""
    documents = [d for at, leaf in enumerate(LEAVES) for d in _pair(leaf, at)]
    found = kubectl(
        "create", "--dry-run=server", "-f", "-", document={"kind": "List", "apiVersion": "v1", "items": documents}
    )
    parts = re.split(r"^(?=Error from server|The \w+ \")", found.stderr, flags=re.MULTILINE)
    said = {name: part for part in parts for name in re.findall(r'"(?:node[.])?((?:good|bad)-[0-9]+)"', part)[:1]}
    created = re.findall(r"/(?:node[.])?(good-[0-9]+|bad-[0-9]+) created", found.stdout)
    return said | dict.fromkeys(created, "created")


def _pair(leaf: Leaf, at: int) -> list[dict[str, Any]]:
    return [leaf.document(value(leaf), f"{word}-{at}") for word, value in (("good", good), ("bad", bad))]


@pytest.mark.parametrize("at", range(len(LEAVES)), ids=[f"{leaf.kind}-{leaf.path}" for leaf in LEAVES])
def test_each_field_is_taken_once_and_refused_once_by_its_name(answers: dict[str, str], at: int) -> None:
    leaf = LEAVES[at]
    assert (answers[f"good-{at}"] == "created") == (not NEVER_GOOD.search(leaf.path)), answers[f"good-{at}"]
    assert leaf.place in answers[f"bad-{at}"]


def test_plain_names_mean_kubernetes_own_kind(kubectl: Kubectl) -> None:
    made_here = kubectl("create", "-f", "-", document=np())
    assert "networkpolicy.projectcalico.org/x created" in made_here.stdout
    for name in ("networkpolicies", "networkpolicy", "netpol"):
        assert "No resources found" in kubectl("get", name).stderr
    for name in ("cnp", "caliconetworkpolicy", "networkpolicies.projectcalico.org"):
        assert kubectl("get", name, "-o", "name").stdout.strip() == "networkpolicy.projectcalico.org/x"
    assert kubectl("delete", "cnp", "x").returncode == 0


def test_built_in_tiers_and_tiers_in_use_stay(kubectl: Kubectl) -> None:
    for document in (
        made("Tier", "default", order=1_000_000),
        made("Tier", "used"),
        made("Tier", "free"),
        made("GlobalNetworkPolicy", "user", tier="used"),
    ):
        assert kubectl("create", "-f", "-", document=document).returncode == 0
    assert "Tier default is built in" in kubectl("delete", "tier", "default").stderr
    moved = kubectl("patch", "tier", "default", "--type=merge", "-p", '{"spec":{"order":5}}')
    assert "must be 1000000" in moved.stderr
    deadline = time.monotonic() + 30
    while "in use by policy user" not in (found := kubectl("delete", "tier", "used", "--dry-run=server").stderr):
        assert time.monotonic() < deadline, found
    assert kubectl("delete", "tier", "free").returncode == 0


def test_a_policy_that_is_bad_already_may_be_let_go(kubectl: Kubectl) -> None:
    """As one is that came by an older definition: nothing of ours stands in the way but of a change for the worse."""
    binding = "validatingadmissionpolicybinding/calico-policies.manx.dev"
    saved = json.loads(kubectl("get", binding, "-o", "json").stdout)
    assert kubectl("delete", binding).returncode == 0
    bad, deadline = made("NetworkPolicy", "bad", selector="("), time.monotonic() + 30
    while kubectl("create", "-f", "-", document=bad).returncode != 0:
        assert time.monotonic() < deadline
    del saved["metadata"]["resourceVersion"], saved["metadata"]["uid"]
    assert kubectl("create", "-f", "-", document=saved).returncode == 0
    _wait_for_admission(kubectl)
    finalizers = kubectl("patch", "cnp", "bad", "--type=merge", "-p", '{"metadata":{"finalizers":["a.b/c"]}}')
    assert finalizers.returncode == 0, finalizers.stderr
    worse = kubectl("patch", "cnp", "bad", "--type=merge", "-p", '{"spec":{"order":1}}')
    assert SELECTOR in worse.stderr
    freed = kubectl("patch", "cnp", "bad", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert freed.returncode == 0, freed.stderr
    assert kubectl("delete", "cnp", "bad").returncode == 0
