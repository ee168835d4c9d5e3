"""How many writes are on their way at a time, by what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_kube.errors import Conflict, Invalid, RequestTimeout, TooManyRequests, Unavailable
from manx_operator.congestion import Window
from operating import Clock


@pytest.mark.parametrize("error", [TimeoutError(), RequestTimeout("x"), TooManyRequests("x"), Unavailable("x")])
def test_what_the_server_cannot_do_in_time_halves_the_number(error: Exception) -> None:
    window = Window(32, Clock(5.0))
    window.failed(error, sent=1.0)
    assert window.size == 16


@pytest.mark.parametrize("error", [Conflict("x"), Invalid("x")])
def test_a_refusal_is_an_answer(error: Exception) -> None:
    window = Window(32, Clock(5.0))
    window.failed(error, sent=1.0)
    assert window.size == 32


def test_what_was_on_its_way_together_counts_once() -> None:
    clock = Clock(5.0)
    window = Window(32, clock)
    for _ in range(32):
        window.failed(TimeoutError(), sent=1.0)
    assert window.size == 16
    clock.now = 12.0
    window.failed(TimeoutError(), sent=6.0)
    assert window.size == 8


def test_it_takes_as_many_answers_as_there_are_on_their_way_for_one_more() -> None:
    window = Window(32, Clock(5.0))
    window.failed(TimeoutError(), sent=1.0)
    for _ in range(15):
        window.answered()
    assert window.size == 16
    for _ in range(2):
        window.answered()
    assert window.size == 17


@given(st.integers(1, 64), st.lists(st.booleans()))
def test_there_is_always_one_and_never_more_than_allowed(most: int, answers: list[bool]) -> None:
    clock = Clock(0.0)
    window = Window(most, clock)
    for good in answers:
        clock.now += 1.0
        if good:
            window.answered()
        else:
            window.failed(TimeoutError(), sent=clock.now)
        assert 1 <= window.size <= most
