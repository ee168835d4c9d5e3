"""Which of ExaBGP's peers get a turn, and when the next one is due."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.logger.option import option
from exabgp.protocol.family import AFI
from exabgp.reactor.delay import Delay
from exabgp.reactor.network.error import NotConnected

from manx_agent.bgp.reactor import JITTER, NEVER, RETRY, Commands, OneAttempt, RestingPeer, RestingReactor, UnevenDelay
from manx_agent.bgp.server import is_known

TICK = 0.05
NOW = 1000.0


class Neighbor(dict[str, Any]):
    """As much of ExaBGP's as is asked."""

    def __init__(self) -> None:
        super().__init__(passive=False)
        self.rib = SimpleNamespace(outgoing=SimpleNamespace(pending=lambda: False))
        self.eor: list[Any] = []
        self.messages: list[Any] = []


def peer(fd: int = 7, **altered: Any) -> RestingPeer:
    """One that is established and rests: a KEEPALIVE to be sent at 1030, the hold timer expires after 1090."""
    one = RestingPeer.__new__(RestingPeer)
    values = {
        "resting": True,
        "fsm": FSM.ESTABLISHED,
        "proto": SimpleNamespace(fd=lambda: fd),
        "generator": iter(()),
        "neighbor": Neighbor(),
        "send_timer": SimpleNamespace(last_sent=1000, keepalive=30),
        "recv_timer": SimpleNamespace(last_read=1000, holdtime=90),
        "_delay": Delay(),
        "_restart": True,
        "_teardown": None,
        "_neighbor": None,
        **altered,
    }
    one.__dict__.update(values)
    return one


def send_something(one: RestingPeer) -> None:
    one.neighbor.rib.outgoing.pending = lambda: True


def test_one_that_rests_is_due_when_its_first_timer_is() -> None:
    assert peer().due(NOW, TICK) == 1030
    assert peer(send_timer=SimpleNamespace(last_sent=1000, keepalive=0)).due(NOW, TICK) == 1091
    silent = SimpleNamespace(last_sent=1000, keepalive=0), SimpleNamespace(last_read=1000, holdtime=0)
    assert peer(send_timer=silent[0], recv_timer=silent[1]).due(NOW, TICK) == NEVER


def test_one_with_something_to_send_is_due_at_once() -> None:
    one = peer()
    send_something(one)
    assert one.due(NOW, TICK) == 0


@pytest.mark.parametrize(
    "altered",
    [
        {"resting": False},
        {"fsm": FSM.OPENSENT},
        {"_teardown": 3},
        {"_teardown": 3, "_restart": False, "fsm": FSM.IDLE, "generator": None},
        {"_neighbor": SimpleNamespace()},
    ],
)
def test_any_other_is_awake_and_due_at_the_next_tick(altered: dict[str, Any]) -> None:
    one = peer(**altered)
    assert not one.rests()
    assert one.due(NOW, TICK) == NOW + TICK


def reactor(**peers: RestingPeer) -> RestingReactor:
    one = RestingReactor.__new__(RestingReactor)
    one.__dict__.update(
        _peers=peers,
        _sleep_time=TICK,
        _ready=set(),
        _key_of={},
        _awake=set(),
        _stale=True,
        _busy=False,
        signal=SimpleNamespace(received=0),
        listener=None,
        _signals=SimpleNamespace(fileno=lambda: 3),
        processes=SimpleNamespace(_process={}),
        asynchronous=SimpleNamespace(ready=lambda: True),
        _poller=SimpleNamespace(register=lambda fd: None),
    )
    return one


def asleep(**peers: RestingPeer) -> RestingReactor:
    """With no timer of any peer due for an age."""
    for one in peers.values():
        one.recv_timer.last_read = one.send_timer.last_sent = 1e12
    found = reactor(**peers)
    assert found.active_peers() == set()
    return found


def test_one_whose_socket_has_something_gets_a_turn_and_no_other() -> None:
    found = asleep(a=peer(7), b=peer(8))
    found._ready = {8}
    assert found.active_peers() == {"b"}


def test_a_peer_that_is_removed_while_it_rests_gets_a_turn() -> None:
    """Nothing else would ever take it out of ExaBGP's list, where it would answer for its successor."""
    found = asleep(a=peer())
    found._peers["a"]._teardown, found._peers["a"]._restart = 3, False
    found.look_again()
    assert found.active_peers() == {"a"}


def put_off(seconds: float) -> RestingPeer:
    """One whose next attempt to connect is due then."""
    delay = Delay()
    delay._time = time.time() + seconds
    return peer(fsm=FSM.IDLE, generator=None, _delay=delay)


def test_one_that_is_to_connect_later_gets_no_turn_before_that() -> None:
    found = reactor(a=put_off(3), b=peer(fsm=FSM.ACTIVE), c=put_off(-1))
    assert found.active_peers() == {"b", "c"}
    found = reactor(a=put_off(3))
    assert found.active_peers() == set()
    assert 2 < found._next - time.time() <= 3


def test_an_attempt_ends_where_it_fails_and_where_it_would_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first: no interface has the address that it is to be made from."""
    monkeypatch.setattr(option, "logger", logging.getLogger("exabgp"))
    attempt = OneAttempt(AFI.ipv4, "127.0.0.1", "192.0.2.1")
    for _ in range(2):
        with pytest.raises(NotConnected):
            next(attempt.establish())
        assert attempt.io is None


def test_the_pause_grows_only_so_far_after_attempts_that_came_to_nothing() -> None:
    one = peer(proto=None, stats={}, _delay=UnevenDelay())
    one.fsm = FSM(one, FSM.ACTIVE)
    one.neighbor.api, one.neighbor.generated, one.neighbor.reset_rib = {"fsm": False}, False, lambda: None
    for _ in range(20):
        one._reset("closing connection", NotConnected("refused"))
    assert RETRY - 1 < one._delay._time - time.time() <= RETRY + JITTER
    assert one.waits()


def test_what_a_command_left_to_be_sent_is_seen_after_it() -> None:
    found = asleep(a=peer())
    assert found._patience(0) == 0
    send_something(found._peers["a"])
    assert found._patience(50) < 0.01
    assert found.active_peers() == {"a"}


def test_commands_are_worked_off_step_by_step() -> None:
    done: list[int] = []

    def command(steps: int) -> Iterator[None]:
        for step in range(steps):
            done.append(step)
            yield

    commands = Commands()
    assert not commands.run()
    for _ in range(2):
        commands._async.append(("manx", command(40)))
    assert commands.run()
    while commands.run():
        pass
    assert done == [*range(40)] * 2
    assert commands.ready()


def test_this_exabgp_is_one_for_which_all_this_was_made() -> None:
    assert is_known()
