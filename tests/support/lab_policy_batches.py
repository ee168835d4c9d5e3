"""Owns trying many rows of the table at once: each row's policy applies to a pod of its own, so that one round of
probes tries nine.

It must not mix directions: a pod's egress is then open wherever another's ingress is tried. Which pod a row gets is
settled by the table's order, so that a batch is the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab_policy_rows import SET_OBJECTS, Direction, Row

SUBJECTS = tuple(f"{ns}/{name}" for ns in "xyz" for name in "abc")
_ENDS = {"ingress": {"peer": "source", "own": "destination"}, "egress": {"peer": "destination", "own": "source"}}


@dataclass
class Batch:
    """Up to nine rows: the policies that they come to, and what is known of probes by their names."""

    direction: Direction
    number: int
    rows: dict[str, Row] = field(default_factory=dict)
    """Subject → row."""

    def __str__(self) -> str:
        return f"{self.direction}-{self.number}"

    def place(self, row: Row) -> bool:
        """Whether the row found a pod."""
        taken = {word.partition(":")[0] for word in f"{row.allows} {row.denies}".split()}
        free = [pod for pod in SUBJECTS if pod not in self.rows and pod not in taken]
        found = next((pod for pod in free if row.subject in ("", pod)), None)
        if found:
            self.rows[found] = row
        return found is not None

    def policies(self) -> dict[str, str]:
        """Keys and specs, as `World.apply` takes them; the sets that rules select are among them."""
        return {**SET_OBJECTS, **dict(self._policy(subject, row) for subject, row in self.rows.items())}

    def _policy(self, subject: str, row: Row) -> tuple[str, str]:
        ns, _, name = subject.partition("/")
        rules = row.rules
        for word, end in _ENDS[self.direction].items():
            rules = rules.replace(f"{word}:", f"{end}:")
        kind, chosen = ("np", f"pod == '{name}'") if row.namespaced else ("gnp", _of(ns, name))
        key = f"{kind} {ns}/{row.name}" if row.namespaced else f"{kind} {row.name}"
        types = self.direction.capitalize()
        return key, f'{{selector: "{chosen}", types: [{types}], {self.direction}: {rules}}}'

    def claims(self) -> dict[str, bool]:
        """Probe's name → what the table says of it."""
        return {
            name: allowed
            for subject, row in self.rows.items()
            for text, allowed in ((row.allows, True), (row.denies, False))
            for word in text.split()
            for name in self._names(subject, word)
        }

    def _names(self, subject: str, word: str) -> Iterator[str]:
        peer, _, rest = word.partition(":")
        family = rest[-2:] if rest.endswith(("/4", "/6")) else ""
        rest = rest.removesuffix(family)
        rest = rest if "/" in rest else f"{rest}/TCP"
        name = f"{peer}>{subject}:{rest}" if self.direction == "ingress" else f"{subject}>{peer}:{rest}"
        if family != "/6":
            yield name
        if family != "/4" and "ICMP" not in name:
            yield f"{name}/6"


def _of(ns: str, name: str) -> str:
    return f"projectcalico.org/namespace == 'np-{ns}' && pod == '{name}'"


def batches(rows: Iterable[Row]) -> list[Batch]:
    """Every row in each of its directions, in as few batches as come of taking the first that has room."""
    found: list[Batch] = []
    for row in sorted(rows, key=lambda row: not row.subject):
        for direction in row.directions:
            own = [batch for batch in found if batch.direction == direction]
            if not any(batch.place(row) for batch in own):
                found.append(Batch(direction, len(own)))
                assert found[-1].place(row), f"{row.name}: no pod can be its subject"
    return found
