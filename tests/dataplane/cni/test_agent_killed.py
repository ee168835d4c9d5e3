"""kill -9 of the agent at every step of ADD and DEL: what the runtime sees, and what is left."""

from __future__ import annotations

import contextlib
import json
import signal

import pytest

from cni_agent import STEPS
from cni_node import CniFailure, CniNode, address_of, finished
from manx_agent.drivers.netlink_messages import interface_name
from netns import Netns

ADD_STEPS = STEPS[:8]
DEL_STEPS = (*STEPS[8:], "before flush", "after flush")


def die_at(node: CniNode, step: str) -> None:
    (node.directory / "die").write_text(step)


@pytest.mark.parametrize("step", ADD_STEPS)
def test_an_add_goes_on_with_the_next_agent(node: CniNode, pod: Netns, step: str) -> None:
    die_at(node, step)
    adding = node.popen("ADD", "one", pod.path)
    node.wait()
    node.start()
    result = finished(adding)
    assert node.interfaces() == [interface_name("one", "eth0")]
    assert node.allocated() == ["one"]
    assert node.cni("CHECK", "one", pod.path, prevResult=result) == {}
    node.netns.run("ping", "-c", "1", "-W", "2", address_of(result))


@pytest.mark.parametrize("step", ["before create", "after create", "before activate", "after activate"])
def test_many_adds_at_once_go_on_with_the_next_agent(node: CniNode, step: str) -> None:
    """The first that comes so far takes the agent with it; the others are on their way."""
    with contextlib.ExitStack() as stack:
        pods = {f"many{number}": stack.enter_context(Netns()) for number in range(10)}
        die_at(node, step)
        adding = {container: node.popen("ADD", container, pod.path) for container, pod in pods.items()}
        node.wait()
        written = set(node.allocated())
        node.start()
        results = {container: finished(process) for container, process in adding.items()}
        assert written <= set(node.allocated()) == set(pods)
        assert len(set(map(address_of, results.values()))) == len(pods)
        assert node.interfaces() == sorted(interface_name(container, "eth0") for container in pods)
        for container, pod in pods.items():
            assert node.cni("CHECK", container, pod.path, prevResult=results[container]) == {}


@pytest.mark.parametrize("step", ADD_STEPS)
def test_a_del_after_an_add_that_nobody_finished(node: CniNode, pod: Netns, step: str) -> None:
    die_at(node, step)
    adding = node.popen("ADD", "one", pod.path)
    node.wait()
    adding.kill()
    adding.communicate()
    node.start()
    assert node.cni("DEL", "one", pod.path) == {}
    assert node.interfaces() == []
    assert node.allocated() == []
    assert "eth0" not in pod.ip("link")


@pytest.mark.parametrize("step", DEL_STEPS)
def test_a_del_goes_on_with_the_next_agent(node: CniNode, pod: Netns, step: str) -> None:
    node.add("one", pod)
    die_at(node, step)
    deleting = node.popen("DEL", "one", pod.path)
    node.wait()
    node.start()
    assert finished(deleting) == {}
    assert node.interfaces() == []
    assert node.allocated() == []


def test_what_an_agent_finds_at_its_start(node: CniNode, pod: Netns) -> None:
    with Netns() as other:
        kept = node.add("kept", pod)
        node.add("lost", other)
        node.kill()
        node.netns.ip("link", "del", interface_name("lost", "eth0"))
        assert node.start() == ["kept"]
        assert node.allocated() == ["kept"]
        node.netns.run("ping", "-c", "1", "-W", "2", kept)


def test_no_agent_is_try_again_and_a_pod_keeps_its_network(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    node.kill()
    with pytest.raises(CniFailure) as failure:
        node.cni("DEL", "one", pod.path)
    assert failure.value.code == 11
    node.netns.run("ping", "-c", "1", "-W", "2", address)


def test_a_terminated_agent_undoes_what_is_half_done(node: CniNode, pod: Netns) -> None:
    node.steer("hold")
    adding = node.popen("ADD", "one", pod.path)
    while not node.interfaces():
        assert adding.poll() is None
    node.stop()
    assert node.interfaces() == []
    assert node.allocated() == []
    node.steer("hold", on=False)
    node.start()
    finished(adding)
    assert node.allocated() == ["one"]


def test_a_lost_journal_gives_no_running_pods_address_away(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    node.kill()
    (node.directory / "addresses").unlink()
    with Netns() as other:
        assert node.start() == []
        assert node.add("two", other) != address
        node.netns.run("ping", "-c", "1", "-W", "2", address)
        node.cni("DEL", "one", pod.path)
        assert node.interfaces() == [interface_name("two", "eth0")]


def test_a_second_agent_waits_until_the_first_is_gone(node: CniNode, pod: Netns) -> None:
    address = node.add("one", pod)
    first, node.agent = node.agent, None
    assert first is not None
    assert first.stdout is not None
    with contextlib.ExitStack() as stack:
        stack.callback(first.stdout.close)
        stack.callback(first.wait)
        stack.callback(first.kill)
        first.send_signal(signal.SIGSTOP)
        starting = node.starting()
        while "waiting for it to end" not in (node.directory / "log").read_text():
            assert starting.poll() is None
    assert node.started() == ["one"]
    node.netns.run("ping", "-c", "1", "-W", "2", address)


def test_the_state_survives_as_json_lines(node: CniNode, pod: Netns) -> None:
    """People read the journal too."""
    address = node.add("one", pod)
    last = (node.directory / "addresses").read_text().splitlines()[-1]
    assert json.loads(last.partition(" ")[2])["allocation"]["address"] == address
