"""Whatever is killed when: no address is ever given twice, and none comes back before the operator says so.

The machine works on the real journal file. A crash is the file with any prefix of what the operation under way had
written (what was answered before is on the disk: else it was not answered), or the file before or after a rewrite's
rename.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipam_blocks import allocation, block
from manx_agent.ipam import Ipam, JournalError
from manx_agent.ipam.allocator import reservation
from manx_agent.ipam.journal import SLACK
from manx_agent.ipam.records import Header, encode
from manx_agent.ipam.table import Held, Key, reservation_key
from manx_core.api.v1alpha1 import IPAMBlockStatus

CIDR = "10.0.0.0/29"
NAME = "10-0-0-0-29"
CIDRS = {NAME: CIDR, "fd00---125": "fd00::/125"}
containers = st.sampled_from([f"c{number}" for number in range(12)])
pods = st.sampled_from([f"uid-c{number}" for number in range(12)])


class Crashes(RuleBasedStateMachine):
    """`used` and `resting` are what a correct agent may never forget: addresses answered to a container, and addresses
    freed but not forgotten. `reserved`: what was on the disk for a pod (by UID) without a container; the pod of
    container c is uid-c."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "addresses"
        self.runner = asyncio.Runner()
        self.used: dict[str, set[str]] = {}
        self.reserved: dict[str, set[str]] = {}
        self.resting: set[str] = set()
        self.published = {name: IPAMBlockStatus() for name in CIDRS}
        self.forgotten = dict.fromkeys(CIDRS, 0)
        self.start()

    def start(self) -> None:
        self.ipam = Ipam(self.path)
        self.runner.run(self._start())

    async def _start(self) -> None:
        await self.ipam.open()
        self.tell_blocks()

    def tell_blocks(self) -> None:
        self.ipam.set_blocks(
            {
                name: block(cidr, forgotten=self.forgotten[name], status=self.published[name])
                for name, cidr in CIDRS.items()
            }
        )

    async def allocate(self, container: str) -> set[str]:
        task = asyncio.ensure_future(self.ipam.allocate(allocation("", container)))
        for _ in range(3):
            await asyncio.sleep(0)
        if not self.ipam.find((container, "eth0")):
            task.cancel()
            return set()
        return {given.address for given in await task}

    def judge(self, owner: str, addresses: set[str]) -> None:
        """`owner`: a container, or a pod's UID."""
        everyone = {**self.used, **self.reserved}
        assert everyone.get(owner, addresses) == addresses
        others = set().union(*(held for other, held in everyone.items() if other != owner))
        assert addresses.isdisjoint(others), "given twice"
        assert addresses.isdisjoint(self.resting), "given before it was forgotten"

    @rule(container=containers)
    def add(self, container: str) -> None:
        pod = f"uid-{container}"
        fresh = container not in self.used
        addresses = self.runner.run(self.allocate(container))
        if not addresses:
            return
        if fresh:
            assert self.reserved.pop(pod, set()) <= addresses, "the pod's own were there"
        self.judge(container, addresses)
        assert len(addresses) == 2 or not fresh, "both or none"
        self.used[container] = addresses

    @rule(container=containers)
    def reserve(self, container: str) -> None:
        if container in self.used:
            return
        pod = f"uid-{container}"
        self.runner.run(self.ipam.reserve([reservation("default", container, pod)]))
        held = {one.address for one in self.ipam.reservations().get(pod, ())}
        assert self.reserved.get(pod, set()) <= held
        if held:
            self.reserved.pop(pod, None)
            self.judge(pod, held)
            self.reserved[pod] = held

    @rule(container=containers)
    def fail(self, container: str) -> None:
        """An ADD that was undone: its addresses are its pod's, or freed where that has some."""
        addresses = self.used.pop(container, set())
        self.runner.run(self.ipam.give_up((container, "eth0")))
        if f"uid-{container}" in self.reserved:
            self.resting |= addresses
        elif addresses:
            self.reserved[f"uid-{container}"] = addresses

    @rule(pod=pods)
    def unlist(self, pod: str) -> None:
        self.runner.run(self.ipam.free(reservation_key(pod)))
        self.resting |= self.reserved.pop(pod, set())

    @rule(container=containers)
    def delete(self, container: str) -> None:
        freed = self.runner.run(self.ipam.free((container, "eth0")))
        addresses = self.used.pop(container, set())
        assert {found.address for found in freed} == addresses
        self.resting |= addresses

    @rule()
    def publish(self) -> None:
        self.published = {name: self.ipam.status(name) for name in CIDRS}

    @rule(name=st.sampled_from(sorted(CIDRS)))
    def operator_forgets(self, name: str) -> None:
        self.forgotten[name] = max(self.forgotten[name], self.published[name].sequence)
        self.tell_blocks()
        self.resting -= {freed.address for freed in self.published[name].freed}

    @rule(container=containers, adding=st.booleans(), share=st.floats(0, 1))
    def crash_during(self, container: str, adding: bool, share: float) -> None:
        before = self.path.read_bytes() if self.path.exists() else b""
        inode = self.path.stat().st_ino if self.path.exists() else 0
        addresses = self.used.pop(container, set())
        reserved = self.reserved.pop(f"uid-{container}", set()) if not addresses and adding else set()
        if adding:
            self.runner.run(self.allocate(container))
        else:
            self.runner.run(self.ipam.free((container, "eth0")))
        self.stop()
        after = self.path.read_bytes() if self.path.exists() else b""
        if after and self.path.stat().st_ino == inode:
            length = len(before) + round(share * (len(after) - len(before)))
            self.path.write_bytes(after[:length])
        elif share < 0.5:
            self.path.write_bytes(before)  # the rename did not happen
            (self.directory / "addresses.new").write_bytes(after[: round(share * len(after))])
        self.start()
        self.settle(container, addresses, reserved, adding)

    def settle(self, container: str, addresses: set[str], reserved: set[str], adding: bool) -> None:
        """What was under way was not answered: it may have happened, wholly or in part, but nothing else."""
        found = {one.address for one in self.ipam.find((container, "eth0"))}
        left = {one.address for one in self.ipam.reservations().get(f"uid-{container}", ())}
        if adding and addresses:
            assert found == addresses, "an answered address was forgotten"
        if reserved:
            assert reserved <= found | left, "a reserved address was forgotten"
            if left:
                self.judge(f"uid-{container}", left)
                self.reserved[f"uid-{container}"] = left
        if found:
            self.judge(container, found)
            self.used[container] = found
        self.resting |= addresses - found

    @precondition(lambda self: any(one.sequence or one.allocations for one in self.published.values()))
    @rule()
    def lose_the_journal(self) -> None:
        """The API and the kernel remember: what was published, and which addresses have an interface."""
        self.stop()
        self.path.unlink()
        self.ipam = Ipam(self.path)
        self.ipam.hold(address for held in self.used.values() for address in held)
        self.runner.run(self._start())
        told = {one.address for status in self.published.values() for one in status.allocations}
        told |= {
            one.address
            for name, status in self.published.items()
            for one in status.freed
            if one.sequence > self.forgotten[name]
        }
        self.resting &= told
        self.used = self._found(self.ipam.allocations())
        self.reserved = {uid: {one.address for one in held} for uid, held in self.ipam.reservations().items()}
        self.resting -= set().union(*self.used.values(), *self.reserved.values())
        self.ipam.hold(())

    @staticmethod
    def _found(held: dict[Key, Held]) -> dict[str, set[str]]:
        return {container: {one.address for one in found} for (container, _), found in held.items()}

    @rule()
    def rewrite(self) -> None:
        self.ipam._journal._rewrite = True

    @invariant()
    def what_was_answered_is_remembered(self) -> None:
        assert self._found(self.ipam.allocations()) == self.used
        assert {uid: {one.address for one in held} for uid, held in self.ipam.reservations().items()} == self.reserved

    def stop(self) -> None:
        self.runner.run(self.ipam.close())

    def teardown(self) -> None:
        self.stop()
        self.runner.close()
        shutil.rmtree(self.directory)


Crashes.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCrashes = Crashes.TestCase


async def test_a_failed_write_is_an_error_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks({NAME: block(CIDR)})
    first = await ipam.allocate(allocation("", "a"))

    def torn(content: bytes) -> None:
        os.write(ipam._journal._file, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ipam._journal, "_append", torn)
    with pytest.raises(JournalError, match="No space left"):
        await ipam.allocate(allocation("", "b"))
    monkeypatch.undo()
    second = await ipam.allocate(allocation("", "c"))
    await ipam.close()
    again = Ipam(tmp_path / "addresses")
    await again.open()
    assert {key[0]: found for key, found in again.allocations().items()} == {"a": first, "c": second}
    again.set_blocks({NAME: block(CIDR)})
    assert [freed.sequence for freed in again.status(NAME).freed] == [1]
    assert again.damage == ""
    await again.close()


async def test_a_second_agent_waits_for_the_first(tmp_path: Path) -> None:
    first, second = Ipam(tmp_path / "addresses"), Ipam(tmp_path / "addresses")
    await first.open()
    first.set_blocks({NAME: block(CIDR)})
    opening = asyncio.create_task(second.open())
    await asyncio.sleep(0.05)
    assert not opening.done()
    await first.allocate(allocation("", "a"))
    await first.close()
    await opening
    assert second.find(("a", "eth0"))
    await second.close()


async def test_a_hundred_at_once_all_differ(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks({"10-0-0-0-25": block("10.0.0.0/25")})
    given = await asyncio.gather(*(ipam.allocate(allocation("", str(n))) for n in range(100)))
    assert len({held[0].address for held in given}) == 100
    await ipam.close()
    assert len((tmp_path / "addresses").read_bytes().splitlines()) == 102


async def test_waiting_ends_when_a_block_arrives(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    waiting = asyncio.create_task(ipam.allocate(allocation("", "a")))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert ipam.shortage() == "this node has no address block"
    ipam.set_blocks({NAME: block(CIDR)})
    assert [given.address for given in await waiting] == ["10.0.0.0"]
    await ipam.close()


async def test_a_long_history_is_rewritten(tmp_path: Path) -> None:
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks({NAME: block(CIDR)})
    for number in range(SLACK):
        await ipam.allocate(allocation("", "a"))
        await ipam.free(("a", "eth0"))
        ipam.set_blocks({NAME: block(CIDR, forgotten=number + 1)})
    assert len((tmp_path / "addresses").read_bytes().splitlines()) <= SLACK + 3
    await ipam.close()


async def test_a_journal_of_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "addresses").write_bytes(encode([Header(format=2)]))
    ipam = Ipam(tmp_path / "addresses")
    with pytest.raises(JournalError, match="format 2 was written by a later Manx"):
        await ipam.open()
    await ipam.close()
