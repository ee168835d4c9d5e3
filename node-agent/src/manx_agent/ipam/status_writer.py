"""Tells the API server which addresses are in use.

Owns: when a block's status is written, and trying again. Must not: be waited for by CNI; addresses are true without it.

Why this way: a burst of pods becomes one write for each block (changes are collected for `delay` seconds, and while a
write is under way). Each write names the version that it replaces, so that it can never land in a block of the
same name that now belongs to another node.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol, TypeVar

import msgspec

from manx_agent.ipam.allocator import Ipam
from manx_core.api.v1alpha1 import IPAMBlock, IPAMBlockStatus
from manx_kube.backoff import Backoff
from manx_kube.errors import Conflict, KubeError, NotFound
from manx_kube.resources import IPAM_BLOCKS, Resource

log = logging.getLogger(__name__)
T = TypeVar("T")


class StatusClient(Protocol):
    """What this needs of `KubeClient`."""

    async def get(self, resource: Resource, type_: type[T], name: str) -> T: ...

    async def patch(
        self, resource: Resource, type_: type[T], name: str, patch: Any, *, subresource: str | None = None
    ) -> T: ...


class StatusWriter:
    """One task: `run`. `poke` is what `Ipam`'s on_change should call."""

    def __init__(self, client: StatusClient, ipam: Ipam, *, delay: float = 0.03) -> None:
        self._client = client
        self._ipam = ipam
        self._delay = delay
        self._work = asyncio.Event()
        self._written: dict[str, IPAMBlock] = {}
        self.last_error = ""

    def poke(self) -> None:
        self._work.set()

    async def run(self) -> None:
        """For ever, until cancelled."""
        backoff = Backoff(first=0.2, cap=10.0)
        while True:
            await self._work.wait()
            await asyncio.sleep(self._delay)
            self._work.clear()
            if await self._write_all():
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())
                self._work.set()

    async def _write_all(self) -> bool:
        dirty = self._ipam.dirty_blocks()
        self._written = {name: written for name, written in self._written.items() if name in dirty}
        outcomes = await asyncio.gather(*(self._write(name, block) for name, block in dirty.items()))
        return all(outcomes)

    async def _write(self, name: str, block: IPAMBlock) -> bool:
        status = self._ipam.status(name)
        written = self._written.get(name)
        if written is not None and _is_later(written, block):
            if written.status == status:
                return True  # only the echo of the last write has not arrived
            block = written
        try:
            self._written[name] = await self._patch(name, block, status)
        except NotFound:
            return True  # gone: the informer will say so
        except KubeError as error:
            self.last_error = f"IPAMBlock {name}: status not written: {error.message}"
            log.warning("%s; trying again", self.last_error)
            return False
        self.last_error = ""
        return True

    async def _patch(self, name: str, block: IPAMBlock, status: IPAMBlockStatus) -> IPAMBlock:
        try:
            return await self._patch_version(name, block, status)
        except Conflict:
            fresh = await self._client.get(IPAM_BLOCKS, IPAMBlock, name)
            if fresh.metadata.uid != block.metadata.uid:
                raise NotFound(f"{name} is another block of that name now") from None
            return await self._patch_version(name, fresh, status)

    async def _patch_version(self, name: str, block: IPAMBlock, status: IPAMBlockStatus) -> IPAMBlock:
        metadata = {"resourceVersion": block.metadata.resource_version}
        patch = {"metadata": metadata, "status": explicit(status)}
        return await self._client.patch(IPAM_BLOCKS, IPAMBlock, name, patch, subresource="status")


def _is_later(one: IPAMBlock, other: IPAMBlock) -> bool:
    """Whether `one` is the same object at a later version (KEP-5504: versions of one resource compare as numbers)."""
    versions = one.metadata.resource_version, other.metadata.resource_version
    same = one.metadata.uid == other.metadata.uid
    return same and all(map(str.isdecimal, versions)) and int(versions[0]) > int(versions[1])


def explicit(status: IPAMBlockStatus) -> dict[str, Any]:
    """Every field spelt out: in a merge patch an absent list would leave the old one in place (RFC 7386)."""
    return {
        "allocations": msgspec.to_builtins(status.allocations),
        "freed": msgspec.to_builtins(status.freed),
        "sequence": status.sequence,
        "released": status.released,
    }
