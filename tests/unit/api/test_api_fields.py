"""The field types that several kinds share: what is taken, what is refused, and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manx_core.api.bgp_configuration import BGPConfiguration
from manx_core.api.bgp_peer import parse_peer_ip
from manx_core.api.fields import MAX_AS_NUMBER, InvalidObject, parse_as_number, parse_duration


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1), (63400, 63400), (65535, 65535), (65536, 65536), (4294967295, 4294967295), ("63400", 63400),
        ("4294967295", 4294967295), ("1.10", 65546), ("0.1", 1), ("65535.65535", 4294967295), ("00001.00010", 65546),
    ],
)  # fmt: skip
def test_as_numbers_that_calico_takes(value: int | str, number: int) -> None:
    assert parse_as_number(value) == number


@pytest.mark.parametrize(
    "value",
    [
        0, -1, 4294967296, "0", "4294967296", "abc", "", "0.0", "65536.0", "0.65536", "1.2.3", "1.", ".1", " 1", "1e3",
        "-1", 1.5, True, None, [], "99999999999", "١", "1\n",
    ],
)  # fmt: skip
def test_as_numbers_that_nobody_takes(value: object) -> None:
    with pytest.raises(ValueError, match="1 to 4294967295"):
        parse_as_number(value)


@given(st.integers(min_value=1, max_value=MAX_AS_NUMBER))
def test_both_notations_mean_the_same(number: int) -> None:
    assert parse_as_number(number) == parse_as_number(str(number)) == number
    assert parse_as_number(f"{number >> 16}.{number & 0xFFFF}") == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120s", 120), ("2m30s", 150), ("1h", 3600), ("1.5s", 1.5), ("500ms", 0.5), ("0s", 0), ("1h0m1s", 3601)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "120", "s", "-1s", "1 s", "1d", "1s\n", "one"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:1179", "192.0.2.1", 1179),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:1179", "2001:db8::1", 1179),
    ],
)
def test_peer_addresses(text: str, address: str, port: int | None) -> None:
    assert parse_peer_ip(text) == (address, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:",
        "peer",
        "[192.0.2.1",
        "2001:db8::1:x",
        "1.2.3.4/24",
    ],
)
def test_what_is_no_peer_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        parse_peer_ip(text)


def test_every_bad_field_is_named_with_what_is_allowed() -> None:
    raw = {
        "metadata": {"name": "default"},
        "spec": {"asNumber": "abc", "listenPort": 0, "nodeToNodeMeshEnabled": "yes", "logSeverityScreen": "Loud"},
    }
    with pytest.raises(InvalidObject) as caught:
        BGPConfiguration.parse(raw)
    found = {problem.field: problem.message for problem in caught.value.problems}
    assert found.keys() == {"spec.asNumber", "spec.listenPort", "spec.nodeToNodeMeshEnabled", "spec.logSeverityScreen"}
    assert "1 to 4294967295" in found["spec.asNumber"]
    assert "'Debug', 'Info', 'Warning', 'Error' or 'Fatal'" in found["spec.logSeverityScreen"]
    assert all("is not allowed" in message for message in found.values())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["asNumber", "listenPort", "nodeToNodeMeshEnabled", "logSeverityScreen", "serviceClusterIPs", "communities",
     "nodeMeshMaxRestartTime", "unheardOf", "prefixAdvertisements"]
)  # fmt: skip


@given(st.dictionaries(_fields, _json))
def test_whatever_a_spec_holds_is_parsed_or_refused_by_name(spec: dict[str, object]) -> None:
    paths, messages = _judged({"metadata": {"name": "default"}, "spec": spec})
    assert all(path.startswith("spec.") for path in paths)
    assert all(messages)


def _judged(raw: dict[str, object]) -> tuple[list[str], list[str]]:
    """Paths named, and what was said of them."""
    try:
        return list(BGPConfiguration.parse(raw).without_effect()), []
    except InvalidObject as error:
        assert error.problems  # noqa: PT017
        return [problem.field for problem in error.problems], [problem.message for problem in error.problems]


def test_null_counts_as_absent() -> None:
    found = BGPConfiguration.parse({"metadata": {"name": "default"}, "spec": {"asNumber": None, "communities": None}})
    assert found.spec.as_number is None
    assert list(found.without_effect()) == []


def test_what_has_no_effect_is_told() -> None:
    spec = {"asNumber": 1, "asNumbr": 2, "serviceClusterIPs": [{"cidr": "10.96.0.0/16"}]}
    found = BGPConfiguration.parse({"apiVersion": "v", "kind": "k", "metadata": {"name": "default"}, "spec": spec})
    assert set(found.without_effect()) == {"spec.asNumbr (unknown)", "spec.serviceClusterIPs"}
