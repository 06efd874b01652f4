"""Whether traffic fares worse than before: a comparison that little traffic does not fool.

A share that rose counts only if it rose by much and not by chance. Chance is held against the
normal approximation of two proportions, pooled. The bar is high because it is asked again each
second, and of each upstream.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import reduce
from math import sqrt
from operator import add
from typing import Final

from spooky._core.shared import LATENCY_BOUNDS
from spooky.control.traffic import Traffic, UpstreamTraffic
from spooky.observe.quantiles import estimate

SAMPLE_MIN: Final = 20
"""Of fewer requests or connections nothing is said: one that fails is 5 % of them."""

EVENTS_MIN: Final = 5
"""So many must have gone wrong: fewer happen to anybody, and the approximation needs them."""

DEVIATIONS_MIN: Final = 4.0
"""How far from chance, in standard deviations: once in 30,000 questions it is chance all the
same."""

GROWTH_MIN: Final = 2.0
"""A share, or a latency, that did not double is no reason to undo a change by itself."""

FAILURES_RISE_MIN: Final = 0.01
"""5xx must rise by this share of requests: below it, people decide."""

HANDSHAKES_RISE_MIN: Final = 0.05
"""Failed handshakes must rise by this share: scanners and clients that give up come and go."""

LATENCY_RISE_MIN: Final = 0.01
"""Seconds by which a latency must rise: nobody notices less, and a busy machine varies by it."""

LATE_RISE_MIN: Final = 0.01
"""Requests that are late must rise by this share of all: as many as are beyond the p99."""

READY_KEPT_MIN: Final = 0.5
"""If fewer of an upstream's backends can serve than this share of those that could, the change is
to blame: one of two may fall by chance, most of them do not."""

BLIND_SHARE: Final = 0.5
"""Where nothing is known of before, every second request must fail."""

QUANTILES: Final = (0.5, 0.99)
"""The latencies that are compared: that of most, and that of the slowest that are not rare."""


def find_regression(before: Traffic, after: Traffic) -> str:
    """Return what got worse, for people; empty if nothing did.

    Arguments:
        before: What came in a time before the change.
        after: What came since.
    """
    return (
        _failures(before, after)
        or _handshakes(before, after)
        or _readiness(before, after)
        or _latencies(before, after)
    )


def _failures(before: Traffic, after: Traffic) -> str:
    none = UpstreamTraffic()
    pairs = [
        (f"requests for upstream {name}" if name else "requests without upstream",
         before.upstreams.get(name, none), new)
        for name, new in after.upstreams.items()
    ]  # fmt: skip
    pairs.append(("all requests", _all(before), _all(after)))
    for what, old, new in pairs:
        shares = (old.failures, old.requests, new.failures, new.requests)
        if _rose(*shares, FAILURES_RISE_MIN):
            return f"5xx: {_share_text(*shares)} {what}"
    return ""


def _handshakes(before: Traffic, after: Traffic) -> str:
    shares = (
        before.failed_handshakes, before.connections, after.failed_handshakes, after.connections,
    )  # fmt: skip
    if not _rose(*shares, HANDSHAKES_RISE_MIN):
        return ""
    return f"failed handshakes: {_share_text(*shares)} connections"


def _readiness(before: Traffic, after: Traffic) -> str:
    for name, share in after.ready.items():
        was = before.ready.get(name, 0.0)
        if share < was * READY_KEPT_MIN:
            return (
                f"ready backends: {100 * share:.0f} % of those of upstream {name} "
                f"({100 * was:.0f} % before)"
            )
    return ""


def _latencies(before: Traffic, after: Traffic) -> str:
    # By upstream only: of all together, one that is new and slow by nature would make them worse.
    for name, new in after.upstreams.items():
        old = before.upstreams.get(name, UpstreamTraffic())
        for quantile in QUANTILES:
            if _slowed(quantile, old.latencies, new.latencies):
                was = 1000 * estimate(quantile, old.latencies)
                is_now = 1000 * estimate(quantile, new.latencies)
                return (
                    f"latency: p{100 * quantile:.0f} of {sum(new.latencies)} requests for upstream "
                    f"{name} is {is_now:.0f} ms, {was:.0f} ms before"
                )
    return ""


def _rose(
    old_events: float, old_count: int, new_events: float, new_count: int, rise_min: float
) -> bool:
    """Return whether a share rose by much, and not by chance."""
    if new_count < SAMPLE_MIN or new_events < EVENTS_MIN:
        return False
    new_share = new_events / new_count
    if old_count < SAMPLE_MIN:
        return new_share >= BLIND_SHARE
    old_share = old_events / old_count
    if new_share < GROWTH_MIN * old_share or new_share - old_share < rise_min:
        return False
    return _deviations(old_events, old_count, new_events, new_count) >= DEVIATIONS_MIN


def _slowed(quantile: float, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Return whether a quantile of latencies rose by much, and not by chance."""
    old_count, new_count = sum(old), sum(new)
    if old_count < SAMPLE_MIN or new_count < SAMPLE_MIN:
        return False
    was = estimate(quantile, old)
    late = max(GROWTH_MIN * was, was + LATENCY_RISE_MIN)
    if estimate(quantile, new) < late:
        return False
    return _rose(_beyond(late, old), old_count, _beyond(late, new), new_count, LATE_RISE_MIN)


def _beyond(seconds: float, counts: Sequence[int]) -> float:
    """Return how many took longer; where in its bucket a request is, nobody knows.

    So of the bucket that this is in, the same part counts as of its width. Were it none, to go from
    1 ms to 20 ms would be no rise by 10 ms; were it all, those that hardly changed would be late.
    """
    bucket = bisect_left(LATENCY_BOUNDS, seconds)
    if bucket == len(LATENCY_BOUNDS):
        return 0
    lower, upper = (0.0, *LATENCY_BOUNDS)[bucket : bucket + 2]
    part = (upper - seconds) / (upper - lower)
    return part * counts[bucket] + sum(counts[bucket + 1 :])


def _deviations(old_events: float, old_count: int, new_events: float, new_count: int) -> float:
    """Return how far apart two shares are, in standard deviations of what chance does."""
    pooled = (old_events + new_events) / (old_count + new_count)
    spread = sqrt(pooled * (1 - pooled) * (1 / old_count + 1 / new_count))
    return (new_events / new_count - old_events / old_count) / spread if spread else 0.0


def _all(traffic: Traffic) -> UpstreamTraffic:
    return reduce(add, traffic.upstreams.values(), UpstreamTraffic())


def _share_text(old_events: int, old_count: int, new_events: int, new_count: int) -> str:
    before = "nothing to compare with before"
    if old_count >= SAMPLE_MIN:
        before = f"{100 * old_events / old_count:.1f} % of {old_count} before"
    return f"{100 * new_events / new_count:.1f} % ({before}) of {new_count}"
