"""The election's settings from the environment."""

from __future__ import annotations

import pytest

from manx_kube.client import KubeClient
from manx_kube.config import ApiConfig
from manx_kube.errors import ConfigError
from manx_kube.lease import LeaseTiming
from manx_operator.leader import elector_from_env, identity_from_env, timing_from_env


def test_defaults_and_a_labs_timing() -> None:
    assert timing_from_env({}) == LeaseTiming(15, 10, 2)
    env = {"MANX_LEASE_DURATION": "6", "MANX_LEASE_RENEW_DEADLINE": "4", "MANX_LEASE_RETRY_PERIOD": "1"}
    assert timing_from_env(env) == LeaseTiming(6, 4, 1)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MANX_LEASE_DURATION": "soon"}, "MANX_LEASE_DURATION='soon'"),
        ({"MANX_LEASE_DURATION": "5"}, "renew deadline"),
        ({"MANX_LEASE_RETRY_PERIOD": "nan"}, "MANX_LEASE"),
        ({"MANX_LEASE_DURATION": "inf"}, "MANX_LEASE"),
    ],
)
def test_bad_timing_is_named(env: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        timing_from_env(env)


def test_each_process_is_another_candidate() -> None:
    first, second = identity_from_env({"POD_NAME": "manx-0"}), identity_from_env({"POD_NAME": "manx-0"})
    assert first != second
    assert first.startswith("manx-0_")


def test_the_candidate_is_built_from_all_of_it() -> None:
    client = KubeClient(ApiConfig(server="http://127.0.0.1:1"))
    env = {"POD_NAME": "p", "POD_NAMESPACE": "elsewhere", "MANX_LEASE_DURATION": "20"}
    elector = elector_from_env(client, floor_epoch=lambda: 3, env=env)
    assert elector.identity.startswith("p_")
    assert elector.timing.duration == 20
    assert elector._namespace == "elsewhere"
