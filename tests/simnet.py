"""A simulated network between two QUIC endpoints: seeded, with its own clock, no sockets.

    network = Network(seed=7, link=Link(loss=0.1))
    network.add_client(session, CLIENT, SERVER)
    network.add_server(accept, SERVER)  # accept(datagram, header, now) -> session
    assert network.run(until=lambda: done, seconds=30)

Sessions are anything with the shape of ``spooky.protocol.quic.session.QuicSession``. What happens
depends only on the seed, so a failure is replayed with the number it printed.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from unittest import mock

from spooky.protocol.quic.packet import PacketHeader, parse_header
from spooky.protocol.quic.parameters import DATAGRAM_MAX_SIZE
from spooky.protocol.quic.session import Address, Datagram, QuicSession, Transmit

CLIENT: Address = ("192.0.2.1", 50000)
SERVER: Address = ("198.51.100.1", 443)

START = 1000.0
"""Seconds on the clock at first; not zero, lest a forgotten time look right."""

TIMER_STEP = 0.001
"""How late a timer that is already due fires, as in an event loop; seconds."""

ECN_CAPABLE = (1, 2)
"""ECT(1) and ECT(0) (RFC 3168 section 5)."""

CONGESTION_EXPERIENCED = 3

Accept = Callable[[Datagram, PacketHeader, float], QuicSession | None]
"""Begins a connection for a first datagram; or does not, and may have answered it by itself."""


@dataclass(frozen=True)
class Link:
    """What one direction does to datagrams.

    Attributes:
        latency: One way; seconds.
        jitter: Added latency, at most, uniformly; seconds. More than the spacing of datagrams
            reorders them.
        loss: Share of datagrams lost.
        duplicate: Share of datagrams that arrive twice.
        reorder: Share of datagrams held back by twice the latency.
        corrupt: Share of datagrams with one byte changed.
        rate: Bytes per second, shared by all who send this way; unlimited if ``None``.
        queue: Bytes that may wait for their turn at this rate; what comes on top is lost.
        mtu: Largest UDP payload that passes, larger ones are lost without a word; bytes.
        mark: Share of ECN-capable datagrams that arrive marked CE.
        bleach: Whether ECN bits are cleared on the way.
    """

    latency: float = 0.010
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate: float | None = None
    queue: float = math.inf
    mtu: int = DATAGRAM_MAX_SIZE
    mark: float = 0.0
    bleach: bool = False


DEAD = Link(loss=1.0)
"""Loses everything."""


@dataclass
class Host:
    """An endpoint on the network.

    Attributes:
        address: Where datagrams to it go, and from where its own come.
        peer: Where those of a client go; a server answers where its session says.
        accept: Makes a server's session; asked for each long header while there is none.
        session: Its session, if there is one.
        received: Datagrams that arrived.
    """

    address: Address
    accept: Accept | None = None
    session: QuicSession | None = None
    received: list[Datagram] = field(default_factory=list)

    def deliver(self, batch: list[Datagram], now: float) -> None:
        self.received += batch
        while self.accept is not None and (self.session is None or self.session.terminated):
            if not batch:
                return
            header = parse_header(batch[0].payload)
            if header is not None and header.is_long:
                self.session = self.accept(batch[0], header, now)
            if self.session is None or self.session.terminated:
                batch = batch[1:]
        if self.session is not None:
            self.session.receive(batch, now)


class Network:
    """Two or more hosts, joined by links that misbehave as their seed says.

    Attributes:
        now: The time; seconds.
        link: How datagrams travel; may be changed at any time.
        grain: Hosts are served at multiples of this, as by a busy event loop; seconds. At once
            if 0.
        sent: Every datagram sent, as time, source, destination and payload.
        drop: Says which datagrams are lost besides those the link loses.
        flush: Takes from a session what it has to send; a test may do more on the way.
    """

    def __init__(self, seed: int, link: Link | None = None) -> None:
        self.now = START
        self.link = link or Link()
        self.grain = 0.0
        self.sent: list[tuple[float, Address, Address, bytes]] = []
        self.drop: Callable[[Address, bytes], bool] = lambda source, payload: False
        self.flush: Callable[[QuicSession, float], Sequence[Transmit]] = lambda session, now: (
            session.flush(now)
        )
        self._random = random.Random(seed)
        self._hosts: list[Host] = []
        self._order = itertools.count()
        self._flying: list[tuple[float, int, Address, Datagram]] = []
        self._free_at = {False: 0.0, True: 0.0}

    def add_client(self, session: QuicSession, address: Address = CLIENT) -> Host:
        """Attach a client's session."""
        self._hosts.append(Host(address, session=session))
        return self._hosts[-1]

    def add_server(self, accept: Accept, address: Address = SERVER) -> Host:
        """Attach a server, which makes one session, on the first valid Initial it gets."""
        self._hosts.append(Host(address, accept=accept))
        return self._hosts[-1]

    def join(self, *hosts: Host) -> None:
        """Attach hosts of another network, whose links are these from now on."""
        self._hosts += hosts

    def rebind(self, host: Host, address: Address) -> None:
        """Give a host another address, as a NAT does; what flies to the old one is lost."""
        host.address = address

    def send(self, payload: bytes, source: Address, destination: Address, ecn: int = 0) -> None:
        """Put a datagram on the link; tests may forge one."""
        self.sent.append((self.now, source, destination, payload))
        link, chance = self.link, self._random.random
        lost = chance() < link.loss or self.drop(source, payload) or len(payload) > link.mtu
        if link.bleach:
            ecn = 0
        elif link.mark and ecn in ECN_CAPABLE and chance() < link.mark:
            ecn = CONGESTION_EXPERIENCED
        copies = 2 if chance() < link.duplicate else 1
        if chance() < link.corrupt:
            payload = self._corrupted(payload)
        for _ in range(copies):
            delay = link.latency + link.jitter * chance()
            if chance() < link.reorder:
                delay += 2 * link.latency
            departure = math.inf if lost else self._departure(source, len(payload))
            if departure < math.inf:
                arrival = self._served_at(departure + delay)
                entry = (arrival, next(self._order), destination, Datagram(payload, source, ecn))
                heapq.heappush(self._flying, entry)

    def run(self, until: Callable[[], bool] = lambda: False, seconds: float = 60.0) -> bool:
        """Let time pass until a condition holds.

        Args:
            until: The condition; checked after every event.
            seconds: How long to wait for it, in simulated time.

        Returns:
            Whether it holds.
        """
        end = self.now + seconds
        # What an engine chooses at random is chosen by the seed.
        with mock.patch("secrets.randbelow", self._random.randrange):
            self._flush()
            while not until():
                upcoming = self._next_time()
                if upcoming is None or upcoming > end:
                    self.now = end
                    return until()
                self.now = upcoming
                self._deliver()
                self._expire()
                self._flush()
        return True

    def _next_time(self) -> float | None:
        times = [self._flying[0][0]] if self._flying else []
        for host in self._hosts:
            if host.session is not None:
                deadline = host.session.deadline()
                if deadline is not None:
                    times.append(max(self._served_at(deadline), self.now + TIMER_STEP))
        return min(times, default=None)

    def _served_at(self, time: float) -> float:
        return math.ceil(time / self.grain - 1e-6) * self.grain if self.grain else time

    def _deliver(self) -> None:
        batches: dict[Address, list[Datagram]] = {}
        while self._flying and self._flying[0][0] <= self.now:
            _, _, destination, datagram = heapq.heappop(self._flying)
            batches.setdefault(destination, []).append(datagram)
        for host in self._hosts:
            batch = batches.get(host.address)
            if batch:
                host.deliver(batch, self.now)

    def _expire(self) -> None:
        for host in self._hosts:
            if host.session is not None:
                deadline = host.session.deadline()
                if deadline is not None and deadline <= self.now:
                    host.session.expire(self.now)

    def _flush(self) -> None:
        for host in self._hosts:
            if host.session is None:
                continue
            for run in self.flush(host.session, self.now):
                for start in range(0, len(run.payload), run.segment_size):
                    payload = run.payload[start : start + run.segment_size]
                    self.send(payload, host.address, run.destination, run.ecn)

    def _departure(self, source: Address, size: int) -> float:
        """Return when a datagram has left the queue of its direction; never, if that is full."""
        rate = self.link.rate
        if rate is None:
            return self.now
        downwards = any(host.accept is not None and host.address == source for host in self._hosts)
        free = max(self.now, self._free_at[downwards])
        if (free - self.now) * rate + size > self.link.queue:
            return math.inf
        self._free_at[downwards] = free + size / rate
        return self._free_at[downwards]

    def _corrupted(self, payload: bytes) -> bytes:
        # One draw, whatever the length: signatures vary by a byte or two from run to run.
        position = int(self._random.random() * len(payload))
        changed = bytearray(payload)
        changed[position] ^= self._random.randrange(1, 256)
        return bytes(changed)
