"""Quantiles of durations that were counted in buckets."""

from collections.abc import Sequence
from itertools import accumulate

from spooky._core.shared import LATENCY_BOUNDS


def estimate(
    quantile: float, counts: Sequence[int], bounds: Sequence[float] = LATENCY_BOUNDS
) -> float:
    """Return a quantile of latencies, interpolated in its bucket; seconds.

    Arguments:
        quantile: Between 0 and 1.
        counts: How many are in each bucket; not all 0.
        bounds: Where the buckets end, the last excepted, which has no end; seconds.
    """
    bucket = _bucket_of(quantile, counts)
    if bucket == len(bounds):
        return bounds[-1]
    lower = bounds[bucket - 1] if bucket else 0.0
    below = sum(counts[:bucket])
    part = (quantile * sum(counts) - below) / counts[bucket]
    return lower + part * (bounds[bucket] - lower)


def milliseconds(quantile: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Return a quantile of latencies in ms; ``None`` without any.

    Arguments:
        quantile: Between 0 and 1.
        counts: How many are in each bucket.
        bounds: Where the buckets end, the last excepted, which has no end; seconds.
    """
    return 1000 * estimate(quantile, counts, bounds) if any(counts) else None


def _bucket_of(quantile: float, counts: Sequence[int]) -> int:
    """Return the bucket that has a quantile."""
    rank = quantile * sum(counts)
    return next(i for i, reached in enumerate(accumulate(counts)) if reached >= rank and reached)
