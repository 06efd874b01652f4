"""Limits on client connections: how many, how many half-open, how fast, and from whom."""

from dataclasses import dataclass
from typing import Final

from spooky._core.arrivals import SECOND, Cap, Rate
from spooky._core.shared import Segment
from spooky.observe.counters import Counters
from spooky.overload.places import shared_places

BURST_MAX: Final = 1 << 62
"""Time that a bucket may save up; nanoseconds, so that a sum of two fits a word of the segment."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast new connections may come, or whatever else is counted by where it comes from.

    Attributes:
        per_second: From everywhere.
        burst: At once, from everywhere.
        source_per_second: From one source.
        source_burst: At once, from one source.
    """

    per_second: float
    burst: float
    source_per_second: float
    source_burst: float


class ConnectionRate(Rate):
    """The rate of new connections, over all listeners of all workers.

    Arguments:
        limits: How fast they may come.
        segment: What the workers share.
    """

    __slots__ = ()

    def __init__(self, limits: RateLimits, segment: Segment) -> None:
        super().__init__(segment)
        self.use(limits)

    def use(self, limits: RateLimits) -> None:
        """Go by other limits; what was counted stays."""
        self.set_buckets(
            bucket(limits.per_second, limits.burst),
            bucket(limits.source_per_second, limits.source_burst),
        )


def bucket(per_second: float, burst: float) -> tuple[int, int]:
    """Return the time in which one token comes, in nanoseconds, and the burst."""
    interval = max(1, round(SECOND / per_second))
    return interval, min(int(burst), BURST_MAX // interval)


class ConnectionCap(Cap):
    """The connections of one transport, of which there is a most.

    Arguments:
        counters: The worker's.
        transport: ``quic`` or ``tcp``.
        maximum: Connections, half-open ones included.
        half_open_maximum: Connections whose handshake is under way.
    """

    __slots__ = ()

    def __init__(
        self, counters: Counters, transport: str, maximum: int, half_open_maximum: int
    ) -> None:
        super().__init__(
            shared_places(counters, "connections", transport),
            shared_places(counters, "half-open connections", transport),
            counters.values,
            counters.slot("connections_active", {"transport": transport}),
        )
        self.maximum = maximum
        self.half_open_maximum = half_open_maximum


def address_text(address: str) -> bytes:
    """Return an address as logs and ``Forwarded`` show it: mapped IPv4 as IPv4, no zone."""
    address = address.partition("%")[0]
    return address.removeprefix("::ffff:").encode() if "." in address else address.encode()
