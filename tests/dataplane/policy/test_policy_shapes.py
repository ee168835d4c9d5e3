"""Every shape of rule that is written, taken by the programs of both back ends, and read back as it was written."""

from __future__ import annotations

import pytest

from manx_agent.drivers import ipset
from manx_agent.drivers.iptables import Iptables
from manx_agent.model import Backend, Dirty
from manx_agent.render.compare import differences
from manx_agent.render.decoded import disagreements
from manx_agent.render.image import Image
from manx_agent.render.plan import plan
from manx_agent.render.policy import Renderer
from manx_agent.render.settle import Settled, settle
from policy_shapes import SHAPES
from policy_world import Applied, World


def _image(shape: str) -> Image:
    view = SHAPES[shape]
    rendered = Renderer().render(settle(view, Settled(), 0.0), view.pools, view.settings)
    assert rendered.problems == ()
    return rendered.image


@pytest.mark.parametrize("shape", SHAPES)
def test_rules_are_taken_and_printed_as_rendered(bare: Applied, shape: str) -> None:
    image = _image(shape)
    for step in plan(Image(), image):
        if step.kind == "sets":
            bare.world.node.run("ipset", "-exist", "restore", stdin=step.text)
        else:
            restore = f"ip{'6' if step.kind == 'rules6' else ''}tables-{bare.backend}-restore"
            bare.world.node.run(restore, "--noflush", "--test", stdin=step.text)
            bare.world.node.run(restore, "--noflush", stdin=step.text)
    bare.world.view = SHAPES[shape]
    found = bare.inside(bare.kernel().read)
    assert differences(image, found) == ()
    assert found == image


@pytest.mark.parametrize("shape", SHAPES)
def test_a_second_apply_changes_nothing(bare: Applied, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.world.view = SHAPES[shape]
    assert bare.apply().problems == ()
    rules, sets = bare.saved("-c", family="ip"), bare.sets()
    for owner, method in ((Iptables, "restore"), (ipset, "restore"), (ipset, "destroy")):
        monkeypatch.setattr(owner, method, lambda *_: pytest.fail("wrote"))
    for dirty in (Dirty(), Dirty(everything=True)):
        assert bare.apply(dirty).drift == ()
    bare.policy = bare.fresh()
    assert bare.apply(Dirty(everything=True)).drift == ()
    assert bare.check() == ()
    assert (bare.saved("-c", family="ip"), bare.sets()) == (rules, sets)


def test_from_every_shape_to_every_other(bare: Applied) -> None:
    """One agent, without a look at the kernel in between, gets where a new one would."""
    for shape in (*SHAPES, *reversed(SHAPES)):
        bare.world.view = SHAPES[shape]
        bare.apply(Dirty())
        assert bare.check() == ()
        assert bare.inside(bare.kernel().read) == _image(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_python_iptables_reads_the_same(shape: str, bare: Applied) -> None:
    if bare.backend == "nft":
        bare = Applied(bare.world, "legacy")
    bare.world.view = SHAPES[shape]
    bare.apply()
    image = _image(shape)
    assert disagreements(image, bare.decoded(image)) == {}


@pytest.fixture
def bare(backend: Backend, world: World) -> Applied:
    return Applied(world, backend)
