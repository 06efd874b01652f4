"""A simulated network between two QUIC endpoints: seeded, with its own clock, no sockets.

    network = Network(seed=7, link=Link(loss=0.1))
    network.add_client(session, CLIENT, SERVER)
    network.add_server(SERVER, accept)  # accept(header, peer, now) -> session, on the first Initial
    assert network.run(until=lambda: done, seconds=30)

Sessions are anything with the shape of ``spooky.protocol.quic.session.QuicSession``. What happens
depends only on the seed, so a failure is replayed with the number it printed.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

from spooky.protocol.quic.packet import PacketHeader, parse_header
from spooky.protocol.quic.session import Address, Datagram, QuicSession

CLIENT: Address = ("192.0.2.1", 50000)
SERVER: Address = ("198.51.100.1", 443)

START = 1000.0
"""Seconds on the clock at first; not zero, lest a forgotten time look right."""

TIMER_STEP = 0.001
"""How late a timer that is already due fires, as in an event loop; seconds."""

Accept = Callable[[PacketHeader, Address, float], QuicSession]


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
        rate: Bytes per second; unlimited if ``None``.
    """

    latency: float = 0.010
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate: float | None = None


@dataclass
class Host:
    """An endpoint on the network.

    Attributes:
        address: Where datagrams to it go, and from where its own come.
        peer: Where those of a client go; a server answers where its session says.
        accept: Makes a server's session.
        session: Its session, if there is one.
        received: Datagrams that arrived.
    """

    address: Address
    accept: Accept | None = None
    session: QuicSession | None = None
    received: list[Datagram] = field(default_factory=list)

    def deliver(self, batch: list[Datagram], now: float) -> None:
        self.received += batch
        if self.accept is not None and (self.session is None or self.session.terminated):
            header = parse_header(batch[0].payload)
            if header is None or not header.is_initial:
                return
            self.session = self.accept(header, batch[0].source, now)
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
    """

    def __init__(self, seed: int, link: Link | None = None) -> None:
        self.now = START
        self.link = link or Link()
        self.grain = 0.0
        self.sent: list[tuple[float, Address, Address, bytes]] = []
        self.drop: Callable[[Address, bytes], bool] = lambda source, payload: False
        self._random = random.Random(seed)
        self._hosts: list[Host] = []
        self._order = itertools.count()
        self._flying: list[tuple[float, int, Address, Datagram]] = []
        self._free_at: dict[Address, float] = {}

    def add_client(self, session: QuicSession, address: Address = CLIENT) -> Host:
        """Attach a client's session."""
        self._hosts.append(Host(address, session=session))
        return self._hosts[-1]

    def add_server(self, accept: Accept, address: Address = SERVER) -> Host:
        """Attach a server, which makes one session, on the first valid Initial it gets."""
        self._hosts.append(Host(address, accept=accept))
        return self._hosts[-1]

    def rebind(self, host: Host, address: Address) -> None:
        """Give a host another address, as a NAT does; what flies to the old one is lost."""
        host.address = address

    def send(self, payload: bytes, source: Address, destination: Address) -> None:
        """Put a datagram on the link; tests may forge one."""
        self.sent.append((self.now, source, destination, payload))
        link, chance = self.link, self._random.random
        lost = chance() < link.loss or self.drop(source, payload)
        copies = 2 if chance() < link.duplicate else 1
        if chance() < link.corrupt:
            payload = self._corrupted(payload)
        for _ in range(copies):
            delay = link.latency + link.jitter * chance()
            if chance() < link.reorder:
                delay += 2 * link.latency
            if not lost:
                arrival = self._served_at(self._departure(source, len(payload)) + delay)
                entry = (arrival, next(self._order), destination, Datagram(payload, source))
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
            for run in host.session.flush(self.now):
                for start in range(0, len(run.payload), run.segment_size):
                    payload = run.payload[start : start + run.segment_size]
                    self.send(payload, host.address, run.destination)

    def _departure(self, source: Address, size: int) -> float:
        if self.link.rate is None:
            return self.now
        free = max(self.now, self._free_at.get(source, 0.0)) + size / self.link.rate
        self._free_at[source] = free
        return free

    def _corrupted(self, payload: bytes) -> bytes:
        # One draw, whatever the length: signatures vary by a byte or two from run to run.
        position = int(self._random.random() * len(payload))
        changed = bytearray(payload)
        changed[position] ^= self._random.randrange(1, 256)
        return bytes(changed)
