"""kopf's handlers: what they hear of, where it goes, and that they never make kopf write to users' objects."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest

from manx_kube.errors import Unavailable
from manx_kube.lease import LeaseLost
from manx_operator.handlers import register

PLURALS = {"installations", "apiservers", "goldmanes", "whiskers", "bgpconfigurations", "bgppeers", "ippools"} | {
    "felixconfigurations", "tiers", "networksets", "globalnetworksets"
}  # fmt: skip


@dataclass
class Recorded:
    """Stands for Deps, its reviewer and its installer; records what they are called for."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    error: Exception | None = None

    @property
    def reviewer(self) -> Recorded:
        return self

    @property
    def installer(self) -> Recorded:
        return self

    def trigger(self) -> None:
        self.calls.append(("trigger",))

    async def bgp_configuration(self, raw: dict[str, Any]) -> None:
        self._called("bgp_configuration", raw)

    async def bgp_peer(self, raw: dict[str, Any]) -> None:
        self._called("bgp_peer", raw)

    async def pool(self, raw: dict[str, Any], *, deleted: bool) -> None:
        self._called("pool", raw, deleted)

    async def policy_kind(self, resource: Any, raw: dict[str, Any]) -> None:
        self._called("policy_kind", raw, resource.kind)

    async def addon(self, resource: Any, raw: dict[str, Any]) -> None:
        self._called("addon", raw)

    def _called(self, what: str, raw: dict[str, Any], *more: object) -> None:
        self.calls.append((what, raw["metadata"]["name"], *more))
        if self.error is not None:
            raise self.error

    def submit(self, work: Callable[[], Coroutine[Any, Any, None]]) -> concurrent.futures.Future[None]:
        if isinstance(self.error, LeaseLost):
            raise self.error
        return asyncio.run_coroutine_threadsafe(work(), asyncio.get_running_loop())


def handlers_of(registry: kopf.OperatorRegistry) -> dict[str, Any]:
    """By plural."""
    return {handler.selector.any_name or handler.selector.plural: handler for handler in registry._watching._handlers}


@pytest.fixture
def deps() -> Recorded:
    return Recorded()


@pytest.fixture
def handlers(deps: Recorded) -> dict[str, Any]:
    registry = kopf.OperatorRegistry()
    register(registry, deps)  # type: ignore[arg-type]
    assert not registry._changing._handlers
    assert not registry._spawning._handlers
    assert not registry._indexing._handlers
    return handlers_of(registry)


def test_only_watching_handlers_are_registered_for_calicos_kinds(handlers: dict[str, Any]) -> None:
    """Others make kopf annotate what they watch, and put finalizers on it."""
    assert set(handlers) == PLURALS
    groups = {handler.selector.group for handler in handlers.values()}
    assert groups == {"projectcalico.org", "operator.tigera.io"}


@pytest.mark.parametrize(
    ("plural", "type_", "calls"),
    [
        ("installations", "ADDED", [("trigger",)]),
        ("installations", "DELETED", [("trigger",)]),
        ("bgpconfigurations", None, [("bgp_configuration", "x")]),
        ("bgpconfigurations", "DELETED", []),
        ("bgppeers", "MODIFIED", [("bgp_peer", "x")]),
        ("bgppeers", "DELETED", []),
        ("ippools", "ADDED", [("trigger",), ("pool", "x", False)]),
        ("ippools", "DELETED", [("trigger",), ("pool", "x", True)]),
        ("tiers", "MODIFIED", [("policy_kind", "x", "Tier")]),
        ("networksets", "ADDED", [("policy_kind", "x", "NetworkSet")]),
        ("globalnetworksets", "ADDED", [("policy_kind", "x", "GlobalNetworkSet")]),
        ("felixconfigurations", "ADDED", [("policy_kind", "x", "FelixConfiguration")]),
        ("felixconfigurations", "DELETED", []),
        ("whiskers", "ADDED", [("addon", "x")]),
        ("whiskers", "DELETED", []),
    ],
)
async def test_where_what_is_heard_goes(
    deps: Recorded, handlers: dict[str, Any], plural: str, type_: str | None, calls: list[tuple[Any, ...]]
) -> None:
    await handlers[plural].fn(event={"type": type_, "object": {"metadata": {"name": "x"}}})
    assert deps.calls == calls


@pytest.mark.parametrize("error", [LeaseLost("over"), Unavailable("away")])
async def test_kopf_does_not_end_by_what_goes_wrong(deps: Recorded, handlers: dict[str, Any], error: Exception) -> None:
    deps.error = error
    await handlers["bgppeers"].fn(event={"type": "ADDED", "object": {"metadata": {"name": "x"}}})
