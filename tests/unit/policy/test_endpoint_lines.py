"""An endpoint is the same after it was a line; what is no line is refused by the reader and by the API server alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.manx_kinds import LIMITS
from manx_core.api.lines import lines_of, text_of
from manx_core.policy.endpoint import Endpoint, NamedPort, classes_of, endpoint_of, line_of

_name = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
_port = st.builds(
    NamedPort,
    st.from_regex(r"[a-z]([a-z0-9-]{0,13}[a-z0-9])?", fullmatch=True),
    st.sampled_from(("TCP", "UDP", "SCTP")),
    st.integers(1, 65535),
)
_endpoint = st.builds(Endpoint, _name, _name, _name, st.just("") | _name, st.lists(_port, max_size=4).map(tuple))
PATTERN = re.compile(LIMITS["NodeStateSpec", "pods"]["pattern"])


@given(st.lists(_endpoint, max_size=5))
def test_what_a_line_says_is_what_was_meant(endpoints: list[Endpoint]) -> None:
    lines = [line_of(endpoint) for endpoint in endpoints]
    assert [endpoint_of(line) for line in lines] == endpoints
    assert classes_of(lines) == {endpoint.policy_class for endpoint in endpoints} - {""}
    assert PATTERN.fullmatch(text_of(lines))
    assert lines_of(text_of(lines)) == tuple(lines)


def test_a_line_reads_as_documented() -> None:
    endpoint = Endpoint("shop", "web-1", "0d1e", "default.shop.5b0c", (NamedPort("http", "TCP", 8080),))
    assert line_of(endpoint) == "shop/web-1 0d1e default.shop.5b0c http=TCP:8080"
    assert line_of(Endpoint("shop", "web-1", "0d1e")) == "shop/web-1 0d1e -"


@pytest.mark.parametrize(
    "line",
    ["", "a", "a/b", "a/b u", "a u open", "/b u open", "a/ u open", "a/b/c u open", "a/b  open", "a/b u open x",
     "a/b u open x=TCP", "a/b u open x=TCP:y", "a/b u open =TCP:1", "a/b u open x=:1", "a/b u open "],
)  # fmt: skip
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not namespace/name, a UID, a class"):
        endpoint_of(line)
    assert not PATTERN.fullmatch(f"a/b u open\n{line}\na/b u open")


@pytest.mark.parametrize("number", [0, 65536])
def test_a_port_is_one(number: int) -> None:
    with pytest.raises(ValueError, match="ports as name=protocol:number"):
        endpoint_of(f"a/b u open x=TCP:{number}")
