"""Sockets and time for the load generator: a bare loop over epoll and one timer wheel."""

import select
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from spooky._core.timers import Timer, TimerWheel
from spooky._core.udp import UdpSocket
from spooky.protocol.quic.session import Address, QuicSession

DATAGRAMS_PER_TURN: Final = 256
"""Datagrams read from a socket before the next has its turn."""

BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked of the kernel for each socket, so that a burst of the proxy is not lost at its client."""

TICK: Final = 0.001
"""Resolution of timers, that of ``epoll_wait``; seconds."""

IDLE_WAIT: Final = 0.1
"""Longest wait for a datagram; seconds."""


class Driver(Protocol):
    """Who handles a session and has to know the time before each call of it."""

    now: float


class Loop:
    """Waits for datagrams and timers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self.wheel = TimerWheel(time.monotonic(), TICK)

    def add(self, wire: "Wire") -> None:
        """Wait for a wire's datagrams."""
        self._wires[wire.fileno] = wire
        self._epoll.register(wire.fileno, select.EPOLLIN)

    def remove(self, wire: "Wire") -> None:
        """Wait for a wire no more."""
        del self._wires[wire.fileno]
        self._epoll.unregister(wire.fileno)

    @staticmethod
    def now() -> float:
        """Return the time."""
        return time.monotonic()

    def turn(self, until: float) -> float:
        """Wait for something to happen, at most until a time, and handle it; return the time."""
        wheel = self.wheel
        now = time.monotonic()
        due = wheel.next_deadline()
        wait = min(until, now + IDLE_WAIT if due is None else due) - now
        wires = self._wires
        for fd, _ in self._epoll.poll(max(wait, 0.0)):
            wire = wires.get(fd)
            if wire is not None:
                wire.on_readable()
        now = time.monotonic()
        wheel.advance(now)
        return now

    def close(self) -> None:
        """Close every wire, and stop waiting."""
        for wire in list(self._wires.values()):
            wire.close()
        self._epoll.close()


class Wire:
    """A client's socket and timer.

    Arguments:
        loop: Waits for it.
        session: Whose datagrams it carries.
        driver: The session's handler.
        address: Where the server is.
        after: Called after each call of the session, before what it has to say is sent.

    Attributes:
        first: The first datagram that came.
        error: What the kernel last said of the way to the server, such as that nobody listens.
    """

    __slots__ = (
        "_after", "_driver", "_loop", "_session", "_socket", "_timer", "_udp", "error", "first",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        session: QuicSession,
        driver: Driver,
        address: Address,
        after: Callable[["Wire"], None] | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._socket.connect(address)
        self._udp = UdpSocket(self._socket.fileno(), family)
        self._session = session
        self._driver = driver
        self._loop = loop
        self._after = after
        self._timer: Timer | None = None
        self.first = b""
        self.error = ""
        loop.add(self)

    @property
    def fileno(self) -> int:
        """The socket's descriptor; negative once it is closed."""
        return self._socket.fileno()

    def on_readable(self) -> None:
        """Deliver what came."""
        try:
            batch = self._udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            # Refused or unreachable: to QUIC, lost packets; its handshake or idle timer decides.
            self.error = error.strerror or str(error)
            return
        if not batch:
            return
        if not self.first:
            self.first = batch[0][0]
        self._driver.now = now = time.monotonic()
        self._session.receive(batch, now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Send what is pending, and set the timer."""
        if self._after is not None:
            self._after(self)
        if self._socket.fileno() < 0:
            return
        session = self._session
        for payload, segment_size, _, ecn in session.flush(now):
            try:
                # What the kernel has no room for is, to QUIC, lost packets.
                self._udp.send(payload, segment_size, None, ecn)
            except BlockingIOError:
                break
            except OSError as error:
                self.error = error.strerror or str(error)
                break
        deadline = session.deadline()
        timer = self._timer
        if deadline is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._loop.wheel.schedule(deadline, self._on_timer)
        elif timer.deadline != deadline:
            timer.postpone(deadline)

    def close(self) -> None:
        """Let go of the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove(self)
        self._udp.release()
        self._socket.close()

    def _on_timer(self) -> None:
        self._timer = None
        self._driver.now = now = time.monotonic()
        self._session.expire(now)
        self.settle(now)
