"""What a node says about itself, made from what its parts came to.

Owns: the NodeReport's contents and its conditions' words. Must not: do I/O, look anything up, or read a clock (times
are given).

Why pure: the report is the truth about the node that users and the operator act on; a table of inputs shows each of
its sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from manx_agent.model import BgpOutcome
from manx_agent.policy_loop import PolicyStatus
from manx_agent.state.share import Share
from manx_core.api.v1alpha1 import Condition, Drift, Interface, NodeReportStatus


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a report is made of."""

    version: str
    started: float
    """Seconds since the epoch."""
    share: Share
    policy: PolicyStatus
    bgp: BgpOutcome
    ipam_problem: str = ""
    bad_objects: tuple[str, ...] = ()
    interfaces: tuple[Interface, ...] = ()


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with seconds; "" for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def node_report(inputs: Inputs, before: NodeReportStatus, now: float) -> NodeReportStatus:
    """The report for now; transition times are kept from the report `before`."""
    share, policy, bgp = inputs.share, inputs.policy, inputs.bgp
    view = share.policy_view()
    established = sum(peer.state == "Established" for peer in bgp.peers)
    return NodeReportStatus(
        node_uid=share.settings.node_uid if share.settings else "",
        agent_version=inputs.version,
        started=timestamp(inputs.started),
        backend=policy.outcome.backend if policy.outcome else "",
        applied=policy.applied,
        policies=len(view.programs),
        endpoints=len(view.endpoints),
        groups=len(view.groups),
        peers_summary=f"{established}/{len(bgp.peers)}",
        peers=bgp.peers,
        routes=len(bgp.routes),
        blocks=tuple(sorted(block.spec.cidr for block in share.blocks.values())),
        lag_milliseconds=round(policy.lag_seconds * 1000),
        interfaces=inputs.interfaces,
        drift=Drift(count=policy.drift_count, last=policy.drift_last, last_time=timestamp(policy.drift_time)),
        last_error=policy.error or (bgp.errors[-1] if bgp.errors else ""),
        conditions=_dated(_conditions(inputs), {c.type: c for c in before.conditions}, timestamp(now)),
    )


def _conditions(inputs: Inputs) -> Iterable[Condition]:
    parts = [_policy(inputs), _routes(inputs.bgp), _bgp(inputs), _ipam(inputs)]
    wrong = [part for part in parts if part.status != "True"]
    if wrong:
        yield Condition(type="Ready", status="False", reason=wrong[0].reason, message=wrong[0].message)
    else:
        yield Condition(type="Ready", status="True", reason="InForce", message="what the operator wants is in force")
    yield from parts


def _state(kind: str, problem: tuple[str, str] | None, good: tuple[str, str]) -> Condition:
    status: Literal["True", "False"] = "False" if problem else "True"
    reason, message = problem or good
    return Condition(type=kind, status=status, reason=reason, message=message)


def _policy(inputs: Inputs) -> Condition:
    return _state("Policy", _policy_problem(inputs), ("InForce", "the policies are in the kernel"))


def _policy_problem(inputs: Inputs) -> tuple[str, str] | None:
    policy, share = inputs.policy, inputs.share
    if inputs.bad_objects:
        return "BadObject", f"cannot be understood, the last good one stays in force: {_some(inputs.bad_objects)}"
    if policy.error:
        return "ApplyFailed", policy.error
    if policy.outcome is not None and policy.outcome.problems:
        return "Problem", _some(policy.outcome.problems)
    if policy.outcome is None:
        return "Starting", "nothing was applied yet"
    if not share.present:
        return "NoNodeState", "the operator has no NodeState for this node: the kernel stays as it is, new pods wait"
    if policy.outcome.missing:
        return "Missing", f"referred to but not there, denied after 10 s: {_some(sorted(policy.outcome.missing))}"
    return None


def _routes(bgp: BgpOutcome) -> Condition:
    problem = ("ApplyFailed", "; ".join(bgp.errors)) if bgp.errors else None
    return _state("Routes", problem, ("InForce", f"{len(bgp.routes)} learned routes are in the kernel"))


def _bgp(inputs: Inputs) -> Condition:
    settings = inputs.share.settings
    if settings is not None and not (settings.ipv4 or settings.ipv6):
        return _state("BGP", ("NoAddress", "this node's address is not known, so it has no sessions"), ("", ""))
    down = [f"{peer.name} ({peer.address}): {peer.state}" for peer in inputs.bgp.peers if peer.state != "Established"]
    problem = ("NotEstablished", f"no session with {_some(down)}") if down else None
    return _state("BGP", problem, ("Established", f"all {len(inputs.bgp.peers)} sessions are established"))


def _ipam(inputs: Inputs) -> Condition:
    problem = ("NoAddresses", inputs.ipam_problem) if inputs.ipam_problem else None
    return _state("IPAM", problem, ("Available", f"{len(inputs.share.blocks)} blocks"))


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _dated(conditions: Iterable[Condition], before: Mapping[str, Condition], now: str) -> tuple[Condition, ...]:
    def dated(condition: Condition) -> Condition:
        old = before.get(condition.type)
        since = old.last_transition_time if old and old.status == condition.status else now
        return Condition(
            type=condition.type,
            status=condition.status,
            reason=condition.reason,
            message=condition.message,
            last_transition_time=since,
        )

    return tuple(dated(condition) for condition in conditions)
