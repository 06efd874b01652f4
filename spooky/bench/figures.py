"""What follows from what was measured: rates, medians, spread and ratios."""

import statistics
from collections.abc import Sequence
from typing import Final

import msgspec

from spooky.bench.histogram import Histogram
from spooky.bench.plan import Kind, LoadResult

MB: Final = 1_000_000

MS_PER_US: Final = 0.001


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn of load showed; ``None`` where the load does not show it.

    Attributes:
        requests_per_second: Complete responses.
        requests_per_cpu_second: The same by the CPU time of the proxy's processes.
        connections_per_second: Handshakes.
        connections_per_cpu_second: The same by the proxy's CPU time.
        mb_per_second: Body bytes both ways, in millions.
        mb_per_cpu_second: The same by the proxy's CPU time.
        latency_p50_ms: Median latency; of a handshake where those are the load.
        latency_p90_ms: 90th percentile.
        latency_p99_ms: 99th percentile.
        latency_p999_ms: 99.9th percentile.
        latency_max_ms: Largest latency.
        peak_memory_mb: Largest resident memory of the proxy's processes.
        bytes_per_connection: Memory that an idle connection takes.
        proxy_cores: CPU time of the proxy by time: 1.0 is a full core.
        load_cores: CPU time of the load generator by time.
        errors: Share of the requests or connections that failed.
    """

    requests_per_second: float | None = None
    requests_per_cpu_second: float | None = None
    connections_per_second: float | None = None
    connections_per_cpu_second: float | None = None
    mb_per_second: float | None = None
    mb_per_cpu_second: float | None = None
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_p999_ms: float | None = None
    latency_max_ms: float | None = None
    peak_memory_mb: float | None = None
    bytes_per_connection: float | None = None
    proxy_cores: float | None = None
    load_cores: float | None = None
    errors: float | None = None


NAMES: Final = tuple(field.name for field in msgspec.structs.fields(Figures))

LOWER_IS_BETTER: Final = frozenset(
    name for name in NAMES if name.startswith("latency") or "memory" in name
) | {"bytes_per_connection", "errors", "proxy_cores", "load_cores"}
"""Figures of which less is better; of all others more is."""


def figures_of(kind: Kind, result: LoadResult) -> Figures:
    """Return what a turn of load showed."""
    cpu, seconds = result.watched_cpu_seconds, result.seconds
    watched = cpu > 0 or result.watched_peak_bytes > 0
    found: dict[str, float | None] = {
        "load_cores": result.load_cpu_seconds / seconds,
        "proxy_cores": cpu / seconds if watched else None,
        "peak_memory_mb": result.watched_peak_bytes / MB if watched else None,
    }
    if kind is Kind.IDLE:
        if watched:
            found["bytes_per_connection"] = result.watched_growth_bytes / result.connections
        done = result.connections
    elif kind is Kind.REQUESTS:
        done = result.requests
        moved = (result.bytes_received + result.bytes_sent) / MB
        found["requests_per_second"] = done / seconds
        found["mb_per_second"] = moved / seconds
        if cpu > 0:
            found["requests_per_cpu_second"] = done / cpu
            found["mb_per_cpu_second"] = moved / cpu
    else:
        done = result.resumed if kind is Kind.RESUMPTION else result.connections
        found["connections_per_second"] = done / seconds
        if cpu > 0:
            found["connections_per_cpu_second"] = done / cpu
    failed = sum(result.errors.values())
    found["errors"] = failed / (done + failed) if done + failed else 0.0
    latencies = Histogram.of_buckets(result.latencies)
    if latencies.count:
        found["latency_p50_ms"] = latencies.percentile(0.5) * MS_PER_US
        found["latency_p90_ms"] = latencies.percentile(0.9) * MS_PER_US
        found["latency_p99_ms"] = latencies.percentile(0.99) * MS_PER_US
        found["latency_p999_ms"] = latencies.percentile(0.999) * MS_PER_US
        found["latency_max_ms"] = latencies.maximum * MS_PER_US
    return Figures(**found)


def values(rounds: Sequence[Figures], name: str) -> list[float]:
    """Return a figure of every round that has it."""
    found = (getattr(figures, name) for figures in rounds)
    return [value for value in found if value is not None]


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(
        **{
            name: statistics.median(found) if (found := values(rounds, name)) else None
            for name in NAMES
        }
    )


def spread(rounds: Sequence[Figures], name: str) -> float:
    """Return how far apart the rounds are: half of largest minus smallest, by the median."""
    found = values(rounds, name)
    middle = statistics.median(found) if found else 0.0
    return (max(found) - min(found)) / 2 / middle if middle else 0.0


def ratio(ours: Figures, theirs: Figures, name: str) -> float | None:
    """Return how many times better ours is: above 1 for better, whichever way better is."""
    mine, other = getattr(ours, name), getattr(theirs, name)
    if not mine or not other:
        return None
    better: float = other / mine if name in LOWER_IS_BETTER else mine / other
    return better
