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
from manx_agent.ipam.journal import SLACK
from manx_agent.ipam.records import Header, encode
from manx_core.api.v1alpha1 import IPAMBlockStatus

CIDR = "10.0.0.0/29"
NAME = "10-0-0-0-29"
containers = st.sampled_from([f"c{number}" for number in range(12)])


class Crashes(RuleBasedStateMachine):
    """`used` and `resting` are what a correct agent may never forget: addresses answered to a container, and addresses
    freed but not forgotten, by sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "addresses"
        self.runner = asyncio.Runner()
        self.used: dict[str, str] = {}
        self.resting: set[str] = set()
        self.maybe: str = ""
        self.published = IPAMBlockStatus()
        self.forgotten = 0
        self.start()

    def start(self) -> None:
        self.ipam = Ipam(self.path)
        self.runner.run(self._start())

    async def _start(self) -> None:
        await self.ipam.open()
        self.tell_blocks()

    def tell_blocks(self) -> None:
        self.ipam.set_blocks({NAME: block(CIDR, forgotten=self.forgotten, status=self.published)})

    async def allocate(self, container: str) -> str | None:
        task = asyncio.ensure_future(self.ipam.allocate(allocation("", container)))
        for _ in range(3):
            await asyncio.sleep(0)
        if not self.ipam.find((container, "eth0")):
            task.cancel()
            return None
        (given,) = await task
        return given.address

    def judge(self, container: str, address: str) -> None:
        assert self.used.get(container, address) == address
        assert address not in [a for c, a in self.used.items() if c != container], "given twice"
        assert address not in self.resting, "given before it was forgotten"

    @rule(container=containers)
    def add(self, container: str) -> None:
        address = self.runner.run(self.allocate(container))
        if address is not None:
            self.judge(container, address)
            self.used[container] = address

    @rule(container=containers)
    def delete(self, container: str) -> None:
        freed = self.runner.run(self.ipam.free((container, "eth0")))
        address = self.used.pop(container, None)
        if address is not None:
            assert [found.address for found in freed] == [address]
            self.resting.add(address)

    @rule()
    def publish(self) -> None:
        self.published = self.ipam.status(NAME)

    @rule()
    def operator_forgets(self) -> None:
        self.forgotten = max(self.forgotten, self.published.sequence)
        self.tell_blocks()
        self.resting -= {freed.address for freed in self.published.freed}

    @rule(container=containers, adding=st.booleans(), share=st.floats(0, 1))
    def crash_during(self, container: str, adding: bool, share: float) -> None:
        before = self.path.read_bytes() if self.path.exists() else b""
        inode = self.path.stat().st_ino if self.path.exists() else 0
        address = self.used.pop(container, None)
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
        self.settle(container, address, adding)

    def settle(self, container: str, address: str | None, adding: bool) -> None:
        """What was under way was not answered: it may have happened or not, but nothing else."""
        found = self.ipam.find((container, "eth0"))
        if adding and address is not None:
            assert found, "an answered address was forgotten"
        if found:
            self.judge(container, found[0].address)
            self.used[container] = found[0].address
        elif address is not None:
            self.resting.add(address)

    @precondition(lambda self: self.published.sequence or self.published.allocations)
    @rule()
    def lose_the_journal(self) -> None:
        """The API and the kernel remember: what was published, and which addresses have an interface."""
        self.stop()
        self.path.unlink()
        self.ipam = Ipam(self.path)
        self.ipam.hold(self.used.values())
        self.runner.run(self._start())
        told = {found.address for found in self.published.allocations} | {f.address for f in self.published.freed}
        self.resting &= told
        self.used = {container: found[0].address for (container, _), found in self.ipam.allocations().items()}
        self.resting -= set(self.used.values())
        self.ipam.hold(())

    @rule()
    def rewrite(self) -> None:
        self.ipam._journal._rewrite = True

    @invariant()
    def what_was_answered_is_remembered(self) -> None:
        for container, address in self.used.items():
            found = self.ipam.find((container, "eth0"))
            assert [each.address for each in found] == [address]

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
