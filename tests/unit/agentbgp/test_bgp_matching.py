"""A command is for exactly those neighbors for which ExaBGP's own comparison says it is."""

from __future__ import annotations

from exabgp.reactor.api.command.limit import match_neighbors as theirs
from hypothesis import given
from hypothesis import strategies as st

from manx_agent.bgp.matching import ANY, match_neighbors

ADDRESSES = ("192.0.2.1", "192.0.2.11", "2001:db8::1")
AS_NUMBERS = ("6451", "64512")

addresses, as_numbers = st.sampled_from(ADDRESSES), st.sampled_from(AS_NUMBERS)
names = st.lists(
    st.builds(
        "neighbor {} local-ip 192.0.2.9 local-as {} peer-as {} router-id 192.0.2.9 family-allowed in-open".format,
        *(addresses, as_numbers, as_numbers),
    ),
    unique=True,
)
filters = st.lists(st.builds("{}-as {}".format, st.sampled_from(("local", "peer")), as_numbers), max_size=3)
named = st.builds(lambda address, more: [f"neighbor {address}", *more], addresses, filters)
descriptions = st.lists(named | st.just([ANY]) | filters.filter(bool), max_size=5)


@given(names, descriptions)
def test_the_same_neighbors_as_exabgp_finds(names: list[str], descriptions: list[list[str]]) -> None:
    assert match_neighbors(names, descriptions) == theirs(names, descriptions)
