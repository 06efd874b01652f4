"""A plot of how long requests took, as inline SVG that its style sheet colours."""

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement

HEIGHT: Final = 110
BAR_WIDTH: Final = 22
TOP: Final = 14
BOTTOM: Final = 20
LEFT: Final = 8
QUANTILES: Final = (0.5, 0.95, 0.99)


def latency_plot(counts: Sequence[int], bounds: Sequence[float]) -> Element:
    """Return a bar for each bucket.

    Arguments:
        counts: How many are in each bucket.
        bounds: Where the buckets end, the last excepted, which has no end; seconds.
    """
    width = 2 * LEFT + BAR_WIDTH * len(counts)
    plot = Element(
        "svg", {"class": "plot", "viewBox": f"0 0 {width} {HEIGHT}", "role": "img"}
    )  # fmt: skip
    SubElement(plot, "title").text = "Requests by how long they took"
    most = max(*counts, 1)
    floor = HEIGHT - BOTTOM
    for bucket, count in enumerate(counts):
        x = LEFT + BAR_WIDTH * bucket
        height = round((floor - TOP) * count / most, 1)
        # What is few beside the most is seen all the same.
        height = max(height, 1.5) if count else 0.0
        bar = _add(plot, "rect", x=x + 1, y=floor - height, width=BAR_WIDTH - 2, height=height)
        bar.set("class", "bar")
        text = f"{count} up to {_duration(bounds[bucket])}" if bucket < len(bounds) else (
            f"{count} above {_duration(bounds[-1])}"
        )  # fmt: skip
        SubElement(bar, "title").text = text
        if bucket < len(bounds) and bucket % 3 == 2:
            _add(plot, "line", x1=x + BAR_WIDTH, x2=x + BAR_WIDTH, y1=floor, y2=floor + 4)
            label = _add(plot, "text", x=x + BAR_WIDTH, y=HEIGHT - 4)
            label.set("text-anchor", "middle")
            label.text = _duration(bounds[bucket])
    _add(plot, "line", x1=LEFT, x2=width - LEFT, y1=floor, y2=floor)
    return plot


def _add(parent: Element, tag: str, **numbers: float) -> Element:
    return SubElement(parent, tag, {name: f"{value:g}" for name, value in numbers.items()})


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
