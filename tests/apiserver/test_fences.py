"""What the API server itself holds leaders and agents to, on a real one with Manx's manifest: a leader that slept
cannot undo what its successor wrote, an object stays what its name says, and an agent writes of its own node alone.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import apiserver
from informing import eventually
from lab.binaries import KUBE
from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.resources import NAMESPACES, NETWORK_POLICIES, POLICY_PROGRAMS
from operating import FAST, leading_on, new_term

ROOT = Path(__file__).resolve().parents[2]
AGENT = "system:serviceaccount:manx-system:manx-node"
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "NodeState": ("n1", {}),
    "MeshNode": ("n1", {}),
    "PolicyClass": ("pc-1", {}),
    "PolicyProgram": ("knp.d.p", {"source": {"kind": "NetworkPolicy", "name": "p", "namespace": "d"}}),
    "AddressGroup": ("ag-1-2", {"group": "ag-1", "chunk": 2, "members": "10.0.0.1"}),
    "IPAMBlock": ("10-0-0-0-26", {"cidr": "10.0.0.0/26", "pool": "p", "node": "n1"}),
}
"""Of each kind with an epoch: a name, and what else a spec needs."""
REFUSED = "another leader has taken over"
Obj = dict[str, Any]
Run = Callable[..., subprocess.CompletedProcess[str]]


class Users:
    """kubectl, as whoever is asked for."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        self.config = ApiConfig.from_kubeconfig(server.kubeconfig)
        self._server = server

    def admin(self, *arguments: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        return self._run(self._server.kubeconfig, *arguments, given=given)

    def agent(self, node: str | None) -> Run:
        """As the agent whose token is bound to a pod on this node (None: to none), with what RBAC gives it."""
        document = yaml.safe_load(self._server.kubeconfig.read_text())
        extra = {"as-user-extra": {"authentication.kubernetes.io/node-name": [node]}} if node else {}
        document["users"][0]["user"] |= {"as": AGENT, **extra}
        path = self._server.directory / f"agent-{node}"
        path.write_text(yaml.safe_dump(document))
        return lambda *arguments, given=None: self._run(path, *arguments, given=given)

    @staticmethod
    def _run(kubeconfig: Path, *arguments: str, given: Any) -> subprocess.CompletedProcess[str]:
        command = [str(KUBE.directory / "kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
        text = None if given is None else json.dumps(given)
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as server:
        found = Users(server)
        created = found.admin("create", "-f", str(ROOT / "manifests/operator.yaml"))
        assert created.returncode == 0, created.stderr
        definitions = found.admin("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        assert definitions.returncode == 0, definitions.stderr
        yield found


def made(kind: str, epoch: int | None = 5, **spec: Any) -> dict[str, Any]:
    name, needed = SPECS[kind]
    whole = needed | spec | ({} if epoch is None else {"epoch": epoch})
    return {"apiVersion": "manx.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": whole}


@pytest.fixture
def stored(users: Users, request: pytest.FixtureRequest) -> Iterator[str]:
    """A kind, of which there is an object of epoch 5."""
    kind = request.param
    created = users.admin("create", "-f", "-", given=made(kind))
    assert created.returncode == 0, created.stderr
    yield kind
    users.admin("delete", f"{kind}.manx.dev", SPECS[kind][0])


every_kind = pytest.mark.parametrize("stored", SPECS, indirect=True)


def epoch_of(users: Users, kind: str) -> int:
    found = users.admin("get", f"{kind}.manx.dev", SPECS[kind][0], "-o", "jsonpath={.spec.epoch}")
    return int(found.stdout)


@every_kind
def test_a_lower_epoch_is_refused_whatever_else_the_object_says(users: Users, stored: str) -> None:
    for document in (made(stored, 4), made(stored, 4) | {"metadata": {"name": SPECS[stored][0], "labels": {"a": "b"}}}):
        found = users.admin("replace", "-f", "-", given=document)
        assert "spec.epoch: Forbidden: 4 is lower than the object's, 5: another leader has taken over" in found.stderr
    patch = json.dumps({"spec": {"epoch": 0}})
    found = users.admin("patch", f"{stored}.manx.dev", SPECS[stored][0], "--type=merge", "-p", patch)
    assert "0 is lower than the object's, 5" in found.stderr
    applied = users.admin("apply", "--server-side", "--force-conflicts", "-f", "-", given=made(stored, 4))
    assert "4 is lower than the object's, 5" in applied.stderr
    assert epoch_of(users, stored) == 5


@every_kind
def test_an_epoch_cannot_be_left_out(users: Users, stored: str) -> None:
    for document in (made(stored, None), {**made(stored), "spec": None}):
        found = users.admin("replace", "--validate=false", "-f", "-", given=document)
        assert "Required value" in found.stderr or "must be of type" in found.stderr, found.stderr
    assert epoch_of(users, stored) == 5


@every_kind
def test_the_same_epoch_and_a_higher_one_are_taken(users: Users, stored: str) -> None:
    for epoch in (5, 6):
        found = users.admin("replace", "-f", "-", given=made(stored, epoch))
        assert found.returncode == 0, found.stderr
        assert epoch_of(users, stored) == epoch


@pytest.mark.parametrize("stored", ["PolicyProgram", "IPAMBlock"], indirect=True)
def test_a_status_is_taken_and_leaves_the_epoch_alone(users: Users, stored: str) -> None:
    status = {"released": True} if stored == "IPAMBlock" else {"observedGeneration": 7}
    document = made(stored, 4) | {"status": status}
    found = users.admin("replace", "--subresource=status", "-f", "-", given=document)
    assert found.returncode == 0, found.stderr
    now = json.loads(users.admin("get", f"{stored}.manx.dev", SPECS[stored][0], "-o", "json").stdout)
    assert now["spec"]["epoch"] == 5
    assert status.items() <= now["status"].items()


@pytest.mark.parametrize(
    ("stored", "changed"),
    [
        ("AddressGroup", {"group": "ag-2"}),
        ("AddressGroup", {"chunk": 3}),
        ("AddressGroup", {"chunk": None}),
        ("IPAMBlock", {"cidr": "10.0.0.64/26"}),
    ],
    indirect=["stored"],
)
def test_an_object_stays_what_its_name_says(users: Users, stored: str, changed: dict[str, Any]) -> None:
    (field,) = changed
    patch = json.dumps({"spec": changed})
    found = users.admin("patch", f"{stored}.manx.dev", SPECS[stored][0], "--type=merge", "-p", patch)
    assert f"spec.{field}: Invalid value" in found.stderr
    assert "cannot be changed" in found.stderr


@pytest.mark.parametrize(
    ("kind", "name", "spec"),
    [
        ("AddressGroup", "ag-1-1", {}),
        ("AddressGroup", "ag-1-02", {}),
        ("AddressGroup", "ag-1", {"chunk": 0}),
        ("AddressGroup", "ag-11", {"group": "ag-", "chunk": 1}),
        ("IPAMBlock", "10-0-0-0-27", {}),
    ],
)
def test_an_object_of_another_name_is_not_taken(users: Users, kind: str, name: str, spec: dict[str, Any]) -> None:
    document = made(kind, **spec) | {"metadata": {"name": name}}
    found = users.admin("create", "-f", "-", given=document)
    assert "metadata.name must be" in found.stderr


def test_a_chunk_0_need_not_say_so(users: Users) -> None:
    document = made("AddressGroup") | {"metadata": {"name": "ag-1-0"}}
    del document["spec"]["chunk"]
    for word in ("create", "replace"):
        found = users.admin(word, "-f", "-", given=document)
        assert found.returncode == 0, found.stderr
    found = users.admin("patch", "addressgroup", "ag-1-0", "--type=merge", "-p", '{"spec":{"chunk":1}}')
    assert "cannot be changed" in found.stderr
    users.admin("delete", "addressgroup", "ag-1-0")


# --- agents -----------------------------------------------------------------------------------------------------------


def report(name: str) -> dict[str, Any]:
    return {"apiVersion": "manx.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": name}, "status": {}}


@pytest.fixture
def in_force(users: Users) -> None:
    """The policy is, a moment after it was made."""
    deadline = time.monotonic() + 60
    while users.agent("n2")("create", "--dry-run=server", "-f", "-", given=report("other")).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_agent_reports_of_its_own_node_alone(users: Users, in_force: None) -> None:
    agent = users.agent("n1")
    assert agent("create", "-f", "-", given=report("n1")).returncode == 0
    assert agent("replace", "-f", "-", given=report("n1")).returncode == 0
    words = (
        "the agent of node n1 may write its own NodeReport and the status of its own IPAMBlocks, "
        "nothing else of these kinds"
    )
    assert words in agent("create", "-f", "-", given=report("n2")).stderr
    assert "must be bound to a pod on a node" in users.agent(None)("replace", "-f", "-", given=report("n1")).stderr
    assert "cannot delete" in agent("delete", "nodereport", "n1").stderr
    assert users.admin("delete", "nodereport", "n1").returncode == 0


@pytest.mark.parametrize("stored", ["IPAMBlock"], indirect=True)
def test_an_agent_writes_the_status_of_its_own_blocks_alone(users: Users, stored: str, in_force: None) -> None:
    document = made(stored) | {"status": {"released": True}}
    patch = ("replace", "--subresource=status", "-f", "-")
    assert users.agent("n1")(*patch, given=document).returncode == 0
    assert "the agent of node n2 may write" in users.agent("n2")(*patch, given=document).stderr
    assert "forbidden" in users.agent("n1")("replace", "-f", "-", given=document).stderr


@every_kind
def test_an_agent_writes_nothing_of_the_operators(users: Users, stored: str) -> None:
    agent, name = users.agent("n1"), SPECS[stored][0]
    assert agent("get", f"{stored}.manx.dev", name).returncode == 0
    for found in (
        agent("replace", "-f", "-", given=made(stored, 6)),
        agent("patch", f"{stored}.manx.dev", name, "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}'),
        agent("delete", f"{stored}.manx.dev", name),
    ):
        assert "is forbidden" in found.stderr or "cannot" in found.stderr, found.stderr
        assert found.returncode != 0
    assert epoch_of(users, stored) == 5


@pytest.mark.parametrize("stored", ["IPAMBlock"], indirect=True)
def test_no_role_lets_an_agent_do_more_with_its_kinds(users: Users, stored: str, in_force: None) -> None:
    """One that a user binds to it, say."""
    binding, agent = ("clusterrolebinding", "too-much"), users.agent("n1")
    role = ("--clusterrole=cluster-admin", "--serviceaccount=manx-system:manx-node")
    assert users.admin("create", *binding, *role).returncode == 0
    assert users.admin("create", "-f", "-", given=report("n1")).returncode == 0
    try:
        for found in (
            agent("delete", "ipamblock", SPECS[stored][0]),
            agent("delete", "nodereport", "n1"),
            agent("replace", "-f", "-", given=made(stored, 6)),
        ):
            assert "nothing else of these kinds" in found.stderr
    finally:
        users.admin("delete", *binding)
        users.admin("delete", "nodereport", "n1")


# --- the operator -----------------------------------------------------------------------------------------------------


async def test_a_leader_of_an_earlier_term_changes_nothing(users: Users, caplog: pytest.LogCaptureFixture) -> None:
    """Though what it knows is new, and nothing tells it that its term is over. One of a later term does."""
    async with KubeClient(users.config) as client:

        async def select(types: list[str]) -> None:
            await client.patch(NETWORK_POLICIES, Obj, "p", {"spec": {"policyTypes": types}}, namespace="d")

        async def led(epoch: int, types: list[str]) -> Obj:
            """The program that there is when a leader has written one of these types, or was refused."""
            async with leading_on(users.config, FAST, new_term(epoch)) as leader:
                programs = leader.inputs.ours[POLICY_PROGRAMS].cache
                leader.control.activate(True)
                await eventually(
                    lambda: REFUSED in caplog.text or types in [list(p.spec.types) for p in programs.values()]
                )
            (found,) = (await client.list_all(POLICY_PROGRAMS, Obj)).items
            return found

        await client.create(NAMESPACES, {"metadata": {"name": "d"}})
        spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
        await client.create(NETWORK_POLICIES, {"metadata": {"namespace": "d", "name": "p"}, "spec": spec})
        before = await led(6, ["Ingress"])
        await select(["Egress"])
        assert await led(5, ["Egress"]) == before
        assert "spec.epoch: Forbidden: 5 is lower than the object's, 6" in caplog.text
        caplog.clear()
        after = await led(7, ["Egress"])
        assert (after["spec"]["epoch"], after["spec"]["types"]) == (7, ["Egress"])
        assert REFUSED not in caplog.text
