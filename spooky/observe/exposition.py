"""Metrics as Prometheus reads them: what the shared segment holds, and what else is known."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from spooky._core.shared import LATENCY_BOUNDS, Segment
from spooky.observe.counters import SlotName, totals
from spooky.observe.metrics import BY_NAME, PREFIX, Fact, Kind

MICROSECONDS: Final = 1e6


class Exposition:
    """Makes the page that Prometheus scrapes.

    Arguments:
        segment: What the workers count in.
        facts: Gives what else there is to tell.
    """

    def __init__(self, segment: Segment, facts: Callable[[], Iterable[Fact]]) -> None:
        self._segment = segment
        self._facts = facts
        self._registry = CollectorRegistry(auto_describe=False)
        # Told apart from describing, so that nothing is collected to find out names.
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Name no metric in advance: they come and go with the configuration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present numbers; no worker is asked."""
        yield from _counted(totals(self._segment))
        yield from _told(self._facts())

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page, and its content type.

        Arguments:
            accept: The request's ``Accept``, which may ask for OpenMetrics.
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def _counted(sums: dict[SlotName, list[int]]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for (name, labels), values in sums.items():
        metric = BY_NAME[name]
        names, texts = [key for key, _ in labels], [text for _, text in labels]
        family = families.get(name)
        if family is None:
            family = families[name] = _family(metric.kind, PREFIX + name, metric.help, names)
        if isinstance(family, HistogramMetricFamily):
            family.add_metric(texts, _buckets(values[:-1]), values[-1] / MICROSECONDS)
        elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
            family.add_metric(texts, values[0])
    yield from families.values()


def _told(facts: Iterable[Fact]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for fact in facts:
        names = [key for key, _ in fact.labels]
        family = families.get(fact.name)
        if family is None:
            family = families[fact.name] = _family(fact.kind, PREFIX + fact.name, fact.help, names)
        if isinstance(family, CounterMetricFamily | GaugeMetricFamily):
            family.add_metric([text for _, text in fact.labels], fact.value)
    yield from families.values()


def _family(kind: Kind, name: str, text: str, labels: Sequence[str]) -> Metric:
    match kind:
        case Kind.COUNTER:
            return CounterMetricFamily(name, text, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(name, text, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, text, labels=labels)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound."""
    bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))
