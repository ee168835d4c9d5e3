"""Many addresses asked for at once are written together. Whenever a kill -9 comes, what was answered is on the disk,
and nothing of it is given again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipam_blocks import allocation, block
from manx_agent.ipam import Ipam

AT_ONCE, WAVES = 20, 3
NAME = "10-0-0-0-24"

DYING = f"""
import asyncio, os, signal, sys
from pathlib import Path
sys.path.append({str(Path(__file__).parents[2] / "support")!r})
from ipam_blocks import allocation, block
from manx_agent.ipam import Ipam

path, number, late = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "late"
sync, calls = os.fdatasync, 0

def dying(descriptor):
    global calls
    calls += 1
    if calls == number and not late:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)

async def ask(ipam, container):
    (held,) = await ipam.allocate(allocation("", container))
    os.write(1, f"{{container}} {{held.address}}\\n".encode())

async def run():
    ipam = Ipam(path)
    await ipam.open()
    ipam.set_blocks({{{NAME!r}: block("10.0.0.0/24")}})
    for wave in range({WAVES}):
        await asyncio.gather(*(ask(ipam, f"c{{wave}}-{{n}}") for n in range({AT_ONCE})))

os.fdatasync = dying
asyncio.run(run())
"""


def answered_until(path: Path, number: int, late: str) -> dict[str, str]:
    """Containers and addresses, by a process that dies before or after this write."""
    argv = (sys.executable, "-c", DYING, str(path), str(number), late)
    died = subprocess.run(argv, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    return dict(line.split() for line in died.stdout.splitlines())


@pytest.mark.parametrize("late", ["early", "late"])
@pytest.mark.parametrize("number", [1, 2])
async def test_what_was_answered_survives_a_kill_around_the_write(tmp_path: Path, number: int, late: str) -> None:
    path = tmp_path / "addresses"
    answered = answered_until(path, number, late)
    assert len(answered) == number * AT_ONCE, (
        "the first wave is a new file, and what died with its write was not answered"
    )
    ipam = Ipam(path)
    await ipam.open()
    ipam.set_blocks({NAME: block("10.0.0.0/24")})
    known = {key[0]: held[0].address for key, held in ipam.allocations().items()}
    assert answered.items() <= known.items()
    fresh = await asyncio.gather(*(ipam.allocate(allocation("", f"new{n}")) for n in range(AT_ONCE)))
    given = [*known.values(), *(held[0].address for held in fresh)]
    assert len(set(given)) == len(given)
    await ipam.close()


async def test_many_at_once_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    ipam = Ipam(tmp_path / "addresses")
    await ipam.open()
    ipam.set_blocks({NAME: block("10.0.0.0/24")})
    await ipam.allocate(allocation("", "first"))
    await asyncio.gather(*(ipam.allocate(allocation("", f"c{n}")) for n in range(AT_ONCE)))
    assert len(calls) == 1
    await ipam.close()
