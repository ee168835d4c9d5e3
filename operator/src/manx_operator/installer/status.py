"""The Installation's conditions: what is not ready, and why, component by component.

Owns: turning what was observed into words. Must not: do I/O, or decide anything.

Ready, Progressing and Degraded are Calico's; the others say of one component each what stands behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manx_core.api.fields import Problem
from manx_core.api.v1alpha1 import NodeReportStatus
from manx_operator.conditions import Said, some
from manx_operator.installer.foreign import OPERATOR_OF_CALICO

Raw = Mapping[str, Any]
COMPONENTS = {"Policy": "PolicyReady", "Routes": "RoutesReady", "BGP": "BGPReady", "IPAM": "IPAMReady"}
"""A NodeReport's condition → the Installation's, over all nodes."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the conditions are made of."""

    problems: tuple[Problem, ...] = ()
    """Why the Installation as it is written is not carried out."""
    ignored: tuple[str, ...] = ()
    """Fields that are set and have no effect."""
    calico: tuple[str, ...] = ()
    """Signs of a real Calico; with any, nothing is done."""
    error: str = ""
    """What the API server refused, of what had to be done."""
    rolls_out: bool = True
    """False: agents run otherwise than by the DaemonSet."""
    daemonset: Raw | None = None
    agent_pods: tuple[Raw, ...] = ()
    """Pods of the DaemonSet; only needed while not all are ready."""
    reports: Mapping[str, NodeReportStatus] = field(default_factory=dict)
    """By node."""
    pool_problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    """IPPool's name → what stands against it."""
    plan_problems: tuple[Problem, ...] = ()
    """What could not be done about pools."""


def conditions(seen: Observed) -> list[Said]:
    """All conditions, the overall ones first. Where Calico's own operator is, the Installation and the overall ones are
    that operator's: only Accepted is said then."""
    accepted = _accepted(seen)
    if seen.calico:
        theirs = any(OPERATOR_OF_CALICO in sign for sign in seen.calico)
        return [accepted] if theirs else [*_overall((accepted,), rolling=None), accepted]
    agents = _agents(seen)
    parts = [agents, _pools(seen), *(_component(seen, kind, said) for kind, said in COMPONENTS.items())]
    rolling = agents if agents.reason == "RollingOut" else None
    return [*_overall((accepted, *parts), rolling), accepted, *parts]


def _overall(parts: Sequence[Said], rolling: Said | None) -> Iterator[Said]:
    """`rolling`: the condition that tells of a roll-out under way."""
    wrong = [said for said in parts if said.status != "True"]
    if wrong:
        told = [said for said in wrong if said.status == "False"] or wrong
        text = some((f"{said.type}: {said.message}" for said in told), shown=len(told))
        yield Said("Ready", "False", wrong[0].reason, text)
    else:
        yield Said("Ready", "True", "AllReady", "everything is in force on every node")
    yield _progressing(rolling)
    bad = [said for said in wrong if said.status == "False" and said.reason != "RollingOut"]
    text = some((f"{said.type}: {said.message}" for said in bad), shown=len(bad))
    yield Said("Degraded", "True" if bad else "False", bad[0].reason if bad else "AsExpected", text)


def _progressing(rolling: Said | None) -> Said:
    if rolling is None:
        return Said("Progressing", "False", "NothingToRollOut")
    return Said("Progressing", "True", rolling.reason, rolling.message)


def _accepted(seen: Observed) -> Said:
    if seen.calico:
        found = some(seen.calico, shown=len(seen.calico))
        text = f"a real Calico is present ({found}); Manx changes nothing as long as it is"
        return Said("Accepted", "False", "CalicoPresent", text)
    if seen.problems:
        text = some(map(str, seen.problems), shown=10) + ". What was installed before stays as it was"
        return Said("Accepted", "False", "Invalid", text)
    if seen.error:
        return Said("Accepted", "False", "NotCarriedOut", seen.error)
    if seen.ignored:
        return Said("Accepted", "True", "FieldsWithoutEffect", "without effect: " + some(seen.ignored, shown=20))
    return Said("Accepted", "True", "Accepted")


def _agents(seen: Observed) -> Said:
    kind = "AgentsReady"
    if not seen.rolls_out:
        return Said(kind, "True", "External", "agents do not run by the DaemonSet")
    if seen.daemonset is None:
        return Said(kind, "False", "NotInstalled", "the DaemonSet manx-node is not there")
    status = seen.daemonset.get("status") or {}
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    updated = status.get("updatedNumberScheduled", 0)
    current = status.get("observedGeneration", 0) >= seen.daemonset["metadata"].get("generation", 0)
    counts = f"{ready} of {wanted} agents ready, {updated} of this version"
    if not current:
        return Said(kind, "False", "RollingOut", "the DaemonSet manx-node has just been changed")
    if ready >= wanted and updated >= wanted:
        return Said(kind, "True", "AllReady", counts) if wanted else Said(kind, "False", "NoNodes", "there is no node")
    why = list(_why_not_ready(seen.agent_pods))
    failing = any("BackOff" in reason or "Err" in reason for reason in why)
    return Said(kind, "False", "AgentsFailing" if failing else "RollingOut", some([counts, *why], shown=4))


def _why_not_ready(pods: Iterable[Raw]) -> Iterator[str]:
    for pod in pods:
        status = pod.get("status") or {}
        conditions_ = {c["type"]: c for c in status.get("conditions") or ()}
        if conditions_.get("Ready", {}).get("status") == "True":
            continue
        node = (pod.get("spec") or {}).get("nodeName") or "no node yet"
        found = list(_container_reasons(status)) or [_scheduling(conditions_) or str(status.get("phase", "unknown"))]
        yield f"{node}: {', '.join(found)}"


def _container_reasons(status: Raw) -> Iterator[str]:
    for container in status.get("containerStatuses") or ():
        state, name = container.get("state") or {}, container["name"]
        waiting, terminated = state.get("waiting"), state.get("terminated")
        last = (container.get("lastState") or {}).get("terminated") or {}
        ended = f" (last exit {last['exitCode']}, {last.get('reason', '')})" if "exitCode" in last else ""
        if waiting:
            yield f"{name} {waiting.get('reason', 'waiting')}{ended}"
        elif terminated:
            yield f"{name} ended with {terminated.get('exitCode')}"
        elif not container.get("ready"):
            yield f"{name} runs and is not ready yet"


def _scheduling(by_type: Mapping[str, Raw]) -> str:
    scheduled = by_type.get("PodScheduled", {})
    return str(scheduled.get("message", "")) if scheduled.get("status") == "False" else ""


def _pools(seen: Observed) -> Said:
    bad = [f"IPPool {name}: {some(map(str, found))}" for name, found in sorted(seen.pool_problems.items()) if found]
    bad += map(str, seen.plan_problems)
    if bad:
        return Said("IPPoolsReady", "False", "PoolProblems", some(bad, shown=5))
    if not seen.pool_problems:
        return Said("IPPoolsReady", "False", "NoPools", "there is no IPPool: pods get no addresses")
    return Said("IPPoolsReady", "True", "AllInForce", f"in force: {some(sorted(seen.pool_problems), shown=5)}")


def _component(seen: Observed, kind: str, said: str) -> Said:
    found = {node: _condition(report, kind) for node, report in seen.reports.items()}
    bad = [f"{node}: {message}" for node, (status, message) in sorted(found.items()) if status != "True"]
    if bad:
        return Said(said, "False", "NotOnAllNodes", some(bad))
    wanted = ((seen.daemonset or {}).get("status") or {}).get("desiredNumberScheduled", 0)
    if not found or len(found) < wanted:
        return Said(said, "Unknown", "NotReported", f"{len(found)} of {wanted} nodes have reported")
    return Said(said, "True", "OnAllNodes", f"on {len(found)} nodes")


def _condition(report: NodeReportStatus, kind: str) -> tuple[str, str]:
    for condition in report.conditions:
        if condition.type == kind:
            return condition.status, condition.message or condition.reason
    return "Unknown", "not reported yet"
