"""The lag of relabellings, as figures: whole, and what of it is whose.

Owns: their keys and names. Must not: measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.figures import Figure, percentile
from bench.scale.lags import Lags
from bench.scale.server import Seen

KEY = "operator.relabel.lag"
_FLOOR = "a policy created → heard, through the API server alone"


def lag_figures(lags: Lags, counted: Seen, through: tuple[float, ...]) -> Iterator[Figure]:
    """`counted`: while the pods were relabelled; `through`: the floor, ms. Raises KubeError where a watch has ended."""
    yield from _both(KEY, "  patch answered → its last chunk heard", lags.found(), through)
    told, own = zip(*lags.parts(), strict=True)
    yield from _both(f"{KEY}.told", "    to a watch of pods beside (some namespaces')", told, through)
    yield from _both(f"{KEY}.own", "    from there to the chunk: the operator, its writes", own, through)
    name, mean = "    one such write, by the API server's clock (mean)", counted.seconds / max(1, counted.writes) * 1000
    yield Figure(f"{KEY}.write", name, "ms", (mean,), _FLOOR, through)


def _both(key: str, name: str, found: Iterable[float], through: tuple[float, ...]) -> Iterator[Figure]:
    """Of seconds, ms: all of them, and the 99th percentile."""
    samples = tuple(second * 1000 for second in found)
    yield Figure(key, name, "ms", samples, _FLOOR, through)
    worst = (percentile(samples, 99),)
    yield Figure(f"{key}.p99", f"{name}: 99th percentile", "ms", worst, _FLOOR, (max(through),))
