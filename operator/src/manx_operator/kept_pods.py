"""Pods, as the operator keeps them by the ten thousand.

Owns: what of a pod is kept, and that equal parts of pods are kept once. Must not: judge pods.

Most of a big cluster's pods are copies: of ten thousand there are a few hundred different labels, containers and names
of nodes. What nobody here reads (annotations, owners, addresses as kubelets tell them) is longer than what is read.
It is thrown away while a list is being decoded, so that there is never all of it at once.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import TypeVar

from msgspec.structs import force_setattr

from manx_core.api.core_v1 import ObjectMeta, Pod, PodSpec, PodStatus

T = TypeVar("T", bound=Hashable)
_REMEMBERED = 8192
"""Different parts, the least lately met of which are forgotten: other copies of them are then kept beside."""


class KeptPod(Pod, frozen=True, gc=False):
    """A pod as decoded, without what is not read. Its parts are others' too, and never altered."""

    def __post_init__(self) -> None:
        force_setattr(self, "metadata", _metadata(self.metadata))
        force_setattr(self, "spec", _spec(self.spec))
        force_setattr(self, "status", _one(PodStatus(phase=self.status.phase)))


def _metadata(meta: ObjectMeta) -> ObjectMeta:
    return ObjectMeta(
        name=meta.name,
        namespace=_one(meta.namespace),
        uid=meta.uid,
        resource_version=meta.resource_version,
        labels=_labels(tuple(meta.labels.items())),
        deletion_timestamp=meta.deletion_timestamp,
    )


def _spec(spec: PodSpec) -> PodSpec:
    """Pods alike on one node have the same."""
    return _one(
        PodSpec(
            node_name=_one(spec.node_name),
            host_network=spec.host_network,
            service_account_name=_one(spec.service_account_name),
            containers=_one(spec.containers),
            init_containers=_one(spec.init_containers),
        )
    )


def _one(part: T) -> T:
    """The same value for all that are equal to it."""
    found: T = _first(part)  # type: ignore[assignment]
    return found


@lru_cache(maxsize=_REMEMBERED)
def _first(part: Hashable) -> Hashable:
    return part


@lru_cache(maxsize=_REMEMBERED)
def _labels(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return dict(pairs)
