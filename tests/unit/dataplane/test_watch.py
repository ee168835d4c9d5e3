"""What a check for drift reads, and what python-iptables has a say in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from manx_agent.dataplane import watch as watching
from manx_agent.dataplane.watch import DECODE_EVERY, LARGE, LARGE_EVERY, OWN_EVERY, Watch
from manx_agent.drivers.process import ProcessFailed
from manx_agent.model import Backend
from manx_agent.render.decoded import decode
from manx_agent.render.image import Image, SetImage


@dataclass
class _Kernel:
    """What `Watch` uses of a kernel, counting."""

    backend: Backend
    image: Image
    read: list[str] = field(default_factory=list)
    digests: bool = True

    async def read_rules(self) -> Image:
        self.read.append("rules")
        return Image(self.image.chains, self.image.jumps)

    async def read_sets(self) -> Any:
        self.read.append("sets")
        return dict(self.image.sets)

    async def digests_of_sets(self) -> dict[str, bytes] | None:
        if not self.digests:
            return None
        return {name: repr(image).encode() for name, image in self.image.sets.items()}


_CHAINS = {"manx-to": ("-o mnx+ -g manx-in", "-j ACCEPT"), "manx-in": ("-j DROP",)}
_IMAGE = Image({"filter": _CHAINS}, {}, {"manx-g-x": SetImage("hash:net", frozenset({"10.0.0.1"}))})


def _watch(kernel: _Kernel) -> Watch:
    return Watch(kernel)  # type: ignore[arg-type]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What python-iptables says, and what it was asked."""
    said: dict[str, Any] = {
        "asked": [],
        "chains": {name: [decode(r) for r in rules] for name, rules in _CHAINS.items()},
    }

    async def run(argv: tuple[str, ...], stdin: str) -> str:
        said["asked"].append(json.loads(stdin))
        if "error" in said:
            raise said["error"]
        return json.dumps({"filter": said["chains"]})

    monkeypatch.setattr(watching, "run", run)
    return said


async def test_nft_rules_are_read_when_the_generation_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, now = _Kernel("nft", _IMAGE), 1
    monkeypatch.setattr(watching, "generation", lambda: now)
    watch = _watch(kernel)
    for _ in range(3):
        assert await watch.look(_IMAGE) == (_IMAGE, ())
    assert kernel.read == ["sets", "rules"]
    now = 2
    await watch.look(_IMAGE)
    watch.written()
    await watch.look(_IMAGE)
    assert kernel.read[2:] == ["rules", "rules"]


@pytest.fixture
def no_new_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "generation", lambda: 1)


@pytest.mark.usefixtures("no_new_rules")
async def test_sets_are_read_where_they_have_another_digest_or_others_are_expected() -> None:
    kernel = _Kernel("nft", _IMAGE)
    watch = _watch(kernel)
    await watch.look(_IMAGE)
    kernel.image = replace(_IMAGE, sets={"manx-g-x": SetImage("hash:net", frozenset({"10.0.0.2"}))})
    found, told = await watch.look(_IMAGE)
    assert found.sets == kernel.image.sets
    assert told
    assert (await watch.look(_IMAGE))[1] == told, "what was found altered is so until it is repaired"
    kernel.read.clear()
    assert await watch.look(kernel.image) == (kernel.image, ())
    assert kernel.read == []


def _sets(**members: str) -> dict[str, SetImage]:
    return {name: SetImage("hash:net", frozenset(those.split())) for name, those in members.items()}


@pytest.mark.usefixtures("no_new_rules")
async def test_sets_that_we_changed_ourselves_are_read_now_and_then() -> None:
    kernel, now = _Kernel("nft", replace(_IMAGE, sets=_sets(a="10.0.0.1", b="10.0.0.2"))), 0.0
    watch = Watch(kernel, lambda: now)  # type: ignore[arg-type]
    await watch.look(kernel.image)
    for number in range(1, 9):
        now = OWN_EVERY * number / 9
        kernel.image = replace(_IMAGE, sets={**kernel.image.sets, **_sets(a=f"10.0.1.{number}")})
        assert await watch.look(kernel.image) == (kernel.image, ())
    assert kernel.read.count("sets") == 1
    now = OWN_EVERY
    kernel.image = replace(_IMAGE, sets={**kernel.image.sets, **_sets(c="10.0.0.3")})
    await watch.look(kernel.image)
    assert kernel.read.count("sets") == 2


@pytest.mark.usefixtures("no_new_rules")
@pytest.mark.parametrize(
    ("should_be", "is_so"),
    [
        (_sets(a="10.0.0.9", b="10.0.0.2"), _sets(a="10.0.0.9", b="10.0.0.6")),
        (_sets(a="10.0.0.9", b="10.0.0.2"), _sets(a="10.0.0.1", b="10.0.0.2")),
        (_sets(a="10.0.0.9", b="10.0.0.2"), _sets(b="10.0.0.6")),
        (_sets(a="10.0.0.9", b="10.0.0.2"), _sets(a="10.0.0.9", b="10.0.0.2", c="")),
        (_sets(a="10.0.0.1"), _sets(a="10.0.0.1", b="10.0.0.2")),
    ],
    ids=["another, too", "not even ours", "another instead", "a new one, too", "not gone"],
)
async def test_what_others_change_beside_us_is_found_at_once(
    should_be: dict[str, SetImage], is_so: dict[str, SetImage]
) -> None:
    kernel = _Kernel("nft", replace(_IMAGE, sets=_sets(a="10.0.0.1", b="10.0.0.2")))
    watch = _watch(kernel)
    await watch.look(kernel.image)
    kernel.image = replace(_IMAGE, sets=is_so)
    found, told = await watch.look(replace(_IMAGE, sets=should_be))
    assert found.sets == is_so
    assert told


@pytest.mark.usefixtures("no_new_rules")
async def test_without_a_digest_sets_are_read_each_time() -> None:
    kernel = _Kernel("nft", _IMAGE, digests=False)
    watch = _watch(kernel)
    for _ in range(3):
        assert await watch.look(_IMAGE) == (_IMAGE, ())
    assert kernel.read.count("sets") == 3


async def test_without_a_generation_rules_are_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = _Kernel("nft", _IMAGE)
    monkeypatch.setattr(watching, "generation", lambda: None)
    watch = _watch(kernel)
    for _ in range(3):
        await watch.look(_IMAGE)
    assert kernel.read.count("rules") == 3


async def test_large_sets_are_read_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "generation", lambda: 1)
    many = SetImage("hash:net", frozenset(str(number) for number in range(LARGE + 1)))
    image = Image(_IMAGE.chains, {}, {"manx-g-x": many})
    kernel = _Kernel("nft", image, digests=False)
    watch = _watch(kernel)
    for _ in range(LARGE_EVERY):
        assert (await watch.look(image))[1] == ()
    assert kernel.read.count("sets") == 1


async def test_python_iptables_is_asked_about_altered_chains_alone(decoded: dict[str, Any]) -> None:
    altered = {**_CHAINS, "manx-in": ("-j ACCEPT", "-j DROP")}
    kernel = _Kernel("legacy", Image({"filter": altered}, {}, _IMAGE.sets))
    decoded["chains"] = {"manx-in": [{"target": "ACCEPT"}, {"target": "DROP"}]}
    found, told = await _watch(kernel).look(_IMAGE)
    assert found.chains == {"filter": altered}
    assert told == ("iptables filter: chain manx-in: rule 1 was decoded as target=ACCEPT instead of target=DROP",)
    assert decoded["asked"] == [{"filter": ["manx-in"]}]


async def test_what_only_python_iptables_finds_counts(decoded: dict[str, Any]) -> None:
    decoded["chains"]["manx-to"] = [{"target": "ACCEPT"}]
    watch = _watch(_Kernel("legacy", _IMAGE))
    results = [await watch.look(_IMAGE) for _ in range(DECODE_EVERY)]
    assert all(result == (_IMAGE, ()) for result in results[:-1])
    found, told = results[-1]
    assert found.chains["filter"] == {**_CHAINS, "manx-to": ()}
    assert len(told) == 1
    assert told[0].startswith("iptables filter: chain manx-to: rule 1 was decoded as target=ACCEPT")


async def test_a_crash_of_python_iptables_leaves_the_text_to_decide(decoded: dict[str, Any]) -> None:
    decoded["error"] = ProcessFailed(("python",), -11, "")
    kernel = _Kernel("legacy", Image({"filter": {**_CHAINS, "manx-in": ()}}, {}, _IMAGE.sets))
    found, told = await _watch(kernel).look(_IMAGE)
    assert found.chains == kernel.image.chains
    assert told == ("iptables filter: chain manx-in: rule 1 '-j DROP' was missing",)
