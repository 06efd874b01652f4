"""Metrics by name, as both forms of the exposition take them: what is counted, and what is told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from spooky._core.shared import (
    BUCKET_VALUES,
    LATENCY_BOUNDS,
    NATIVE_AT,
    NATIVE_BUCKETS,
    SUM_AT,
    ZERO_AT,
)
from spooky.observe.counters import SlotName
from spooky.observe.metrics import BY_NAME, PREFIX, Fact, Kind

MICROSECONDS: Final = 1e6

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Distribution:
    """A histogram's numbers.

    Attributes:
        bounds: Upper bounds of the classic buckets but the last, which has none.
        counts: Cumulative counts of all classic buckets.
        total: The sum of what was observed.
        zero: What the native zero bucket counts.
        native: What each native bucket counts; empty where there are none.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float
    zero: int
    native: Sequence[int]


@dataclass(slots=True)
class Family:
    """A metric with all its samples.

    Attributes:
        name: As exposed; a counter's with ``_total``.
        kind: How it behaves.
        help: What it tells.
        samples: Labels, and a number or a histogram's numbers.
    """

    name: str
    kind: Kind
    help: str
    samples: list[tuple[Labels, float | Distribution]] = field(default_factory=list)


def counted(sums: Mapping[SlotName, Sequence[int]]) -> Iterator[Family]:
    """Yield what the workers count, from the sums over all of them."""
    families: dict[str, Family] = {}
    for (name, labels), values in sums.items():
        metric = BY_NAME[name]
        family = families.get(name)
        if family is None:
            family = families[name] = Family(PREFIX + name, metric.kind, metric.help)
        sample = distribution(values, metric.unit) if metric.kind is Kind.HISTOGRAM else values[0]
        family.samples.append((labels, sample))
    yield from families.values()


def told(facts: Iterable[Fact]) -> Iterator[Family]:
    """Yield what nobody counts."""
    families: dict[str, Family] = {}
    for fact in facts:
        family = families.get(fact.name)
        if family is None:
            family = families[fact.name] = Family(PREFIX + fact.name, fact.kind, fact.help)
        family.samples.append((fact.labels, fact.value))
    yield from families.values()


def distribution(values: Sequence[int], unit: float) -> Distribution:
    """Return a histogram's numbers.

    Arguments:
        values: As they are counted.
        unit: What a second stands for.
    """
    return Distribution(
        bounds=tuple(bound * unit for bound in LATENCY_BOUNDS),
        counts=list(accumulate(values[:BUCKET_VALUES])),
        total=values[SUM_AT] / MICROSECONDS * unit,
        zero=values[ZERO_AT],
        # Only of seconds: the bounds of others are no powers of two of their unit.
        native=values[NATIVE_AT : NATIVE_AT + NATIVE_BUCKETS] if unit == 1.0 else (),
    )
