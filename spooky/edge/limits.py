"""Limits on client connections: how many, how many half-open, how fast, and from whom."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason

SOURCES_MAX: Final = 4096
"""Sources whose rate is remembered; the one unseen longest is forgotten first."""

IPV6_SOURCE_PREFIX: Final = 64
"""One customer usually holds at least a /64, so addresses within it are one source."""


class TokenBucket:
    """A rate with a burst.

    Arguments:
        rate: Tokens per second.
        burst: Most tokens saved up; what there is at first.
        now: The current time, seconds.
    """

    __slots__ = ("_tokens", "_updated", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._updated = now

    def take(self, now: float) -> bool:
        """Take a token; false if there is none."""
        self._tokens = min(self.burst, self._tokens + (now - self._updated) * self.rate)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast new connections may come.

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
    """The rate of new connections, over all listeners of a worker.

    Arguments:
        limits: How fast they may come.
        now: The current time, seconds.
    """

    def __init__(self, limits: RateLimits, now: float) -> None:
        self._limits = limits
        self._all = TokenBucket(limits.per_second, limits.burst, now)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()

    def admit(self, address: str, now: float) -> Reason | None:
        """Count a new connection; return why it is refused, or ``None``."""
        if not self._bucket(source_of(address), now).take(now):
            return reasons.SOURCE_CONNECTION_RATE
        if not self._all.take(now):
            return reasons.NEW_CONNECTION_RATE
        return None

    def _bucket(self, source: str, now: float) -> TokenBucket:
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = TokenBucket(self._limits.source_per_second, self._limits.source_burst, now)
            self._sources[source] = bucket
            if len(self._sources) > SOURCES_MAX:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(source)
        return bucket


class ConnectionCap:
    """How many connections of one transport are open, and how many of them half-open.

    Arguments:
        maximum: Connections, half-open ones included.
        half_open_maximum: Connections whose handshake is under way.
    """

    def __init__(self, maximum: int, half_open_maximum: int) -> None:
        self.maximum = maximum
        self.half_open_maximum = half_open_maximum
        self.active = 0
        self.half_open = 0

    def admit(self) -> Reason | None:
        """Return why one more connection is refused, or ``None``; counts nothing."""
        if self.active >= self.maximum:
            return reasons.CONNECTION_CAP
        if self.half_open >= self.half_open_maximum:
            return reasons.HALF_OPEN_CAP
        return None

    def opened(self) -> None:
        """Count a connection, half-open at first."""
        self.active += 1
        self.half_open += 1

    def established(self) -> None:
        """Count a handshake as complete."""
        self.half_open -= 1

    def closed(self, was_established: bool) -> None:
        """Count a connection as gone."""
        self.active -= 1
        if not was_established:
            self.half_open -= 1


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
