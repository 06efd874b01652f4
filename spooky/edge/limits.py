"""Limits on client connections: how many, how many half-open, how fast, and from whom."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from spooky._core import reasons
from spooky._core.balance import hash_key
from spooky._core.reasons import Reason
from spooky._core.shared import Segment
from spooky.observe.counters import Counters
from spooky.overload.places import shared_places

SECOND: Final = 1_000_000_000
"""In nanoseconds."""

BURST_MAX: Final = 1 << 62
"""Time that a bucket may save up; nanoseconds, so that a sum of two fits a word of the segment."""

ALL_SOURCES: Final = hash_key(b"rate of new connections")
"""The bucket for connections from everywhere."""

IPV6_SOURCE_PREFIX: Final = 64
"""One customer usually holds at least a /64, so addresses within it are one source."""


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


class ConnectionRate:
    """The rate of new connections, over all listeners of all workers.

    Arguments:
        limits: How fast they may come.
        segment: What the workers share.
    """

    def __init__(self, limits: RateLimits, segment: Segment) -> None:
        self._segment = segment
        self.use(limits)

    def use(self, limits: RateLimits) -> None:
        """Go by other limits; what was counted stays."""
        self._all = bucket(limits.per_second, limits.burst)
        self._source = bucket(limits.source_per_second, limits.source_burst)

    def admit(self, address: str, now: float) -> Reason | None:
        """Count a new connection; return why it is refused, or ``None``."""
        nanoseconds = int(now * SECOND)
        key = hash_key(source_of(address).encode())
        if not self._segment.take_source_rate(key, nanoseconds, *self._source):
            return reasons.SOURCE_CONNECTION_RATE
        if not self._segment.take_rate(ALL_SOURCES, nanoseconds, *self._all):
            return reasons.NEW_CONNECTION_RATE
        return None


def bucket(per_second: float, burst: float) -> tuple[int, int]:
    """Return the time in which one token comes, in nanoseconds, and the burst."""
    interval = max(1, round(SECOND / per_second))
    return interval, min(int(burst), BURST_MAX // interval)


class ConnectionCap:
    """How many connections of one transport are open, and how many of them half-open.

    The limits are for all workers together; what is counted here is this worker's.

    Arguments:
        counters: The worker's.
        transport: ``quic`` or ``tcp``.
        maximum: Connections, half-open ones included.
        half_open_maximum: Connections whose handshake is under way.
    """

    def __init__(
        self, counters: Counters, transport: str, maximum: int, half_open_maximum: int
    ) -> None:
        self.maximum = maximum
        self.half_open_maximum = half_open_maximum
        self.active = 0
        self.half_open = 0
        self._places = shared_places(counters, "connections", transport)
        self._half_open_places = shared_places(counters, "half-open connections", transport)
        self._values = counters.values
        self._gauge = counters.slot("connections_active", {"transport": transport})

    @property
    def share(self) -> float:
        """Which share of the connections that may be open are, in all workers."""
        return self._places.total / self.maximum

    @property
    def half_open_share(self) -> float:
        """Which share of the half-open connections that may be are, in all workers."""
        return self._half_open_places.total / self.half_open_maximum

    def open(self) -> Reason | None:
        """Count a connection, half-open at first; return why it is refused, or ``None``."""
        if not self._places.take(self.maximum):
            return reasons.CONNECTION_CAP
        if not self._half_open_places.take(self.half_open_maximum):
            self._places.give()
            return reasons.HALF_OPEN_CAP
        self.active += 1
        self.half_open += 1
        self._values[self._gauge] += 1
        return None

    def established(self) -> None:
        """Count a handshake as complete."""
        self.half_open -= 1
        self._half_open_places.give()

    def closed(self, was_established: bool) -> None:
        """Count a connection as gone."""
        self.active -= 1
        self._places.give()
        self._values[self._gauge] -= 1
        if not was_established:
            self.established()


def source_of(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or an IPv6 prefix."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    shift = 128 - IPV6_SOURCE_PREFIX
    return f"{int(parsed) >> shift:x}/{IPV6_SOURCE_PREFIX}"


def address_text(address: str) -> bytes:
    """Return an address as logs and ``Forwarded`` show it: mapped IPv4 as IPv4, no zone."""
    address = address.partition("%")[0]
    return address.removeprefix("::ffff:").encode() if "." in address else address.encode()
