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
from collections.abc import Callable, Mapping
from dataclasses import replace

from manx_agent.dataplane.kernel import Kernel
from manx_agent.dataplane.watch import Watch
from manx_agent.drivers.iptables import detect_backend
from manx_agent.model import AgentError, Backend, Dirty, PolicyOutcome, PolicyView
from manx_agent.render.compare import differences
from manx_agent.render.dispatch import without_ipv6
from manx_agent.render.family import FAMILIES, IPV4
from manx_agent.render.image import Image
from manx_agent.render.names import ENDPOINTS, FROM
from manx_agent.render.needs import Policy
from manx_agent.render.plan import plan
from manx_agent.render.policy import Rendered, Renderer
from manx_agent.render.sets import endpoint_members
from manx_agent.render.settle import Settled, settle
from manx_agent.render.style import logs
from manx_core.api.v1alpha1 import PolicySettings

_ATTEMPTS = 2
"""A program may fail because somebody else changed a table between our reading and our writing: read again, once."""

_NO_SELF = (
    "the kernel has no bpf match (xt_bpf): a pod that reaches itself through a service is subject to its own policies"
)
_NO_LOG = "the kernel has no LOG or NFLOG target (xt_LOG, xt_NFLOG): nothing is logged"
_NO_NAT6 = (
    "the kernel has no table nat of IPv6 (ip6table_nat): packets from IPv6 pools with natOutgoing leave with their own"
    " source address"
)
_BACKENDS: dict[str, Backend] = {"NFT": "nft", "Legacy": "legacy"}


class KernelPolicy:
    """`model.PolicyDataplane` on iptables and ipset, in the network namespace that it is used in.

    `backend`: which one where the settings leave the choice; None detects it. `clock`: seconds, never going back.
    """

    def __init__(self, backend: Backend | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted_backend = backend
        self._asked = ""
        """What the settings said of the back end when it was last chosen."""
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kernel: Kernel | None = None
        self._watch: Watch | None = None
        self._renderer = Renderer()
        self._settled = Settled()
        self._rendered = Rendered(Image())
        self._known: Image | None = None
        self._masquerades = True
        """Whether the kernel can masquerade what there is to masquerade."""
        self._logs = False
        """Whether it is known if the kernel can log."""
        self._without_logs: Mapping[str, Policy] | None = None
        """Policies that were found to have nothing to log."""
        self._in_charge = False
        """Whether the kernel ever was as we wanted it."""
        self.in_force: Settled | None = None
        """What was last brought into the kernel; None: nothing yet."""

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
        kernel = await self._chosen(view.settings)
        from_end = view.settings.chain_insert_mode == "Append"
        if kernel.from_end != from_end:
            kernel.from_end, self._known = from_end, None
        self._settled = settle(view, self._settled, self._clock())
        await self._look_for_logging(kernel, view.settings)
        rendered = self._renderer.render(self._settled, view.pools, view.settings)
        image = rendered.image if kernel.ipv6 else without_ipv6(rendered.image)
        self._masquerades = "nat6" not in image.chains or await kernel.can_masquerade_ipv6()
        self._rendered = replace(rendered, image=image if self._masquerades else _without_nat6(image))
        if not self._in_charge and self._settled.awaited:
            left = await kernel.read()
            if left.jumps == self._rendered.image.jumps and ENDPOINTS in left.sets:
                return replace(self._outcome((), ()), closed=_strangers(view, left))
        drift = await self._bring(kernel, read=dirty.everything)
        self._in_charge = True
        self.in_force = self._settled
        return self._outcome(drift, ())

    def _outcome(self, drift: tuple[str, ...], errors: tuple[str, ...]) -> PolicyOutcome:
        limits = [] if self._renderer.reaches_itself else [_NO_SELF]
        limits += [] if self._renderer.logs else [_NO_LOG]
        limits += [] if self._masquerades else [_NO_NAT6]
        return PolicyOutcome(
            backend=self._kernel.backend if self._kernel else "nft",
            missing=frozenset(self._settled.since),
            closed=self._settled.closed,
            drift=drift,
            errors=errors,
            problems=(*self._rendered.problems, *limits),
        )

    async def _chosen(self, settings: PolicySettings) -> Kernel:
        """The back end that the settings ask for. Where that is another than before, it gets everything before the one
        used so far is cleared (`_reconcile`): packets then meet the same policy twice for a moment, never none."""
        if self._kernel is None or settings.iptables_backend != self._asked:
            asked = _BACKENDS.get(settings.iptables_backend) or self._wanted_backend or await detect_backend()
            if self._kernel is None or self._kernel.backend != asked:
                await self._start(asked)
            self._asked = settings.iptables_backend
        assert self._kernel is not None
        return self._kernel

    async def _start(self, backend: Backend) -> None:
        """The first contact with a kernel's back end."""
        kernel = Kernel(backend)
        found = await kernel.read_rules()
        used = any(IPV4.same in rule for rule in found.chains.get("filter", {}).get(FROM, ()))
        self._renderer.reaches_itself = used or await kernel.can_compare_addresses()
        kernel.has_nat6 = "nat6" in found.chains
        self._renderer.logs = True
        self._logs = any(" NFLOG " in rule for rules in found.chains.get("filter", {}).values() for rule in rules)
        self._kernel, self._watch, self._known = kernel, Watch(kernel, self._clock), None

    async def _look_for_logging(self, kernel: Kernel, settings: PolicySettings) -> None:
        """Asks the kernel whether it can log, once, when something is to be logged."""
        policies = self._settled.policies
        if self._logs or (policies is self._without_logs and not settings.log_denied):
            return
        if settings.log_denied or any(logs(policy.spec) for policy in policies.values()):
            self._logs, self._renderer.logs = True, await kernel.can_log()
        self._without_logs = policies

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
        left = {name: found.sets[name] for name in busy}
        self._known = replace(wanted, sets={**wanted.sets, **left}) if left else wanted
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


def _without_nat6(image: Image) -> Image:
    """The same for a kernel without that table."""
    return replace(
        image,
        chains={table: chains for table, chains in image.chains.items() if table != "nat6"},
        jumps={where: rules for where, rules in image.jumps.items() if where[0] != "nat6"},
    )


def _strangers(view: PolicyView, left: Image) -> frozenset[str]:
    """The endpoints some address of which is not among those in the kernel."""
    known = {family: left.sets.get(family.set(ENDPOINTS)) for family in FAMILIES}
    members = frozenset().union(*(one.members for one in known.values() if one is not None))
    return frozenset(
        key
        for key, one in view.endpoints.items()
        if not members.issuperset(member for family in FAMILIES for member in endpoint_members(one, family))
    )
