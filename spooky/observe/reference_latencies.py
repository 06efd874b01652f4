"""The reference's metrics of how long things took, from our histograms."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from spooky._core.shared import BUCKET_VALUES, LATENCY_BOUNDS, SUM_AT
from spooky.observe.counters import SlotName
from spooky.observe.families import MICROSECONDS, Distribution, Family, Labels, distribution
from spooky.observe.metrics import PREFIX, Kind
from spooky.observe.quantiles import milliseconds
from spooky.observe.reference_metrics import UNROUTED

_HANDSHAKES: Final = "downstream_tls_handshake_success_total"
_LATE: Final = "hedge_primary_late_ms_total"
_LATE_SAMPLES: Final = "hedge_primary_late_samples_total"
_LATENCY: Final = "upstream_request_latency_ms"

_QUANTILES: Final = {f"route_latency_ms_p{part}": part / 100 for part in (50, 95, 99)}

NAMES: Final = (
    _HANDSHAKES, _LATE, _LATE_SAMPLES, *_QUANTILES,
    *(f"{_LATENCY}{suffix}" for suffix in ("", "_bucket", "_count", "_sum")),
)  # fmt: skip
"""All of them, without prefix."""

_MILLISECONDS: Final = 1000.0


def reference_latency_families(sums: Mapping[SlotName, Sequence[int]]) -> Iterator[Family]:
    """Yield them, from the sums over all workers."""
    handshakes = late = 0
    late_ms = 0.0
    latencies: list[tuple[Labels, float | Distribution]] = []
    quantiles: dict[str, list[tuple[Labels, float | Distribution]]] = {
        name: [] for name in _QUANTILES
    }
    for (metric, labels), values in sums.items():
        if metric == "handshake_duration_seconds":
            handshakes += sum(values[:BUCKET_VALUES])
        elif metric == "hedge_primary_late_seconds":
            late += sum(values[:BUCKET_VALUES])
            late_ms += values[SUM_AT] / MICROSECONDS * _MILLISECONDS
        elif metric == "request_duration_seconds":
            upstream = dict(labels)["upstream"]
            if upstream:
                latencies.append((labels, distribution(values, _MILLISECONDS)))
            route = (("route", upstream or UNROUTED),)
            for name, quantile in _QUANTILES.items():
                value = milliseconds(quantile, values[:BUCKET_VALUES], LATENCY_BOUNDS)
                if value is not None:
                    quantiles[name].append((route, round(value, 3)))
    yield _counter(_HANDSHAKES, "Handshakes of clients that were complete.", handshakes)
    yield _counter(_LATE_SAMPLES, "Requests that the first backend answered after all.", late)
    yield _counter(
        _LATE, "How much later than the second was asked those were answered, summed.", late_ms
    )
    if latencies:
        text = "Time from a request's head to the end of its response."
        yield Family(PREFIX + _LATENCY, Kind.HISTOGRAM, text, latencies)
    for name, samples in quantiles.items():
        if samples:
            text = f"So many percent of all requests since the start took no longer: {name[-2:]}."
            yield Family(PREFIX + name, Kind.GAUGE, text, samples)


def _counter(name: str, text: str, value: float) -> Family:
    return Family(PREFIX + name, Kind.COUNTER, text, [((), value)])
