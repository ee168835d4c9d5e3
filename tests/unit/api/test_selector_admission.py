"""The admission policy's regular expression for selectors refuses nothing that is one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.policy_admission import SELECTOR
from manx_core.selectors import calico

LABELS = st.sampled_from(["a", "app", "projectcalico.org/name", "x-y_z.k", "in", "not", "has", "all", "9", "contains"])
VALUES = st.sampled_from(["", "web", "a b", "(", ")", "&&", "||", "!", "all()", "}", ","])
SPACE = st.sampled_from(["", " ", "  ", "\t"])


@st.composite
def strings(draw: st.DrawFn) -> str:
    quote = draw(st.sampled_from("'\""))
    return f"{quote}{draw(VALUES)}{quote}"


@st.composite
def atoms(draw: st.DrawFn) -> str:
    kind, label, gap = draw(st.integers(0, 4)), draw(LABELS), draw(SPACE)
    if kind == 0:
        return draw(st.sampled_from(["all()", "all( )", "global()"]))
    if kind == 1:
        return f"has({gap}{label}{draw(SPACE)})"
    if kind == 2:
        values = f"{draw(SPACE)},{draw(SPACE)}".join(draw(st.lists(strings(), max_size=3)))
        return f"{label} {draw(st.sampled_from(['in', 'not in', 'notin', 'not  in']))}{gap}{{{gap}{values}{gap}}}"
    operator = draw(st.sampled_from(["==", "!=", " contains ", " starts with ", " ends  with ", " startswith "]))
    return f"{label}{gap}{operator}{draw(SPACE)}{draw(strings())}"


@st.composite
def selectors(draw: st.DrawFn) -> str:
    parts = []
    for number in range(draw(st.integers(1, 4))):
        joint = draw(st.sampled_from(["&&", "||", " && "])) if number else ""
        depth = draw(st.integers(0, 2))
        opening = draw(st.sampled_from(["", "!", "! ", "!!"])) + "(" * depth
        parts.append(f"{joint}{opening}{draw(SPACE)}{draw(atoms())}{draw(SPACE)}{')' * depth}")
    return draw(SPACE) + "".join(parts) + draw(SPACE)


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A selector with a character taken away, doubled or put in."""
    text = draw(selectors())
    at = draw(st.integers(0, len(text) - 1))
    return text[:at] + draw(st.sampled_from(["", text[at] * 2, "(", ")", "'", " ", "&"])) + text[at + 1 :]


def is_selector(text: str) -> bool:
    try:
        calico.parse(text)
    except calico.SelectorError:
        return False
    return True


@settings(deadline=None, max_examples=400)
@given(st.one_of(selectors(), nearly(), st.just("")))
def test_what_the_parser_takes_the_api_server_takes(text: str) -> None:
    if is_selector(text):
        assert re.search(SELECTOR, text)


@pytest.mark.parametrize(
    "text",
    ["app", "app =", "app = 'a'", "app == a", "app == 'a", "app == 'a' &&", "&& has(a)", "has()", "has(a) has(b)",
     "app in 'a'", "app in {'a' 'b'}", "app in {a}", "any()", "has(a) and has(b)", "has(a) & has(b)", "'a' == app"],
)  # fmt: skip
def test_what_is_none_is_refused(text: str) -> None:
    assert not is_selector(text)
    assert not re.search(SELECTOR, text)
