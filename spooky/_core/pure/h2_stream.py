# cython: annotation_typing=False
"""An HTTP/2 stream: what its user calls, and what its session keeps of it.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from spooky._core.priority import DEFAULT_URGENCY, Priority
from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]

_URGENCY = DEFAULT_URGENCY


class Owner:
    """What a stream asks of its session."""

    def send_head(self, stream: "Stream", fields: Sequence[Field], end: bool) -> None:
        """Send the head of a stream."""

    def send_informational(self, stream: "Stream", fields: Sequence[Field]) -> None:
        """Send a 1xx response head, if this role has any to send."""

    def send_data(self, stream: "Stream", data: bytes, end: bool) -> bool:
        """Send a piece of a body; return whether more is welcome."""
        return False

    def send_trailers(self, stream: "Stream", fields: Sequence[Field]) -> bool:
        """Send trailers, or just the end; return whether all that was sent is accepted."""
        return False

    def taken_beside(self, stream: "Stream") -> int:
        """Return what the peer took on the connection; negative if it holds the stream up."""
        return 0

    def credit(self, stream_id: int, count: int) -> None:
        """Credit body bytes to the peer that were consumed, or that nobody will consume."""

    def stop_receiving(self, stream: "Stream") -> None:
        """Reset a stream when its own direction is sent, unless the peer ends it before."""

    def reset(self, stream: "Stream", code: int) -> None:
        """Reset a stream."""


class Stream:
    """A request/response pair on an HTTP/2 connection.

    Attributes:
        handler: Where upcalls go.
        protocol: ``h2``.
        id: Its identifier; negative until a client has sent its head.
        over: Whether it was reset or lost: nothing is delivered or accepted.
        local_ended: Whether all that is to be sent has been given.
        remote_ended: Whether the peer sent all of its direction.
        unwanted: Whether what is still received is dropped.
        unconsumed: Body bytes delivered and not yet consumed.
        informational: Count of 1xx heads received.
        head_received: Whether the peer's final head was delivered.
        backlog: Body pieces that wait for their turn or for the peer's window.
        backlog_bytes: Their length together, bytes.
        offset: What is already sent of the first of them, bytes.
        trailers: Trailers to be sent after the backlog.
        turn: In which of the sender's turns it last gave something to the engine.
        signals: What was said about its priority; ``None`` if nothing.
        urgency: From 0, the most urgent, to 7 (RFC 9218).
        incremental: Whether it takes turns with others of its urgency, as all do whose client says
            nothing of priorities.
    """

    def __init__(self, session: Owner, stream_id: int) -> None:
        self.handler: Any = None
        self.protocol = "h2"
        self.session = session
        self.id = stream_id
        self.over = False
        self.local_ended = False
        self.remote_ended = False
        self.unwanted = False
        self.unconsumed = 0
        self.informational = 0
        self.head_received = False
        self.backlog: deque[bytes] | None = None
        self.backlog_bytes = 0
        self.offset = 0
        self.trailers: Sequence[Field] | None = None
        self.turn = 0
        self.signals: Any = None
        self.urgency = _URGENCY
        self.incremental = True

    def prioritize(self, priority: Priority) -> None:
        """Send with this priority from now on."""
        self.urgency = priority[0]
        self.incremental = priority[1]

    def send_head(self, fields: Sequence[Field], end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""
        if not (self.over or self.local_ended):
            self.session.send_head(self, fields, end)

    def send_informational(self, fields: Sequence[Field]) -> None:
        """Send a 1xx response head; a client has none to send."""
        if not (self.over or self.local_ended):
            self.session.send_informational(self, fields)

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; see :class:`spooky.protocol.stream.Stream`."""
        if self.over or self.local_ended:
            return True
        return self.session.send_data(self, data, end)

    def send_trailers(self, fields: Sequence[Field]) -> bool:
        """Send trailers, which end this direction; see :class:`spooky.protocol.stream.Stream`."""
        if self.over or self.local_ended:
            return True
        return self.session.send_trailers(self, fields)

    def unsent(self) -> int:
        """Return how much of the body waits for its turn or for the peer's window; bytes."""
        return self.backlog_bytes

    def taken_beside(self) -> int:
        """Return what the peer took on the connection; negative if it holds this stream up."""
        return self.session.taken_beside(self)

    def consume(self, count: int) -> None:
        """Credit ``count`` delivered body bytes back to the peer."""
        count = min(count, self.unconsumed)
        if count:
            self.unconsumed -= count
            self.session.credit(self.id, count)

    def stop_receiving(self) -> None:
        """Drop what is still received, and reset the stream once our direction ended.

        The code is NO_ERROR for a response that needs no more of its request (RFC 9113
        section 8.1), and CANCEL for a request that wants no more of its response.
        """
        self.consume(self.unconsumed)
        if not (self.over or self.remote_ended):
            self.unwanted = True
            self.session.stop_receiving(self)

    def reset(self, reason: Reason) -> None:
        """End both directions abruptly, with the HTTP/2 error code of ``reason``."""
        if not self.over:
            self.session.reset(self, reason.h2_error)
