"""ExaBGP's configuration: the same bytes for the same view, and each peer's section its own affair."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from manx_agent.bgp.config import Rendered, render
from manx_agent.bgp.files import MARKER_ADDRESS, Desired
from manx_agent.bgp.peers import wanted_peers
from manx_agent.model import BgpView
from manx_core.api.v1alpha1 import BgpPeer, BgpSettings, MeshNodeSpec

RELAY = ("/usr/bin/python3", "-m", "relay")


def rendered(view: BgpView) -> Rendered:
    return render(view, wanted_peers(view), RELAY)


def sections(view: BgpView) -> dict[str, str]:
    """Peer address → its section's text."""
    found = re.findall(r"^neighbor (\S+) \{\n(.*?)^\}$", rendered(view).text, re.M | re.S)
    return dict(found)


members = st.builds(
    MeshNodeSpec,
    epoch=st.integers(0, 9),
    ipv4=st.integers(2, 20).map(lambda n: f"192.0.2.{n}"),
    as_number=st.sampled_from([64512, 65001, 4200000000]),
    blocks=st.just(("10.0.0.0/26",)),
)
views = st.builds(
    BgpView,
    node=st.just("a"),
    address=st.just("192.0.2.1"),
    settings=st.builds(BgpSettings, as_number=st.sampled_from([64512, 63400]), hold_time=st.sampled_from([9, 90])),
    mesh=st.dictionaries(st.sampled_from("bcdefg"), members),
    announced=st.frozensets(st.sampled_from(["10.0.1.0/26", "10.0.2.0/26", "10.0.3.0/26"])),
)


@given(views)
def test_order_of_arrival_does_not_matter(view: BgpView) -> None:
    other = replace(view, mesh=dict(reversed(list(view.mesh.items()))))
    assert rendered(view) == rendered(other)


@given(views, members)
def test_a_member_more_changes_no_other_section(view: BgpView, joining: MeshNodeSpec) -> None:
    after = sections(replace(view, mesh={**view.mesh, "z": joining}))
    before = sections(view)
    before.pop(MARKER_ADDRESS)
    assert {address: after[address] for address in before} == before


@given(views)
def test_blocks_and_announcements_are_not_in_the_file(view: BgpView) -> None:
    assert rendered(view).text == rendered(replace(view, announced=frozenset())).text
    mesh = {name: MeshNodeSpec(epoch=99, ipv4=m.ipv4, as_number=m.as_number) for name, m in view.mesh.items()}
    assert rendered(view).text == rendered(replace(view, mesh=mesh)).text


@given(views, views)
def test_the_marker_tells_configurations_apart(one: BgpView, other: BgpView) -> None:
    assert (rendered(one).text == rendered(other).text) == (
        rendered(one).desired.marker == rendered(other).desired.marker
    )
    assert f"router-id {rendered(one).desired.marker};" in rendered(one).text


@given(views)
def test_desired_survives_its_file(view: BgpView) -> None:
    desired = rendered(view).desired
    assert Desired.decode(desired.encode()) == desired


def test_what_a_section_says() -> None:
    view = BgpView(
        "a",
        "192.0.2.1",
        settings=BgpSettings(as_number=63400, hold_time=1, restart_time=9999, router_id="192.0.2.77", listen_port=1790),
        peers=(BgpPeer(name="tor", address="192.0.2.9", as_number=65000, port=1791),),
    )
    section = sections(view)["192.0.2.9"]
    for line in (
        "local-address 192.0.2.1;",
        "router-id 192.0.2.77;",
        "local-as 63400;",
        "peer-as 65000;",
        "hold-time 3;",
        "listen 1790;",
        "connect 1791;",
        "graceful-restart 4095;",
        "manual-eor true;",
    ):
        assert line in section


def test_each_session_carries_its_own_family() -> None:
    view = BgpView(
        "a",
        "192.0.2.1",
        "2001:db8::1",
        mesh={"b": MeshNodeSpec(epoch=1, ipv4="192.0.2.2", ipv6="2001:db8::2")},
        announced=frozenset({"10.0.0.0/26", "fd00::40/122"}),
    )
    found = sections(view)
    assert "local-address 192.0.2.1;" in found["192.0.2.2"]
    assert "family {\n    ipv4 unicast;\n  }" in found["192.0.2.2"]
    for line in ("local-address 2001:db8::1;", "router-id 192.0.2.1;", "family {\n    ipv6 unicast;\n  }"):
        assert line in found["2001:db8::2"]
    assert rendered(view).desired.announce == view.announced


def test_ipv6_leaves_the_sections_of_ipv4_sessions_as_they_are() -> None:
    """They would be reset if they changed."""
    view = BgpView("a", "192.0.2.1", mesh={"b": MeshNodeSpec(epoch=1, ipv4="192.0.2.2", ipv6="2001:db8::2")})
    assert list(sections(view)) == ["192.0.2.2", MARKER_ADDRESS]
    assert sections(replace(view, address6="2001:db8::1"))["192.0.2.2"] == sections(view)["192.0.2.2"]


def test_blocks_of_a_family_without_an_address_are_not_announced() -> None:
    view = BgpView("a", "192.0.2.1", announced=frozenset({"10.0.0.0/26", "fd00::40/122"}))
    assert rendered(view).desired.announce == frozenset({"10.0.0.0/26"})


def test_no_address_no_announcement() -> None:
    view = BgpView("a", "", announced=frozenset({"10.0.0.0/26"}))
    assert rendered(view).desired.announce == frozenset()
    assert list(sections(view)) == [MARKER_ADDRESS]
