# cython: annotation_typing=False
"""Requests of clients on HTTP/3 streams.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Sequence
from typing import Any

from spooky._core import reasons
from spooky._core.h3 import NO_HANDLER, RequestStream
from spooky._core.h3_errors import (
    H3_MESSAGE_ERROR,
    H3_REQUEST_CANCELLED,
    H3_REQUEST_INCOMPLETE,
)
from spooky._core.h3_fields import declared_length, field_value
from spooky._core.priority import Priority
from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]

_PRIORITY = b"priority"


class ServerStream(RequestStream):
    """A request of a client.

    Arguments:
        connection: The server's session, see ``protocol/h3/server.py``.
        stream_id: Its QUIC stream.
        signals: What was said about its priority before its head came; ``None`` if nothing.
    """

    def __init__(self, connection: Any, stream_id: int, signals: Any) -> None:
        RequestStream.__init__(self, connection, stream_id, NO_HANDLER)
        self.signals = signals
        self._session = connection

    def send_head(self, fields: Sequence[Field], end: bool) -> None:
        """Send the head, whose priority counts if a body follows; ``end`` says that none does."""
        if not end:
            value = field_value(fields, _PRIORITY)
            if value is not None:
                self._session.priorities.override(self, value)
        self._send_fields(fields, end)

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
