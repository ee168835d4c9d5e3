"""The properties of policy: what must hold of every cluster that chance draws.

Each takes a source of randomness, raises AssertionError where it does not hold, and says how many probes it made.
Owns: the properties, and running them for as long as one likes: `python policy_properties.py --minutes 60`.
Must not: choose how often they run in CI (tests/unit/properties does).
"""

from __future__ import annotations

import argparse
import random as randomness
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from random import Random

from manx_agent.model import PolicyView
from manx_core.policy.cluster import Cluster
from policy_asking import Question, questions
from policy_chain import Chain, as_told, fed, kernels_of, view_of
from policy_changes import Changing
from policy_compiled import Compiled
from policy_mutants import try_mutants
from policy_random import Drawer

Property = Callable[[Random], int]


def compiled_rules_mean_the_same(random: Random) -> int:
    """Compiled rules, with groups resolved plainly, give the reference's verdict, rule for rule."""
    cluster = Drawer(random).cluster()
    compiled = Compiled(cluster)
    probes = 0
    for question in questions(cluster, random, 60):
        for subject, direction in question.ends():
            expected = question.at(cluster, subject, direction)
            found = compiled.decide(subject, question.flow, direction)
            assert found.allowed == expected.allowed, (question, subject, direction, expected.because, found)
            if expected.rule is not None and expected.rule.kind != "KubernetesNetworkPolicy":
                assert (found.tier, found.index) == (expected.tier, expected.rule.rule), (question, expected, found)
            probes += 1
    return probes


def kernels_mean_the_same(random: Random) -> int:
    """From users' objects to the rules of each node's kernel and back: a packet passes all kernels on its way exactly
    where the reference allows it at both ends."""
    drawer = Drawer(random)
    cluster, settings = drawer.cluster(), drawer.settings()
    chain = Chain(cluster, kernels_of(cluster, fed(cluster), settings))
    return _ask(cluster, chain, questions(cluster, random, 60), settings)


def every_change_comes_through(random: Random) -> int:
    """After every change of a random sequence: the model that heard only changes is as one that heard everything
    anew; each agent knows what it would be told anew; and packets pass as the reference says."""
    changing = Changing(random)
    probes = 0
    steps: list[str] = []
    for _ in range(12):
        steps.append(changing.step())
        changing.settle()
        cluster = changing.cluster
        fresh = fed(cluster)
        assert as_told(changing.model) == as_told(fresh), steps
        for node, agent in changing.agents.by_node.items():
            assert _known(agent.view) == _known(view_of(fresh, node, cluster)), (steps, node)
        kernels = {node: agent.kernel for node, agent in changing.agents.by_node.items()}
        probes += _ask(cluster, Chain(cluster, kernels), questions(cluster, random, 10), steps)
    return probes


def mutants_are_caught(random: Random) -> int:
    """Rendered rules with one thing wrong are told from right ones."""
    return try_mutants(random, 5)["caught"]


def _known(view: PolicyView) -> tuple[object, ...]:
    return view.classes, view.programs, view.groups, view.class_of, view.ports_of


def _ask(cluster: Cluster, chain: Chain, asked: list[Question], context: object = "") -> int:
    for question in asked:
        verdicts = [question.at(cluster, *end) for end in question.ends()]
        found = chain.passes(question)
        because = [one.because for one in verdicts]
        assert found == all(one.allowed for one in verdicts), (context, question, because, found)
    return len(asked)


ALL: tuple[Property, ...] = (
    compiled_rules_mean_the_same,
    kernels_mean_the_same,
    every_change_comes_through,
    mutants_are_caught,
)
PROPERTIES = {found.__name__: found for found in ALL}


def run(minutes: float, names: list[str], seed: int) -> int:
    """Runs the properties in turn, each with a seed of its own, until the time is over. The number of failures."""
    end, cases, probes, failures = time.monotonic() + 60 * minutes, Counter[str](), Counter[str](), 0
    while time.monotonic() < end:
        for name in names:
            try:
                probes[name] += PROPERTIES[name](Random(f"{name} {seed}"))
            except Exception:
                failures += 1
                print(f"{name}, seed {seed}:\n{traceback.format_exc()}", flush=True)
            cases[name] += 1
        seed += 1
    for name in names:
        print(f"{name}: {cases[name]} cases, {probes[name]} probes")
    print(f"{failures} failures; the next seed is {seed}")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description="Try what must hold of policy on random clusters.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None, help="where to begin; by default anywhere")
    parser.add_argument("names", nargs="*", choices=[*PROPERTIES, []], help="which properties; by default all")
    given = parser.parse_args()
    seed = randomness.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    sys.exit(1 if run(given.minutes, given.names or list(PROPERTIES), seed) else 0)


if __name__ == "__main__":
    main()
