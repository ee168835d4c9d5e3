"""Whose address is whose: after every history the same as computed anew from what there is."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from manx_core.api.core_v1 import ObjectMeta, Pod, PodSpec
from manx_core.api.v1alpha1 import Allocation, IPAMBlock, IPAMBlockSpec, IPAMBlockStatus
from manx_operator.addresses import Addresses, PodKey, believable

PODS = (("d", "web"), ("d", "db"), ("e", "web"))
UIDS, NODES = ("u1", "u2"), ("n", "m")
BLOCKS = ("a", "b", "six")
CIDRS = {"a": ("10.1.0.0/30", "10.1.0.4/30"), "b": ("10.2.0.0/30",), "six": ("fd00::/126",)}
ADDRESSES = ("10.1.0.1", "10.1.0.2", "10.1.0.5", "10.2.0.1", "fd00::1", "fd00::2", "x")


class World:
    """What there is, and what was told."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pods: dict[PodKey, Pod] = {}
        self.blocks: dict[str, IPAMBlock] = {}
        self.told: dict[tuple[PodKey, str], tuple[str, ...]] = {}
        self.addresses = Addresses(self.pods, self._tell)

    def _tell(self, key: PodKey, uid: str, addresses: tuple[str, ...]) -> None:
        assert self.told.get((key, uid), ()) != addresses
        self.told[key, uid] = addresses

    def step(self) -> None:
        if self.random.randrange(2):
            self._pod(self.random.choice(PODS))
        else:
            self._block(self.random.choice(BLOCKS))

    def _pod(self, key: PodKey) -> None:
        if self.random.randrange(4):
            meta = ObjectMeta(namespace=key[0], name=key[1], uid=self.random.choice(UIDS))
            self.pods[key] = Pod(metadata=meta, spec=PodSpec(node_name=self.random.choice(NODES)))
        else:
            self.pods.pop(key, None)
        self.addresses.pod_changed(key)

    def _block(self, name: str) -> None:
        self.blocks.pop(name, None)
        if self.random.randrange(4):
            spec = IPAMBlockSpec(
                epoch=1, cidr=self.random.choice(CIDRS[name]), pool="p", node=self.random.choice(NODES)
            )
            allocations = tuple(self._allocation() for _ in range(self.random.randrange(4)))
            self.blocks[name] = IPAMBlock(
                metadata=ObjectMeta(name=name), spec=spec, status=IPAMBlockStatus(allocations=allocations)
            )
        self.addresses.block_changed(name, self.blocks.get(name))

    def _allocation(self) -> Allocation:
        namespace, name = self.random.choice(PODS)
        return Allocation(
            address=self.random.choice(ADDRESSES),
            namespace=namespace,
            name=name,
            uid=self.random.choice(UIDS),
            container_id="c",
        )

    def expected(self) -> dict[tuple[PodKey, str], tuple[str, ...]]:
        found = {(key, pod.metadata.uid): tuple(sorted(self._of(key, pod))) for key, pod in self.pods.items()}
        return {pod: addresses for pod, addresses in found.items() if addresses}

    def _of(self, key: PodKey, pod: Pod) -> set[str]:
        allocations = [(one, block) for block in self.blocks.values() for one in block.status.allocations]
        return {
            one.address
            for one, block in allocations
            if (one.namespace, one.name) == key and believable(pod, one, block)
        }


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_history_comes_to_what_there_is(random: Random) -> None:
    world = World(random)
    for _ in range(12):
        world.step()
        assert {pod: addresses for pod, addresses in world.told.items() if addresses} == world.expected()
        for key in PODS:
            for uid in UIDS:
                allocated = any(
                    (one.namespace, one.name, one.uid) == (*key, uid)
                    for block in world.blocks.values()
                    for one in block.status.allocations
                )
                assert world.addresses.allocated(key, uid) is allocated
