"""A stream: what its user calls, and what its session keeps of it."""

from collections import deque
from typing import TYPE_CHECKING

from spooky._core.priority import Priority
from spooky._core.reasons import Reason
from spooky.protocol.priorities import SHARED, Signals
from spooky.protocol.stream import Fields, StreamHandler

if TYPE_CHECKING:
    from spooky.protocol.h2.session import Session


class Stream:
    """A request/response pair on an HTTP/2 connection.

    Attributes:
        handler: Where upcalls go.
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
        incremental: Whether it takes turns with others of its urgency.
    """

    __slots__ = (
        "backlog", "backlog_bytes", "handler", "head_received", "id", "incremental",
        "informational", "local_ended", "offset", "over", "remote_ended", "session", "signals",
        "trailers", "turn", "unconsumed", "unwanted", "urgency",
    )  # fmt: skip

    handler: StreamHandler
    protocol: str = "h2"

    def __init__(self, session: "Session", stream_id: int) -> None:
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
        self.trailers: Fields | None = None
        self.turn = 0
        self.signals: Signals | None = None
        self.urgency, self.incremental = SHARED

    def prioritize(self, priority: Priority) -> None:
        """Send with this priority from now on."""
        self.urgency, self.incremental = priority

    def send_head(self, fields: Fields, end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""
        if not (self.over or self.local_ended):
            self.session.send_head(self, fields, end)

    def send_informational(self, fields: Fields) -> None:
        """Send a 1xx response head; a client has none to send."""
        if not (self.over or self.local_ended):
            self.session.send_informational(self, fields)

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; see :class:`spooky.protocol.stream.Stream`."""
        if self.over or self.local_ended:
            return True
        return self.session.send_data(self, data, end)

    def send_trailers(self, fields: Fields) -> None:
        """Send trailers, which end this direction."""
        if not (self.over or self.local_ended):
            self.session.send_trailers(self, fields)

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
