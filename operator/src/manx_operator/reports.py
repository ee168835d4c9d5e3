"""What agents report, added up.

Owns: the summary that the Installation's status and people are told. Must not: write it anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manx_core.api.v1alpha1 import NodeReport

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Summary:
    """`reasons`: why each node that is not ready is not, by name."""

    nodes: int = 0
    ready: int = 0
    sessions: int = 0
    sessions_established: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.ready} of {self.nodes} nodes ready"
        return text + "".join(f"; {name}: {why}" for name, why in sorted(self.reasons.items())[:MAX_NAMED])


MAX_NAMED = 5


def summarise(nodes: Iterable[str], reports: Mapping[Key, NodeReport]) -> Summary:
    """`nodes`: the names of those that there are; `reports`: the informer's cache."""
    names = sorted(nodes)
    reasons = {name: why for name in names if (why := not_ready(reports.get(("", name))))}
    peers = [peer for name in names if (found := reports.get(("", name))) for peer in found.status.peers]
    return Summary(
        nodes=len(names),
        ready=len(names) - len(reasons),
        sessions=len(peers),
        sessions_established=sum(peer.state == "Established" for peer in peers),
        reasons=reasons,
    )


def not_ready(report: NodeReport | None) -> str:
    """Why a node is not ready, "" if it is."""
    if report is None:
        return "its agent has not reported yet"
    conditions = {condition.type: condition for condition in report.status.conditions}
    ready = conditions.get("Ready")
    if ready is not None and ready.status == "True":
        return ""
    bad = [c for c in conditions.values() if c.status != "True" and c.type != "Ready"] or [c for c in (ready,) if c]
    found = [f"{c.type}: {c.message or c.reason}" for c in bad]
    return ", ".join(found) or report.status.last_error or "its agent does not say that it is ready"
