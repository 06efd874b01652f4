"""Metrics as Prometheus reads them: what the shared segment holds, and what else is known."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from spooky._core.shared import Segment
from spooky.observe import protobuf
from spooky.observe.counters import CounterReader
from spooky.observe.families import Distribution, Family, counted, told
from spooky.observe.metrics import Fact, Kind
from spooky.observe.reference_facts import reference_fact_families
from spooky.observe.reference_latencies import reference_latency_families
from spooky.observe.reference_metrics import reference_families, worker_families

PROTOBUF: Final = "application/vnd.google.protobuf"
_MESSAGE: Final = "io.prometheus.client.metricfamily"


class Exposition:
    """Makes the page that Prometheus scrapes.

    Arguments:
        segment: What the workers count in.
        facts: Gives what else there is to tell.
    """

    def __init__(self, segment: Segment, facts: Callable[[], Iterable[Fact]]) -> None:
        self._counters = CounterReader(segment)
        self._facts = facts
        self._registry = CollectorRegistry(auto_describe=False)
        # Told apart from describing, so that nothing is collected to find out names.
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Name no metric in advance: they come and go with the configuration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present numbers; no worker is asked."""
        return map(_metric, self.families())

    def families(self) -> Iterator[Family]:
        """Yield every metric with its present numbers, in our own form."""
        sums = self._counters.read()
        facts = tuple(self._facts())
        return chain(
            counted(sums),
            reference_families(sums),
            reference_latency_families(sums),
            worker_families(self._counters),
            told(facts),
            reference_fact_families(facts),
        )

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page, and its content type.

        Arguments:
            accept: The request's ``Accept``, which may ask for OpenMetrics or protocol buffers;
                only the latter have native histograms.
        """
        if _prefers_protobuf(accept):
            return protobuf.encode(self.families()), protobuf.CONTENT_TYPE
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def _metric(family: Family) -> Metric:
    names = [key for key, _ in family.samples[0][0]]
    match family.kind:
        case Kind.COUNTER:
            made: Metric = CounterMetricFamily(family.name, family.help, labels=names)
        case Kind.GAUGE:
            made = GaugeMetricFamily(family.name, family.help, labels=names)
        case Kind.HISTOGRAM:
            made = HistogramMetricFamily(family.name, family.help, labels=names)
    for labels, value in family.samples:
        texts = [text for _, text in labels]
        if isinstance(value, Distribution):
            assert isinstance(made, HistogramMetricFamily)
            made.add_metric(texts, _buckets(value), value.total)
        else:
            assert isinstance(made, CounterMetricFamily | GaugeMetricFamily)
            made.add_metric(texts, value)
    return made


def _buckets(one: Distribution) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound."""
    bounds = [*map(str, one.bounds), "+Inf"]
    return list(zip(bounds, map(float, one.counts), strict=True))


def _prefers_protobuf(accept: str) -> bool:
    """Tell whether protocol buffers of our kind are liked best (RFC 9110 section 12.5.1)."""
    wanted, others = 0.0, 0.0
    for one in accept.split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        named = dict(part.split("=", 1) for part in parameters if "=" in part)
        try:
            quality = float(named.get("q", "1"))
        except ValueError:
            continue
        if kind.lower() == PROTOBUF and named.get("encoding") == "delimited":
            if named.get("proto", "").strip('"').lower() == _MESSAGE:
                wanted = max(wanted, quality)
        elif kind:
            others = max(others, quality)
    return wanted > 0 and wanted >= others
