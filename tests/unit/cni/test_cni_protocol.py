"""Requests right and wrong: what is understood, and which error names what."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manx_agent.cni.protocol import CniError, Pod, addresses_in, parse_request, pod_of
from manx_agent.drivers.netlink_messages import interface_name, mac_address

GOOD = {
    "command": "ADD", "containerID": "c1", "netns": "/run/netns/p", "ifName": "eth0", "path": "/opt/cni/bin",
    "args": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_UID=u1", "config": {"name": "manx"},
}  # fmt: skip


def request_with(**changed: Any) -> bytes:
    return json.dumps({**GOOD, **changed}).encode()


def test_a_good_request() -> None:
    request = parse_request(request_with(config={"name": "manx", "timeout": 5, "unknown": {}}))
    assert request.key == ("c1", "eth0")
    assert request.config.timeout == 5
    assert pod_of(request) == Pod("ns", "web", "u1")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (b"", 6, "not what this agent understands"),
        (b"nonsense", 6, "not what this agent understands"),
        (b"[]", 6, "Expected `object`"),
        (b"{}", 6, "command"),
        (b"[" * 100_000, 6, "not what this agent understands"),
        (request_with(command="REBOOT"), 4, "CNI_COMMAND: 'REBOOT' is none of ADD, CHECK, DEL, GC, STATUS"),
        (request_with(command="VERSION"), 4, "CNI_COMMAND"),
        (request_with(command=None), 6, "$.command"),
        (request_with(containerID=""), 4, "CNI_CONTAINERID: ''"),
        (request_with(containerID="../x"), 4, "CNI_CONTAINERID"),
        (request_with(containerID="c" * 1000), 4, "CNI_CONTAINERID"),
        (request_with(containerID=7), 6, "$.containerID"),
        (request_with(ifName=""), 4, "CNI_IFNAME"),
        (request_with(ifName="a/b"), 4, "CNI_IFNAME"),
        (request_with(ifName=".."), 4, "CNI_IFNAME"),
        (request_with(ifName="sixteen-letters-"), 4, "CNI_IFNAME"),
        (request_with(config={"timeout": 0}), 7, "timeout: 0.0 is not between 1 and 600 seconds"),
        (request_with(config={"timeout": 1e9}), 7, "timeout"),
        (request_with(config={"timeout": "x"}), 6, "$.config.timeout"),
        (request_with(config={"cni.dev/valid-attachments": [{}]}), 6, "containerID"),
    ],
)
def test_bad_requests(line: bytes, code: int, message: str) -> None:
    with pytest.raises(CniError) as caught:
        parse_request(line)
    assert caught.value.code == code
    assert message in caught.value.message + caught.value.details


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_a_request_or_a_cni_error(line: bytes) -> None:
    with contextlib.suppress(CniError):
        parse_request(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(GOOD)), json_values)
def test_any_value_in_any_field_is_a_request_or_a_cni_error(field: str, value: Any) -> None:
    with contextlib.suppress(CniError):
        parse_request(request_with(**{field: value}))


@pytest.mark.parametrize("args", ["", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web", "K8S_POD_UID;;=;K8S_POD_NAME=", "=;=;"])
def test_arguments_that_name_no_pod(args: str) -> None:
    with pytest.raises(CniError, match=r"CNI_ARGS: .*K8S_POD_UID missing") as caught:
        pod_of(parse_request(request_with(args=args)))
    assert caught.value.code == 4


@pytest.mark.parametrize("result", [{"ips": 7}, {"ips": [7]}, {"ips": [{}]}])
def test_a_previous_result_that_is_none(result: dict[str, Any]) -> None:
    with pytest.raises(CniError, match=r"prevResult\.ips"):
        addresses_in(result)


def test_addresses_of_a_result() -> None:
    assert addresses_in({"ips": [{"address": "10.0.0.1/32"}, {"address": "10.0.0.2"}]}) == {"10.0.0.1", "10.0.0.2"}
    assert addresses_in(None) == set()


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_names_fit_the_kernel(container: str, interface: str) -> None:
    assert len(interface_name(container, interface)) == 14
    octets = [int(part, 16) for part in mac_address(container, interface).split(":")]
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10, "locally administered, unicast"
