"""What a session over a byte stream (HTTP/1.1, HTTP/2) offers to its transport, in both roles.

A session does no I/O and has no clock. The transport feeds it bytes, asks it what to write, and
tells it when the socket can take more; time is an argument.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from spooky._core.reasons import Reason
from spooky.protocol.stream import Stream, StreamHandler

OnStream: TypeAlias = Callable[[Stream], StreamHandler]
"""Called by a server session for each new request, before its head is delivered."""

Wake: TypeAlias = Callable[[], None]
"""Called by a session when output became pending outside ``receive``; idempotent and cheap."""


class ByteSession(Protocol):
    """A protocol session over an ordered byte stream.

    Attributes:
        closed: Nothing more will be received or sent: write what ``transmit`` still returns,
            then close the transport. ``close_reason`` says why.
        close_reason: Why the session closed; ``None`` while it is open.
        want_read: False while received data waits for credit and the peer cannot be held back
            otherwise (HTTP/1.1): stop reading from the socket. May change in any call;
            a change to true outside ``receive`` is announced by ``wake``.
        active_streams: Number of streams that have not ended.
    """

    closed: bool
    close_reason: Reason | None
    want_read: bool
    active_streams: int

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer and make the upcalls they cause."""

    def receive_eof(self, *, clean: bool = True) -> None:
        """Learn that the peer will send no more bytes.

        Arguments:
            clean: Whether it is sure that none were cut off: TLS says so by close_notify
                (RFC 8446 section 6.1).
        """

    def transmit(self) -> bytes:
        """Return what to write now; empty if nothing, or if told not to write."""

    def set_transport_writable(self, writable: bool) -> None:
        """Learn whether the socket's write buffer has room."""

    def shutdown(self) -> None:
        """Finish gracefully: no new streams (GOAWAY, ``Connection: close``), end what is open."""

    def terminate(self, reason: Reason) -> None:
        """Close now, telling the peer; streams still open get ``on_reset(reason)``."""

    def connection_lost(self, reason: Reason) -> None:
        """Learn that the transport is gone; streams still open get ``on_reset(reason)``."""


class ClientByteSession(ByteSession, Protocol):
    """The client role: the side that opens streams.

    Attributes:
        capacity: How many more streams can be opened now; 0 when closed or shutting down.
        reusable: Whether, once idle, this session may serve another request.
    """

    @property
    def capacity(self) -> int: ...

    @property
    def reusable(self) -> bool: ...

    def open(self, handler: StreamHandler) -> Stream:
        """Open a stream; call only while ``capacity`` is positive."""

    def ping(self, payload: bytes) -> bool:
        """Ask for a sign of life; false if the protocol has none (HTTP/1.1).

        ``unanswered_pings`` counts those not yet answered.
        """

    unanswered_pings: int
