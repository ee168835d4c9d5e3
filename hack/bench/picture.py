"""Owns the picture: for each figure that has a floor, a bar as long as its ratio to it (median by median), as SVG.

It must not choose: every figure with a ratio is in it, on one scale, which is logarithmic because ratios reach from
one to hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from bench.figures import Figure

ROW, LEFT, WIDTH, RIGHT = 20, 480, 420, 90
"""Pixels: height of a row; widths of the names, the bars and the numbers."""
STYLE = (
    "text{font:12px sans-serif;fill:#24292f}.head{font-weight:bold}.bar{fill:#4c78a8}.grid{stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#444c56}}"
)


def svg(found: Mapping[str, Sequence[Figure]]) -> str:
    """One SVG document; without a single ratio, one that says so."""
    shown = {name: [f for f in figures if f.ratio is not None] for name, figures in found.items()}
    shown = {name: figures for name, figures in shown.items() if figures}
    rows = sum(1 + len(figures) for figures in shown.values())
    height, width = (rows + 2) * ROW, LEFT + WIDTH + RIGHT
    body = "\n".join([*_grid(shown, height), *_rows(shown)]) if shown else _text(LEFT, ROW, "nothing has a floor")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _grid(shown: Mapping[str, Sequence[Figure]], height: int) -> Iterator[str]:
    for power in range(_powers(shown) + 1):
        x = LEFT + WIDTH * power / _powers(shown)
        yield f'<line class="grid" x1="{x:.0f}" x2="{x:.0f}" y1="{ROW}" y2="{height}"/>'
        yield _text(x, ROW * 0.7, f"{10**power}×", anchor="middle")


def _rows(shown: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    scale, y = WIDTH / _powers(shown), 2 * ROW
    for name, figures in shown.items():
        yield _text(8, y, name, kind="head")
        for figure in figures:
            y += ROW
            ratio = figure.ratio or 1.0
            length = max(1.0, scale * math.log10(max(ratio, 1.0)))
            yield _text(LEFT - 8, y, figure.name.strip(), anchor="end")
            yield f'<rect class="bar" x="{LEFT}" y="{y - 11}" width="{length:.0f}" height="13"/>'
            yield _text(LEFT + length + 6, y, f"{ratio:.1f}")
        y += ROW


def _powers(shown: Mapping[str, Sequence[Figure]]) -> int:
    highest = max((figure.ratio or 1.0 for figures in shown.values() for figure in figures), default=1.0)
    return max(1, math.ceil(math.log10(highest))) if highest > 0 else 1


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
