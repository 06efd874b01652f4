"""Plots of a run as inline SVG: bars from zero, and latency by percentile."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 520

BAR_HEIGHT: Final = 22
BAR_GAP: Final = 10
NAME_WIDTH: Final = 60
VALUE_WIDTH: Final = 190
DOT_RADIUS: Final = 2.5

CURVE_HEIGHT: Final = 300
LEFT: Final = 60
RIGHT: Final = 70
TOP: Final = 14
BOTTOM: Final = 42

PERCENTILES: Final = (
    (0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"),
    (0.99999, "99.999"),
)  # fmt: skip
"""Ticks; each nine is as wide as the one before it."""

Scale = Callable[[float], float]
"""From what is shown to where it stands; pixels."""

LABEL_HEIGHT: Final = 14
"""Below which labels at the ends of curves would lie on each other."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar and its rounds.

    Attributes:
        name: Beside it.
        value: Its length.
        label: Behind it.
        rounds: Dots on it.
        colour: Number of the colour, one for each proxy.
    """

    name: str
    value: float
    label: str
    rounds: Sequence[float]
    colour: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Latencies of a proxy.

    Attributes:
        name: At its end.
        buckets: Values and counts, ascending.
        colour: Number of the colour, one for each proxy.
    """

    name: str
    buckets: Sequence[tuple[int, int]]
    colour: int


def bars(title: str, shown: Sequence[Bar]) -> str:
    """Return horizontal bars, all from zero and to one scale."""
    height = len(shown) * (BAR_HEIGHT + BAR_GAP) + BAR_GAP
    longest = max((max(bar.value, *bar.rounds, 0.0) for bar in shown), default=0.0) or 1.0
    scale = (WIDTH - NAME_WIDTH - VALUE_WIDTH) / longest
    parts = []
    for number, bar in enumerate(shown):
        top = BAR_GAP + number * (BAR_HEIGHT + BAR_GAP)
        middle = top + BAR_HEIGHT / 2
        end = NAME_WIDTH + max(bar.value, *bar.rounds, 0.0) * scale
        parts += [
            _text(NAME_WIDTH - 8, middle, bar.name, "end"),
            f'<rect class="fill{bar.colour}" x="{NAME_WIDTH}" y="{top}" rx="2" '
            f'width="{max(bar.value, 0.0) * scale:.1f}" height="{BAR_HEIGHT}"/>',
            *(
                f'<circle class="dot" cx="{NAME_WIDTH + max(value, 0.0) * scale:.1f}" '
                f'cy="{middle}" r="{DOT_RADIUS}"/>'
                for value in bar.rounds
            ),
            _text(end + 8, middle, bar.label, "start"),
        ]
    return _svg(title, height, parts)


def percentiles(title: str, shown: Sequence[Curve]) -> str:
    """Return latency by percentile, both axes logarithmic: the right end is the slowest request."""
    curves = [(curve, points(curve.buckets)) for curve in shown if curve.buckets]
    if not curves:
        return ""
    farthest = max(_nines(share) for _, found in curves for share, _ in found)
    values = [value for _, found in curves for _, value in found]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def across(share: float) -> float:
        return LEFT + _nines(share) / farthest * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return CURVE_HEIGHT - BOTTOM - share * (CURVE_HEIGHT - TOP - BOTTOM)

    parts = _axes(across, down, farthest, range(low, high + 1))
    ends = []
    for curve, found in curves:
        line = " ".join(f"{across(share):.1f},{down(value):.1f}" for share, value in found)
        parts.append(f'<polyline class="line{curve.colour}" points="{line}"/>')
        ends.append((down(found[-1][1]), across(found[-1][0]), curve))
    last = -math.inf
    for y, x, curve in sorted(ends, key=lambda end: end[0]):
        last = max(y, last + LABEL_HEIGHT)
        parts.append(_text(x + 6, last, curve.name, "start", f"text{curve.colour}"))
    return _svg(title, CURVE_HEIGHT, parts)


def points(buckets: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return share of requests and their latency (ms) at the upper end of each bucket.

    The slowest request stands where one more of its kind would be expected, since a share of 1 is
    infinitely far. Latencies below a microsecond count as that: the axis has no zero.
    """
    total = sum(count for _, count in buckets)
    seen = 0
    found = [(0.0, max(buckets[0][0], 1) / 1000)]
    for value, count in buckets:
        seen += count
        found.append((min(seen / total, 1 - 0.5 / total), max(value, 1) / 1000))
    return found


def _nines(share: float) -> float:
    return -math.log10(1 - share)


def _axes(across: Scale, down: Scale, farthest: float, decades: Sequence[int]) -> list[str]:
    parts = []
    for share, name in PERCENTILES:
        if _nines(share) <= farthest:
            x = across(share)
            parts.append(_line(x, TOP, x, CURVE_HEIGHT - BOTTOM))
            parts.append(_text(x, CURVE_HEIGHT - BOTTOM + 14, name, "middle", "tick"))
    for decade in decades:
        y = down(10.0**decade)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 6, y, f"{10.0**decade:g}", "end", "tick"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, CURVE_HEIGHT - 8, "percentile", "middle", "tick"))
    parts.append(_text(2, TOP, "ms", "start", "tick"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'dominant-baseline="middle">{escape(text)}</text>'
    )


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
