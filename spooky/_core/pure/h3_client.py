# cython: annotation_typing=False
"""The client role of HTTP/3: requests out, responses in.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from collections.abc import Sequence
from typing import Any, Final

from spooky._core import reasons
from spooky._core.h3 import RequestStream, Role
from spooky._core.h3_errors import (
    H3_EXCESSIVE_LOAD,
    H3_FRAME_UNEXPECTED,
    H3_ID_ERROR,
    H3_MESSAGE_ERROR,
    H3_REQUEST_CANCELLED,
    H3_REQUEST_REJECTED,
    H3_STREAM_CREATION_ERROR,
    H3_VERSION_FALLBACK,
    ProtocolError,
)
from spooky._core.h3_fields import declared_length, field_value
from spooky._core.h3_session import SERVER_INITIATED, Session
from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]

TLS_ERRORS: Final = range(0x100, 0x200)
"""QUIC error codes that carry a TLS alert (RFC 9001 section 4.8)."""

TLS_NO_APPLICATION_PROTOCOL: Final = 0x178

TLS_CERTIFICATE_ERRORS: Final = (0x12A, 0x12B, 0x12D, 0x130)
"""``bad_certificate``, ``unsupported_certificate``, ``certificate_expired`` and ``unknown_ca``, as
QUIC carries them: what we say of a certificate (RFC 8446 section 6.2)."""

# C numbers, where that above is an object.
_SERVER_INITIATED = SERVER_INITIATED
_NO_STREAM = -1

_METHOD = b":method"
_STATUS = b":status"


class ClientSession(Session):
    """An HTTP/3 connection to a backend.

    Arguments:
        quic: The QUIC session, see ``protocol/quic/session.py``.
        limits: What the backend may send, see ``protocol/h3/limits.py``.
        owner: Who owns the connection, see ``protocol/h3/session.py``.

    Attributes:
        held_back: Whether no stream is to be opened for now, as the backend may be gone.
    """

    is_client = True
    ROLE = Role(
        stop_code=H3_REQUEST_CANCELLED,
        too_short=reasons.UPSTREAM_BODY_CUT_SHORT,
        too_long=reasons.UPSTREAM_PROTOCOL_ERROR,
        unsendable=reasons.FIELDS_TOO_LARGE,
        too_many_fields=reasons.UPSTREAM_FIELDS_TOO_LARGE,
        fields_too_large=reasons.UPSTREAM_FIELDS_TOO_LARGE,
    )
    LOST = reasons.UPSTREAM_CONNECTION_LOST
    PROTOCOL_ERROR = reasons.UPSTREAM_PROTOCOL_ERROR

    def __init__(self, quic: Any, limits: Any, owner: Any) -> None:
        Session.__init__(self, quic, owner, limits)
        self._max_streams = limits.max_concurrent_streams
        # A stream that was opened, and not used yet, to know that it can be.
        self._spare_id = _NO_STREAM
        self.held_back = False

    @property
    def reusable(self) -> bool:
        """Whether, once idle, it may serve another request."""
        return self._is_reusable()

    @property
    def drained(self) -> bool:
        """Whether the last request ended of a connection that takes no new ones."""
        return not (self._is_reusable() or self._closing or len(self._requests) > 0)

    @property
    def capacity(self) -> int:
        """How many more streams can be opened now: 0, or at least this many.

        QUIC does not tell how many, only whether one can be.
        """
        return 1 if self._has_room() else 0

    def open(self, handler: Any) -> "ClientStream":
        """Open a stream; call only while :attr:`capacity` is positive.

        Raises:
            RuntimeError: No stream can be opened now.
        """
        if not self._has_room():
            raise RuntimeError("this connection has no room for another stream")
        stream_id = self._spare_id
        self._spare_id = _NO_STREAM
        stream = ClientStream(self, stream_id, handler)
        self._requests[stream_id] = stream
        self.budget.requests += 1
        return stream

    def take_goaway(self, identifier: int) -> None:
        """Take a GOAWAY frame: requests from ``identifier`` on were not processed.

        Raises:
            ProtocolError: The identifier is not that of a request, or grew.
        """
        if identifier & 0x3:
            raise ProtocolError(H3_ID_ERROR, "GOAWAY does not name a request")
        Session.take_goaway(self, identifier)
        for stream_id in [key for key in self._requests if key >= identifier]:
            stream = self._requests.get(stream_id)
            if stream is not None:
                stream.fail(reasons.UPSTREAM_GOING_AWAY, H3_REQUEST_CANCELLED)
        self.wake()

    def take_max_push_id(self, push_id: int) -> None:
        """Reject the frame; the control stream lets none pass.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(H3_FRAME_UNEXPECTED, "MAX_PUSH_ID from a server")

    def take_priority_update(self, stream_id: int, value: bytes) -> None:
        """Reject the frame; the control stream lets none pass.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(H3_FRAME_UNEXPECTED, "PRIORITY_UPDATE from a server")

    def reject_push_promise(self) -> None:
        """Say that no push was allowed.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(H3_ID_ERROR, "PUSH_PROMISE beyond MAX_PUSH_ID")

    def _is_reusable(self) -> bool:
        return not (self._closing or self._shutting_down or self._peer_goaway is not None)

    def _has_room(self) -> bool:
        """Return whether a stream can be opened now."""
        if not self._established or self.held_back or not self._is_reusable():
            return False
        if len(self._requests) >= self._max_streams:
            return False
        if self._spare_id == _NO_STREAM:
            spare = self.quic.open_stream(False)
            if spare is None:
                return False
            self._spare_id = spare
        return True

    def _accept(self, stream_id: int) -> RequestStream | None:
        """Return nothing for a stream that has ended; servers must not begin any.

        Raises:
            ProtocolError: One did.
        """
        if stream_id & _SERVER_INITIATED:
            raise ProtocolError(H3_STREAM_CREATION_ERROR, "a request stream from a server")
        return None

    def _goaway_id(self) -> int:
        """Return the push ID from which on none is accepted: the first."""
        return 0

    def _push_stream_error(self) -> ProtocolError:
        return ProtocolError(H3_ID_ERROR, "a push stream beyond MAX_PUSH_ID")

    def _handshake_reason(self, close: Any) -> Reason:
        if close.is_application or close.error_code not in TLS_ERRORS:
            return reasons.CONNECT_FAILED
        if close.error_code == TLS_NO_APPLICATION_PROTOCOL:
            return reasons.UPSTREAM_ALPN_MISMATCH
        if close.error_code in TLS_CERTIFICATE_ERRORS and not close.by_peer:
            return reasons.UPSTREAM_CERTIFICATE_INVALID
        return reasons.UPSTREAM_TLS_FAILED

    def _stream_reason(self, close: Any) -> Reason:
        if close.is_application and close.error_code == H3_VERSION_FALLBACK:
            return reasons.UPSTREAM_VERSION_FALLBACK
        if close.by_peer or close.timed_out or close.is_application:
            return reasons.UPSTREAM_CONNECTION_LOST
        # It broke a rule of QUIC.
        return reasons.UPSTREAM_PROTOCOL_ERROR

    def _reason_for(self, error: ProtocolError) -> Reason:
        return reasons.UPSTREAM_PROTOCOL_ERROR


class ClientStream(RequestStream):
    """A request to a backend.

    Arguments:
        connection: The client's session.
        stream_id: Its QUIC stream.
        handler: Where upcalls go.
    """

    def __init__(self, connection: ClientSession, stream_id: int, handler: Any) -> None:
        self._begin(connection, stream_id, handler)
        self._session = connection
        self._is_head = False
        self._informational = 0

    def send_head(self, fields: Sequence[Field], end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""
        self._is_head = field_value(fields, _METHOD) == b"HEAD"
        self._send_fields(fields, end)

    def send_informational(self, fields: Sequence[Field]) -> None:
        """Drop it: requests have no 1xx heads."""

    def peer_stopped(self) -> None:
        """Learn that the backend wants no more of the request; it may still answer."""
        if not self._sending:
            return
        self._sending = False
        held = self._held
        self._held = None
        self.handler.on_stopped()
        if held is not None:
            # What was held counts as accepted now.
            self.handler.on_writable()
        self._forget_if_ended()

    def fail(self, reason: Reason, error_code: int) -> None:
        """End the stream for what the backend did, and tell its handler."""
        self._abort(error_code).on_reset(reason)

    def _take_head(self, fields: list[Field], end: bool) -> None:
        """Deliver a head, which is final or a 1xx one."""
        # A response has one pseudo-header, and those come first; the validator judges the rest.
        status = fields[0][1] if len(fields) > 0 and fields[0][0] == _STATUS else b""
        if len(status) == 3 and status.startswith(b"1"):
            self._take_informational(fields, status, end)
            return
        if self._is_head or status in (b"204", b"304"):
            self._content_length = 0
        else:
            self._content_length = declared_length(fields)
        if end and self._content_length > 0:
            self.fail(reasons.UPSTREAM_BODY_CUT_SHORT, H3_MESSAGE_ERROR)
            return
        self._deliver_head(fields, end)

    def _take_informational(self, fields: list[Field], status: bytes, end: bool) -> None:
        self._informational += 1
        if end or status == b"101":  # RFC 9114 section 4.5: there is no Upgrade
            self.fail(reasons.UPSTREAM_BAD_RESPONSE, H3_MESSAGE_ERROR)
        elif self._informational > self._session.limits.max_informational:
            self.fail(reasons.UPSTREAM_PROTOCOL_ERROR, H3_EXCESSIVE_LOAD)
        else:
            self.handler.on_informational(fields)

    def _refuse_head(self, reason: Reason) -> None:
        self.fail(reason, H3_EXCESSIVE_LOAD)

    def _end_without_head(self) -> None:
        self.fail(reasons.UPSTREAM_BODY_CUT_SHORT, H3_MESSAGE_ERROR)

    def _reset_reason(self, error_code: int) -> Reason:
        if error_code == H3_REQUEST_REJECTED:
            return reasons.UPSTREAM_REFUSED
        if error_code == H3_VERSION_FALLBACK:
            return reasons.UPSTREAM_VERSION_FALLBACK
        return reasons.UPSTREAM_RESET

    def _reset_code(self, reason: Reason) -> int:
        # RFC 9114 section 4.1.1: what clients say, and never H3_REQUEST_REJECTED.
        return H3_REQUEST_CANCELLED
