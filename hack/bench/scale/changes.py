"""What happens in the cluster while it is measured: pods relabelled, policies coming and going.

Owns: these requests. Must not: know who hears of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import msgspec

from bench.scale import load
from bench.scale.load import Obj, Size
from manx_kube.client import KubeClient, PatchType
from manx_kube.resources import NETWORK_POLICIES, PODS

SEED = 7


async def relabel(
    client: KubeClient,
    size: Size,
    rate: float,
    seconds: float,
    done: Callable[[int, str], None] | None = None,
    seed: int = SEED,
) -> None:
    """Pods drawn anew each time get another `app`, at an even pace; slower where the API server does not keep up with
    as many at a time as `load.PARALLEL`. `done`: told of each pod and its app, when the API server has answered.
    `seed`: another for each use, or most of the second one's change nothing. Raises KubeError."""
    chance, slots = random.Random(seed), asyncio.Semaphore(load.PARALLEL)
    began, tasks = time.perf_counter(), []
    for turn in range(int(rate * seconds)):
        number, app = chance.randrange(size.pods), f"app-{chance.randrange(load.APPS)}"
        tasks.append(asyncio.create_task(_relabel(client, size, number, app, slots, done)))
        await asyncio.sleep(max(0.0, began + (turn + 1) / rate - time.perf_counter()))
    await asyncio.gather(*tasks)


async def _relabel(
    client: KubeClient,
    size: Size,
    number: int,
    app: str,
    slots: asyncio.Semaphore,
    done: Callable[[int, str], None] | None,
) -> None:
    async with slots:
        await set_labels(client, load.pod(number, size), app=app)
    if done is not None:
        done(number, app)


async def set_labels(client: KubeClient, pod: Obj, **labels: str) -> None:
    """As `kubectl label` does it; the answer is not decoded. Raises KubeError."""
    meta, patch = pod["metadata"], {"metadata": {"labels": labels}}
    how = PatchType.MERGE
    await client.patch(PODS, msgspec.Raw, meta["name"], patch, how=how, namespace=meta["namespace"])


async def create_policy(client: KubeClient, policy: Obj, name: str) -> Obj:
    """The policy under another name; what was sent. Raises KubeError."""
    sent = {**policy, "metadata": {"namespace": policy["metadata"]["namespace"], "name": name}}
    await client.create(NETWORK_POLICIES, sent)
    return sent


async def delete_policy(client: KubeClient, policy: Obj) -> None:
    meta = policy["metadata"]
    await client.delete(NETWORK_POLICIES, meta["name"], namespace=meta["namespace"])
