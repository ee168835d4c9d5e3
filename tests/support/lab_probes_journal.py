"""Everything that is written to manx.dev objects, as the API server tells it to whoever watches.

Owns: watching six kinds from now on, and what the events say taken together: what was deleted, whose epoch went back,
whose spec changed. It must not use Manx's own client or informer: they are what is tried.
"""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lab import binaries
from lab.kubectl import Kubectl

KINDS = ("nodestates", "policyclasses", "policyprograms", "addressgroups", "meshnodes", "ipamblocks")
GROUP = "/apis/manx.dev/v1alpha1"
Key = tuple[str, str]
"""(plural, name)."""


@dataclass(frozen=True)
class Change:
    """One watch event, with the object before it (None: there was none)."""

    type: str
    key: Key
    before: dict[str, Any] | None
    after: dict[str, Any]

    @property
    def alters_spec(self) -> bool:
        return self.type != "MODIFIED" or self.before is None or self._said(self.before) != self._said(self.after)

    @property
    def goes_back(self) -> bool:
        """A lower epoch than the object's, which only a deposed leader writes."""
        return self.before is not None and self.after["spec"]["epoch"] < self.before["spec"]["epoch"]

    @staticmethod
    def _said(obj: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in obj["spec"].items() if name != "epoch"}

    def __str__(self) -> str:
        return f"{self.type} {self.key[0]}/{self.key[1]} epoch {self.after['spec'].get('epoch')}"


class Journal:
    """All changes of manx.dev objects (but reports) while the ``with`` block runs. For as long as the API server
    lives: it is not to be used while that is killed."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.broken: list[str] = []
        """Why changes may have been missed, so that the journal says nothing."""
        self.objects: dict[Key, dict[str, Any]] = {}
        self.changes: list[Change] = []

    def __enter__(self) -> Journal:
        for kind in KINDS:
            version = self._listed(kind)
            thread = threading.Thread(target=self._follow, args=(kind, version), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def _listed(self, kind: str) -> str:
        found = json.loads(self._kubectl("get", "--raw", f"{GROUP}/{kind}"))
        self.objects.update({(kind, item["metadata"]["name"]): item for item in found["items"]})
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, kind: str, version: str) -> None:
        """One watch after another, each from where the one before ended: the API server ends those that it finds slow
        to read, which loses nothing."""
        while not self._over.is_set():
            path = f"{GROUP}/{kind}?watch=true&timeoutSeconds=3600&resourceVersion={version}"
            words = [str(binaries.path_of("kubectl")), "get", "--raw", path]
            process = subprocess.Popen(words, env=self._kubectl.env, stdout=subprocess.PIPE, text=True)
            self._processes[kind] = process
            assert process.stdout is not None
            for line in process.stdout:
                version = self._heard(kind, json.loads(line))
            process.wait()

    def _heard(self, kind: str, event: dict[str, Any]) -> str:
        """The resourceVersion to go on from."""
        obj, type_ = event["object"], event["type"]
        if type_ == "ERROR":
            self.broken.append(f"{kind}: {obj.get('message')}")
            self._over.set()
            return ""
        key = (kind, obj["metadata"]["name"])
        with self._lock:
            before = self.objects.pop(key, None)
            if type_ != "DELETED":
                self.objects[key] = obj
            self.changes.append(Change(type_, key, before, obj))
        return str(obj["metadata"]["resourceVersion"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join(timeout=5)

    def caught_up(self) -> bool:
        """Whether all that is at the API server now has been heard."""
        assert not self.broken, f"the journal is not complete: {self.broken}"
        return all(self._has(kind) for kind in KINDS)

    def _has(self, kind: str) -> bool:
        items = json.loads(self._kubectl("get", "--raw", f"{GROUP}/{kind}"))["items"]
        there = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}
        with self._lock:
            heard = {
                name: obj["metadata"]["resourceVersion"] for (own, name), obj in self.objects.items() if own == kind
            }
        return there == heard

    def deleted(self, since: int = 0) -> list[str]:
        """Objects that were deleted, from the change of this number on."""
        return [str(change) for change in self.changes[since:] if change.type == "DELETED"]

    def gone_back(self, since: int = 0) -> list[str]:
        """Changes by a leader older than the object's last."""
        return [str(change) for change in self.changes[since:] if change.goes_back]

    def altered(self, since: int = 0) -> list[str]:
        """Changes of what objects say, apart from who says it."""
        return [str(change) for change in self.changes[since:] if change.alters_spec]

    def names(self, kind: str, start: str = "") -> set[str]:
        """Names of the objects of a kind that exist, as far as heard."""
        with self._lock:
            return {name for own, name in self.objects if own == kind and name.startswith(start)}
