"""Policy in the kernel: a view goes in, the kernel follows, and stays so.

Owns: the order of things: settle, render, plan, run; what the kernel is known to hold; repairing what drifted.
Must not: know rules, sets or programs; those are `render`'s and `drivers`'.

What the kernel holds is remembered, so that an apply costs as much as its change. It is read at the first apply, when
asked for (`Dirty.everything`), when a check finds it altered, and after any error. Several views may be applied one
after another, never at once: a lock sees to it.

What is held while something has not arrived (`render.settle`) is known from the apply before. The first apply has none,
but the kernel may hold what the agent had in force before it was restarted. So as long as an endpoint waits for what
may still come in time, the first apply leaves such a kernel as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from manx_agent.dataplane.kernel import Kernel
from manx_agent.dataplane.watch import Watch
from manx_agent.drivers.iptables import detect_backend
from manx_agent.model import AgentError, Backend, Dirty, PolicyOutcome, PolicyView
from manx_agent.render.compare import differences
from manx_agent.render.dispatch import SELF, without_ipv6
from manx_agent.render.image import Image, SetImage
from manx_agent.render.names import ENDPOINTS, FROM
from manx_agent.render.plan import plan
from manx_agent.render.policy import Rendered, Renderer, endpoint_member
from manx_agent.render.settle import Settled, settle

_ATTEMPTS = 2
"""A program may fail because somebody else changed a table between our reading and our writing: read again, once."""

_NO_SELF = (
    "the kernel has no bpf match (xt_bpf): a pod that reaches itself through a service is subject to its own policies"
)


class KernelPolicy:
    """`model.PolicyDataplane` on iptables and ipset, in the network namespace that it is used in.

    `backend`: None detects it at the first apply. `clock`: seconds, never going back.
    """

    def __init__(self, backend: Backend | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted_backend = backend
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kernel: Kernel | None = None
        self._watch: Watch | None = None
        self._renderer = Renderer()
        self._settled = Settled()
        self._rendered = Rendered(Image())
        self._known: Image | None = None
        self._in_charge = False
        """Whether the kernel ever was as we wanted it."""

    async def apply(self, view: PolicyView, dirty: Dirty) -> PolicyOutcome:
        """Brings the kernel to `view`. Does not raise on what programs say: that is in the outcome's `errors`.

        While something is `missing`, call again after `deadline`, with an empty Dirty, so that holds run out.
        """
        async with self._lock:
            try:
                return await self._apply(view, dirty)
            except AgentError as error:
                return self._outcome((), (str(error),))

    async def check_drift(self) -> tuple[str, ...]:
        """Repairs what differs from the last apply. Returns what was found; raises AgentError where the kernel cannot
        be read or repaired."""
        async with self._lock:
            if self._kernel is None or self._watch is None:
                return ()
            if self._known is None:
                await self._bring(self._kernel, read=True)
                return ()
            return await self._repair(self._kernel, self._watch, self._known)

    @property
    def deadline(self) -> float | None:
        """When, by the clock given, the next hold runs out; None while nothing is held."""
        return self._settled.deadline(self._clock())

    async def _apply(self, view: PolicyView, dirty: Dirty) -> PolicyOutcome:
        kernel = self._kernel or await self._start()
        self._settled = settle(view, self._settled, self._clock())
        rendered = self._renderer.render(self._settled, view.pools)
        self._rendered = rendered if kernel.ipv6 else replace(rendered, image=without_ipv6(rendered.image))
        if not self._in_charge and self._settled.awaited:
            left = await kernel.read()
            if left.jumps == self._rendered.image.jumps and ENDPOINTS in left.sets:
                return replace(self._outcome((), ()), closed=_strangers(view, left.sets[ENDPOINTS]))
        drift = await self._bring(kernel, read=dirty.everything)
        self._in_charge = True
        return self._outcome(drift, ())

    def _outcome(self, drift: tuple[str, ...], errors: tuple[str, ...]) -> PolicyOutcome:
        limits = () if self._renderer.reaches_itself else (_NO_SELF,)
        return PolicyOutcome(
            backend=self._kernel.backend if self._kernel else "nft",
            missing=frozenset(self._settled.since),
            closed=self._settled.closed,
            drift=drift,
            errors=errors,
            problems=(*self._rendered.problems, *limits),
        )

    async def _start(self) -> Kernel:
        """The first contact with the kernel."""
        kernel = Kernel(self._wanted_backend or await detect_backend())
        found = await kernel.read_rules()
        used = any(SELF in rule for rule in found.chains.get("filter", {}).get(FROM, ()))
        self._renderer.reaches_itself = used or await kernel.can_compare_addresses()
        self._kernel, self._watch = kernel, Watch(kernel)
        return kernel

    async def _bring(self, kernel: Kernel, read: bool) -> tuple[str, ...]:
        """Brings the kernel to what was last rendered, and returns what had been altered. Raises AgentError."""
        drift: tuple[str, ...] = ()
        for left in reversed(range(_ATTEMPTS)):
            try:
                if read or self._known is None:
                    drift += await self._reconcile(kernel)
                else:
                    await self._write(kernel, self._known)
                return drift
            except AgentError:
                self._known = None
                if not left:
                    raise
        return drift

    async def _reconcile(self, kernel: Kernel) -> tuple[str, ...]:
        """Compares with the kernel itself, also with the back end that is not in use."""
        expected = self._known
        found = await kernel.read()
        drift = differences(expected, found) if expected is not None else ()
        if await self._write(kernel, found):
            await self._spelling(kernel)
        return (*drift, *await kernel.clear_other_backend())

    async def _write(self, kernel: Kernel, found: Image) -> bool:
        """Runs the plan from `found`; says whether rules were written."""
        wanted = self._rendered.image
        steps = plan(found, wanted)
        self._known = None
        busy = await kernel.run(steps)
        self._known = replace(wanted, sets={**wanted.sets, **{name: found.sets[name] for name in busy}})
        wrote = any(step.kind in ("rules", "rules6") for step in steps)
        if wrote and self._watch is not None:
            self._watch.written()
        return wrote

    async def _spelling(self, kernel: Kernel) -> None:
        """Reads back what was written from scratch, to learn how this iptables prints it."""
        kernel.learn(self._rendered.image, await kernel.read_rules())

    async def _repair(self, kernel: Kernel, watch: Watch, known: Image) -> tuple[str, ...]:
        try:
            found, drift = await watch.look(known)
            if found != known and await self._write(kernel, found):
                await self._spelling(kernel)
        except AgentError:
            self._known = None
            raise
        return drift


def _strangers(view: PolicyView, known: SetImage) -> frozenset[str]:
    """The endpoints that are not among those known."""
    return frozenset(key for key, one in view.endpoints.items() if endpoint_member(one) not in known.members)
