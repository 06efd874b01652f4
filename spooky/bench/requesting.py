"""Loads that consist of requests: in a closed loop, or in an open one at a fixed rate."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from spooky.bench.counting import CountingClient, Tally
from spooky.bench.slow import SlowReaders

PROGRESS_SECONDS: Final = 0.5
"""How often progress is told."""

DRAIN_SECONDS: Final = 2.0
"""Time for an open loop's last responses, so that one that is only late has its whole latency."""


class Clock(Protocol):
    """What passes time: :class:`~spooky.bench.wire.Loop`."""

    def now(self) -> float:
        """Return the time."""

    def turn(self, until: float) -> float:
        """Wait for something to happen, at most until a time, and handle it; return the time."""


class Carrier(Protocol):
    """What carries a client's session: :class:`~spooky.bench.wire.Wire`."""

    def settle(self, now: float) -> None:
        """Send what is pending."""


class Arrivals:
    """When requests of an open loop are due: evenly, whatever became of those before.

    Latency counts from when a request was due, not from when it could be sent. Otherwise a server
    that stalls would also stall the measuring of how long it stalled (coordinated omission).

    Arguments:
        rate: Requests in a second.
        begin: When the first is due.
    """

    def __init__(self, rate: float, begin: float) -> None:
        self._rate = rate
        self._begin = begin
        self._number = 0

    @property
    def next_at(self) -> float:
        """When the next is due."""
        return self._begin + self._number / self._rate

    def due(self, now: float) -> list[tuple[int, float]]:
        """Return the number and the due time of each that is due and was not yet returned."""
        found = []
        while (intended := self.next_at) <= now:
            found.append((self._number, intended))
            self._number += 1
        return found


class Requesting:
    """Makes requests on connections that are established.

    In an open loop each request that is due while it is measured is counted exactly once as a
    latency or as an error, and as both if it is unfinished: what a stalled server swallows is not
    missing among the slow ones.

    Arguments:
        clock: Passes time.
        clients: Of each connection.
        wires: Of each connection.
        tally: Where the clients count.
        rate: Requests begun in a second, all together (open loop); 0 for a closed loop.
        slow: Clients that read slowly meanwhile.
    """

    def __init__(
        self,
        clock: Clock,
        clients: Sequence[CountingClient],
        wires: Sequence[Carrier],
        tally: Tally,
        rate: float = 0.0,
        slow: SlowReaders | None = None,
    ) -> None:
        self._clock = clock
        self._clients = clients
        self._wires = wires
        self._tally = tally
        self._slow = slow
        self._arrivals = Arrivals(rate, clock.now()) if rate else None

    def measure(self) -> None:
        """Count from now on, and nothing of what was due before."""
        if self._arrivals is not None:
            self._tally.reset(self._clock.now())
            return
        self._tally.reset()
        for client in self._clients:
            if client.closed is not None:
                self._tally.count_error("the connection ended before it was measured")

    def pass_time(self, seconds: float, progress: Callable[[float], None]) -> None:
        """Go on for a while; ``progress`` hears now and then how long it has been."""
        now = begun = self._clock.now()
        end = begun + seconds
        report_at = begun + PROGRESS_SECONDS
        while now < end:
            until = end
            if self._slow is not None:
                self._slow.read(now)
                until = min(until, self._slow.next_at)
            self._offer(now)
            if self._arrivals is not None:
                until = min(until, self._arrivals.next_at)
            now = self._clock.turn(until)
            if now >= report_at:
                report_at += PROGRESS_SECONDS
                progress(now - begun)
        # Whatever kept us busy, what was due by then was to be asked for.
        self._offer(end)

    def drain(self) -> None:
        """End an open loop: wait for responses that are late, and count those that do not come."""
        if self._arrivals is None:
            return
        now = self._clock.now()
        until = now + DRAIN_SECONDS
        while now < until and any(client.unanswered for client in self._clients):
            now = self._clock.turn(until)
        for client in self._clients:
            client.now = now
            client.give_up()

    def _offer(self, now: float) -> None:
        """Make the requests of an open loop that are due."""
        if self._arrivals is None:
            return
        for number, intended in self._arrivals.due(now):
            which = number % len(self._clients)
            self._clients[which].now = now
            self._clients[which].offer(intended)
            self._wires[which].settle(now)
