# cython: annotation_typing=False
"""How many client connections there are, how many of them half-open, and how fast they come.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What the limits are is
said in ``edge/limits.py``, whose classes extend those here.
"""

import ipaddress
from abc import abstractmethod
from typing import Any, Final

from spooky._core.balance import hash_key
from spooky._core.gate import Places
from spooky._core.reasons import (
    CONNECTION_CAP,
    HALF_OPEN_CAP,
    NEW_CONNECTION_RATE,
    SOURCE_CONNECTION_RATE,
    Reason,
)
from spooky._core.shared import Segment

SECOND: Final = 1_000_000_000
"""In nanoseconds."""

IPV6_SOURCE_PREFIX: Final = 64
"""One customer usually holds at least a /64, so addresses within it are one source."""

HALF_OPEN_ON: Final = 0.25
"""Which share of the half-open connections there may be is a flood: clients that go on leave theirs
within a round trip, so even a rush of them takes few at a time."""

ATTEMPTS_ON: Final = 0.5
"""Which share of the rate of new connections is a flood, counted over all listeners and workers."""

ATTEMPTS_OFF: Final = 0.25
"""Below which share of it that is over: a flood goes on though it gets nothing."""

WINDOW_SECONDS: Final = 1.0
"""For which time attempts may come at once, and how often it is looked whether it is calm."""

NOTED_MAX: Final = 4096
"""Attempts that are remembered: a client that sends its first packet again makes no other one."""

# C numbers: in nanoseconds; the buckets for connections from everywhere and for attempts; and
# those above, which are objects.
_SECOND = 1e9
_ALL_SOURCES = hash_key(b"rate of new connections")
_ON = hash_key(b"attempts that begin a flood")
_OFF = hash_key(b"attempts that go on with a flood")
_HALF_OPEN_ON = HALF_OPEN_ON
_ATTEMPTS_ON = ATTEMPTS_ON
_ATTEMPTS_OFF = ATTEMPTS_OFF
_WINDOW_SECONDS = WINDOW_SECONDS
_NOTED_MAX = NOTED_MAX


class Rate:
    """How fast connections begin, over all listeners of all workers.

    Arguments:
        segment: What the workers share.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._interval = self._burst = self._source_interval = self._source_burst = 1

    def set_buckets(self, everywhere: tuple[int, int], source: tuple[int, int]) -> None:
        """Go by these; what was counted stays.

        Arguments:
            everywhere: In which time one connection more may come, in nanoseconds, and how many at
                once.
            source: The same from one source.
        """
        self._interval, self._burst = everywhere
        self._source_interval, self._source_burst = source

    def admit(self, address: str, now: float) -> Reason | None:
        """Count a new connection; return why it is refused, or ``None``."""
        nanoseconds = int(now * _SECOND)
        key = hash_key(source_of(address).encode())
        if not self._segment.take_source_rate(
            key, nanoseconds, self._source_interval, self._source_burst
        ):
            return SOURCE_CONNECTION_RATE
        if not self._segment.take_rate(_ALL_SOURCES, nanoseconds, self._interval, self._burst):
            return NEW_CONNECTION_RATE
        return None


class Cap:
    """How many connections of one transport are open, and how many of them half-open.

    The limits are for all workers together; what is counted here is this worker's.

    Arguments:
        places: Of connections.
        half_open: Of those whose handshake is under way.
        values: The worker's numbers.
        gauge: Which of them says how many connections there are.

    Attributes:
        maximum: Connections, half-open ones included.
        half_open_maximum: Connections whose handshake is under way.
        active: Connections of this worker.
        half_open: Those of them that are half-open.
    """

    def __init__(self, places: Places, half_open: Places, values: Any, gauge: int) -> None:
        self.maximum = 0
        self.half_open_maximum = 0
        self.active = 0
        self.half_open = 0
        self._places = places
        self._half_open_places = half_open
        self._values = values
        self._gauge = gauge

    @property
    def share(self) -> float:
        """Which share of the connections that may be open are, in all workers."""
        return self._places.taken() / self.maximum

    @property
    def half_open_share(self) -> float:
        """Which share of the half-open connections that may be are, in all workers."""
        return self._half_open_places.taken() / self.half_open_maximum

    def open(self) -> Reason | None:
        """Count a connection, half-open at first; return why it is refused, or ``None``."""
        if not self._places.take(self.maximum):
            return CONNECTION_CAP
        if not self._half_open_places.take(self.half_open_maximum):
            self._places.give()
            return HALF_OPEN_CAP
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


class Attempts:
    """Attempts to begin connections, of all listeners and workers, and whether they are a flood.

    Arguments:
        segment: What the workers share.
        cap: Which connections there are.

    Attributes:
        is_on: Whether new clients have to prove their address.
    """

    def __init__(self, segment: Segment, cap: Cap) -> None:
        self.is_on = False
        self._segment = segment
        self._cap = cap
        self._noted: set[bytes] = set()
        self._stormy_at = 0.0

    @abstractmethod
    def _turn(self, on: bool, now: float) -> None:
        """Begin or cease to have clients prove their address."""

    def note_attempt(self, connection_id: bytes, now: float, rate: float) -> bool:
        """Count an attempt of a client to begin; return whether it has to prove its address.

        Arguments:
            connection_id: What the client chose for its first packets; each counts once.
            now: Seconds on the monotonic clock.
            rate: How many connections may begin in a second.
        """
        if connection_id in self._noted:
            return self.is_on
        if len(self._noted) >= _NOTED_MAX:
            self._noted.clear()
        self._noted.add(connection_id)
        # Both each time: other workers may be on when this one is off.
        is_flood = not self._may_come(_ON, _ATTEMPTS_ON * rate, now)
        is_calm = self._may_come(_OFF, _ATTEMPTS_OFF * rate, now)
        if self.is_on and not is_calm:
            self._stormy_at = now
        if not self.is_on and (is_flood or self._cap.half_open_share >= _HALF_OPEN_ON):
            self._turn(True, now)
        return self.is_on

    def _may_come(self, key: int, rate: float, now: float) -> bool:
        """Count an attempt of those of all workers; return whether they stay within a rate."""
        burst = int(rate * _WINDOW_SECONDS)
        interval = int(_SECOND / rate)
        return self._segment.take_rate(
            key, int(now * _SECOND), interval if interval > 1 else 1, burst if burst > 1 else 1
        )


def source_of(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or an IPv6 prefix."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    shift = 128 - IPV6_SOURCE_PREFIX
    return f"{int(parsed) >> shift:x}/{IPV6_SOURCE_PREFIX}"
