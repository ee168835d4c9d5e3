"""Calico's selector language: what each operator means, and what a mistake is answered with."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manx_core.selectors.calico import MAX_LENGTH, SelectorError, parse

LABELS = {"rack": "a1", "zone": "north", "empty": "", "projectcalico.org/tier": "x"}


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("  ", True),
        ("all()", True),
        ("all( )", True),
        ("\tall()", True),
        ("global()", True),
        ("global( )", True),
        ("!all()", False),
        ("rack == 'a1'", True),
        ('rack == "a1"', True),
        ("rack == 'b'", False),
        ("none == ''", False),
        ("empty == ''", True),
        ("rack != 'a1'", False),
        ("rack != 'b'", True),
        ("none != 'b'", True),
        ("has(rack)", True),
        ("has(none)", False),
        ("!has(none)", True),
        ("has(projectcalico.org/tier)", True),
        ("rack in {'a1', 'b'}", True),
        ("rack in {}", False),
        ("none in {'a'}", False),
        ("rack not in {'a1'}", False),
        ("rack not in {'b'}", True),
        ("rack notin {'b'}", True),
        ("rack not  in{'b'}", True),
        ("rack notin{'a1'}", False),
        ("rack in{'a1'}", True),
        ("rack in {'b', 'a1',}", True),
        ("rack in {\"'\", 'a1'}", True),
        ("rack not in {}", True),
        ("none not in {'a'}", True),
        ("rack contains '1'", True),
        ("none contains ''", False),
        ("rack starts with 'a'", True),
        ("rack ends with 'a'", False),
        ("rack startswith 'a'", True),
        ("rack starts \t with 'a'", True),
        ("rack endswith'1'", True),
        ("rack contains'a'", True),
        ("rack contains ''", True),
        ("has(rack) && zone == 'south'", False),
        ("has(rack) || zone == 'south'", True),
        ("zone == 'south' && has(none) || has(rack)", True),
        ("zone == 'south' && (has(none) || has(rack))", False),
        ("!(has(none) || has(rack))", False),
        ("!!has(rack)", True),
        ("! ! !has(rack)", False),
        ("!rack == 'a1'", False),
        ("!none == 'a1'", True),
        ("!none in {'a1'} && !rack contains 'b'", True),
        ("has( rack )", True),
        ("has(rack)&&!has(none)||none=='x'", True),
        ("in == 'x' || has(in)", False),
        ("contains contains 'contains'", False),
        ("startswith starts with 'x' || endswith ends with 'x' || not not in {'x'}", True),
        ("has(has) || has(all) || all != 'x'", True),
        ("calico/k8s_NS-.1/role == 'x' || -x != 'y'", True),
    ],
)
def test_what_a_selector_selects(text: str, selects: bool) -> None:
    assert parse(text).matches(LABELS) is selects


@pytest.mark.parametrize(
    "text",
    [
        "rack",
        "rack ==",
        "rack == a1",
        "rack = 'a1'",
        "rack contains rack",
        "rack starts with rack",
        "rack squiggles 'a1'",
        "rack starts foo 'a'",
        "rack not 'a'",
        "rack 'a'",
        "'a1' == rack",
        "rack in {'a1'",
        "rack in {,}",
        "rack in {'a1',,}",
        "rack in a1",
        "rack != ||",
        "rack == 'a1' &",
        "rack == 'a1' |",
        "rack == 'a1' && %",
        "rack == 'a1\"",
        "rack rack",
        "!",
        "()",
        ")",
        "(",
        "%",
        "all ()",
        "all(",
        "has (rack)",
        "has(rack",
        "has('rack')",
        "global(x)",
        "has(rack) &&",
        "rack == 'a1'\n",
        "l" * 513 + " == 'a1'",
        "rack == 'a1",
        "(all()",
        "all() all()",
        "has()",
        "any()",
        "rack in 'a'",
        "rack in {'a' 'b'}",
        "rack starts 'a'",
        "rack like 'a'",
        "&& all()",
        "all() ||",
        "rack == 'a'; drop",
        "!" * 4000,
        "(" * 200 + "all()" + ")" * 200,
    ],
)
def test_what_is_no_selector_is_refused_with_a_place(text: str) -> None:
    with pytest.raises(SelectorError, match=r"character \d+|nested deeper|has \d+ characters"):
        parse(text)


@given(st.text(alphabet="ab ()!=&|'{},hasinot", max_size=40))
@example("all" * 600)
def test_any_text_is_a_selector_or_an_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError:
        return
    assert selector.matches(LABELS) in (True, False)
    assert parse(text) == selector


def test_a_selector_has_a_greatest_length() -> None:
    with pytest.raises(SelectorError, match=str(MAX_LENGTH)):
        parse("a" * (MAX_LENGTH + 1))
