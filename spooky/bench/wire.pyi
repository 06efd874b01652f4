"""Sockets and time for the load generator: a bare loop over epoll and one timer wheel."""

from collections.abc import Callable
from typing import Protocol

from spooky.protocol.quic.session import Address, QuicSession

class Driver(Protocol):
    """Who handles a session and has to know the time before each call of it."""

    now: float

class Loop:
    """Waits for datagrams and timers."""

    def add(self, wire: Wire) -> None:
        """Wait for a wire's datagrams."""

    def remove(self, wire: Wire) -> None:
        """Wait for a wire no more."""

    @staticmethod
    def now() -> float:
        """Return the time."""

    def turn(self, until: float) -> float:
        """Wait for something to happen, at most until a time, and handle it; return the time."""

    def close(self) -> None:
        """Close every wire, and stop waiting."""

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
        fileno: The socket's descriptor; negative once it is closed.
    """

    first: bytes
    error: str
    fileno: int

    def __init__(
        self,
        loop: Loop,
        session: QuicSession,
        driver: Driver,
        address: Address,
        after: Callable[[Wire], None] | None = None,
    ) -> None: ...
    def on_readable(self) -> None:
        """Deliver what came."""

    def settle(self, now: float) -> None:
        """Send what is pending, and set the timer."""

    def close(self) -> None:
        """Let go of the socket."""
