# cython: annotation_typing=False
"""Requests of clients on HTTP/3 streams.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Sequence
from typing import Any, Final

from spooky._core import reasons
from spooky._core.h3 import Connection, RequestStream, SeenStreams
from spooky._core.h3_errors import (
    H3_MESSAGE_ERROR,
    H3_REQUEST_CANCELLED,
    H3_REQUEST_INCOMPLETE,
    H3_REQUEST_REJECTED,
)
from spooky._core.h3_fields import declared_length, field_value
from spooky._core.h3_frames import GOAWAY
from spooky._core.h3_handler import NO_HANDLER
from spooky._core.h3_session import Session
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.priority import Priority
from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]

_PRIORITY = b"priority"


FIRST_REQUEST_ID: Final = 0
"""The first client-initiated bidirectional stream (RFC 9000 section 2.1)."""

_NO_GOAWAY = -1


class ServerConnection(Session):
    """What the requests of a client's connection share; see ``protocol/h3/server.py``.

    Arguments:
        quic: The QUIC session, see ``protocol/quic/session.py``.
        owner: Who owns the connection.
        limits: What the client may send.
        on_stream: Called for each request; returns its handler.

    Attributes:
        on_stream: Called for each request; returns its handler.
        priorities: In which order the client wants its responses.
    """

    def __init__(self, quic: Any, owner: Any, limits: Any, on_stream: Any) -> None:
        Session.__init__(self, quic, owner, limits)
        self.on_stream = on_stream
        self.priorities: Any = None
        self._seen = SeenStreams(FIRST_REQUEST_ID)
        # From which request on none is served; negative until that is said.
        self._goaway = _NO_GOAWAY

    def settle(self) -> None:
        """Make the upcalls that calls put off; refuse requests once the client knows that it ends.

        Those that were on their way when it was told are served (RFC 9114 section 5.2).
        """
        Connection.settle(self)
        if (
            self._shutting_down
            and self._established
            and self._goaway < 0
            and self.quic.all_acknowledged
            and not self._closing
        ):
            self._goaway = self._seen.next_id
            self._send_control(encode_frame(GOAWAY, encode_varint(self._goaway)))

    def _accept(self, stream_id: int) -> RequestStream | None:
        """Return the stream of a new request, unless it comes too late."""
        if not self._seen.is_new(stream_id):
            return None
        self.budget.requests += 1
        signals = None
        early: dict[int, Any] = self.priorities.early
        if len(early) > 0:
            signals = early.pop(stream_id, None)
        stream = ServerStream(self, stream_id, signals)
        self._requests[stream_id] = stream
        if self._goaway >= 0 and stream_id >= self._goaway:
            stream.reject(reasons.DRAINING, H3_REQUEST_REJECTED)
            return None
        return stream


class ServerStream(RequestStream):
    """A request of a client.

    Arguments:
        connection: The server's session, see ``protocol/h3/server.py``.
        stream_id: Its QUIC stream.
        signals: What was said about its priority before its head came; ``None`` if nothing.
    """

    def __init__(self, connection: ServerConnection, stream_id: int, signals: Any) -> None:
        self._begin(connection, stream_id, NO_HANDLER)
        self.signals = signals
        self._session = connection

    def send_head(self, fields: Sequence[Field], end: bool) -> None:
        """Send the head, whose priority counts if a body follows; ``end`` says that none does."""
        if not end:
            value = field_value(fields, _PRIORITY)
            if value is not None:
                self._session.priorities.override(self, value)
        self._send_fields(fields, end)

    def unsent(self) -> int:
        """Return how much of what was sent the client has not acknowledged; bytes."""
        held = 0 if self._held is None else sum(map(len, self._held))
        unacknowledged: int = self._quic.unacknowledged(self._stream_id)
        return held + unacknowledged

    def taken_beside(self) -> int:
        """Return what the client took on the connection; negative if it holds this stream up."""
        if self._quic.is_held_up(self._stream_id):
            return -1
        acknowledged: int = self._quic.acknowledged
        return acknowledged

    def prioritize(self, priority: Priority) -> None:
        """Send with this priority from now on."""
        self._quic.set_priority(self._stream_id, priority[0], priority[1])

    def peer_stopped(self) -> None:
        """Learn that the client does not want the response, so nothing.

        Raises:
            ProtocolError: It changed its mind too often.
        """
        if self._sending:
            self._sending = False
            self.fail(reasons.CLIENT_RESET, H3_REQUEST_CANCELLED)

    def reject(self, reason: Reason, error_code: int) -> None:
        """Reset a request whose head was not delivered.

        Raises:
            ProtocolError: The client caused too many of these.
        """
        handler = self._session.on_stream(self)
        self._abort(error_code)
        handler.on_reset(reason)
        self._session.budget.spend_abort()

    def _take_head(self, fields: list[Field], end: bool) -> None:
        """Deliver the head to a new handler."""
        self._content_length = declared_length(fields)
        if end and self._content_length > 0:
            # Nothing of it may reach a backend (attack 27).
            self.reject(reasons.CONTENT_LENGTH_MISMATCH, H3_MESSAGE_ERROR)
            return
        connection = self._session
        value = field_value(fields, _PRIORITY)
        if value is not None or connection.priorities.signalled:
            connection.priorities.begin(self, value)
        self.handler = connection.on_stream(self)
        self._deliver_head(fields, end)

    def _refuse_head(self, reason: Reason) -> None:
        """Answer in the handler's place, as no head can be delivered."""
        handler = self._session.on_stream(self)
        body = reason.text.encode() + b"\n"
        fields = [
            (b":status", b"%d" % reason.status),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        self._send_fields(fields, False)
        self.send_data(body, True)
        self.stop_receiving()
        handler.on_reset(reason)
        self._session.budget.spend_abort()

    def _end_without_head(self) -> None:
        self.reject(reasons.CLIENT_PROTOCOL_ERROR, H3_REQUEST_INCOMPLETE)

    def fail(self, reason: Reason, error_code: int) -> None:
        """End the stream for what the client did, and tell its handler.

        Raises:
            ProtocolError: The client caused too many of these.
        """
        self._abort(error_code).on_reset(reason)
        self._session.budget.spend_abort()

    def _reset_reason(self, error_code: int) -> Reason:
        return reasons.CLIENT_RESET

    def _reset_code(self, reason: Reason) -> int:
        return reason.h3_error
