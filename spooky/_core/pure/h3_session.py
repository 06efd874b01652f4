# cython: annotation_typing=False
"""What both roles of an HTTP/3 session share (RFC 9114).

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, Final, cast

from spooky._core import reasons
from spooky._core.h3 import UNIDIRECTIONAL, Connection, SeenStreams
from spooky._core.h3_budget import Budget
from spooky._core.h3_errors import (
    H3_CLOSED_CRITICAL_STREAM,
    H3_ID_ERROR,
    H3_NO_ERROR,
    H3_STREAM_CREATION_ERROR,
    ProtocolError,
)
from spooky._core.h3_frames import (
    CONTROL_STREAM,
    GOAWAY,
    PUSH_STREAM,
    QPACK_DECODER_STREAM,
    QPACK_ENCODER_STREAM,
    SETTINGS_MAX_FIELD_SECTION_SIZE,
    SETTINGS_QPACK_BLOCKED_STREAMS,
    SETTINGS_QPACK_MAX_TABLE_CAPACITY,
    encode_settings,
)
from spooky._core.h3_unidirectional import (
    ControlStream,
    DecoderInstructions,
    EncoderInstructions,
    UnidirectionalStream,
)
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import Reason

SERVER_INITIATED: Final = 0x1
"""A bit of a stream ID (RFC 9000 section 2.1)."""

CONTROL_URGENCY: Final = -1
"""Settings and GOAWAY go before all responses."""

_QUIC_INTERNAL_ERROR = 0x1  # RFC 9000 section 20.1.

# C numbers, where those above are objects.
_UNIDIRECTIONAL = UNIDIRECTIONAL
_CONTROL_STREAM = CONTROL_STREAM
_PUSH_STREAM = PUSH_STREAM
_QPACK_ENCODER_STREAM = QPACK_ENCODER_STREAM
_CRITICAL_LAST = QPACK_DECODER_STREAM  # The types below it are critical, but for the push stream.

# Said by subclasses; C classes have no attributes that are only declared.
_BY_ROLE = cast(Any, None)


class Session(Connection):
    """One HTTP/3 connection; it is the handler of its QUIC session.

    Arguments:
        quic: The QUIC session, see ``protocol/quic/session.py``.
        owner: Who owns both, see ``protocol/h3/session.py``.
        limits: What the peer may send, see ``protocol/h3/limits.py``.

    Attributes:
        limits: What the peer may send.
        is_client: Which role this is.
    """

    # What differs by role: its Role, and why streams of a lost connection end, and of a broken one.
    is_client = False
    ROLE = _BY_ROLE
    LOST = _BY_ROLE
    PROTOCOL_ERROR = _BY_ROLE

    def __init__(self, quic: Any, owner: Any, limits: Any) -> None:
        Connection.__init__(self, quic, self.ROLE, limits, Budget(limits), owner.wake)
        self.limits = limits
        self._owner = owner
        self._unidirectional: dict[int, UnidirectionalStream] = {}
        self._seen_unidirectional = SeenStreams(
            _UNIDIRECTIONAL | (SERVER_INITIATED if self.is_client else 0)
        )
        # The types of critical streams that the peer opened, a bit for each.
        self._critical = 0
        self._control_id: int | None = None
        # Bytes for our control stream that QUIC did not accept yet.
        self._control_held = b""
        self._established = False
        self._shutting_down = False
        self._close_reason: Reason | None = None
        self._peer_goaway: int | None = None
        quic.handler = self

    # --- what the owner calls -----------------------------------------------------------------

    def shutdown(self) -> None:
        """Finish gracefully: send GOAWAY, take no new streams, end what is open."""
        if self._shutting_down or self._closing:
            return
        self._shutting_down = True
        if self._established or self._control_id is not None:
            self._send_control(encode_frame(GOAWAY, encode_varint(self._goaway_id())))
        self.wake()

    def terminate(self, reason: Reason) -> None:
        """Close now, telling the peer; streams still open get ``on_reset(reason)``."""
        self._close(reason.h3_error, reason.code, reason)

    # --- QUIC's upcalls -----------------------------------------------------------------------

    def on_early_data(self) -> None:
        """Open the control stream, as requests may come now."""
        self._open_control()

    def on_handshake(self, handshake: Any) -> None:
        """Open the control stream, unless it was before."""
        self._established = True
        if self._control_id is None:
            self._open_control()
        self._owner.on_established(handshake)

    def on_stream_reset(self, stream_id: int, error_code: int) -> None:
        """Learn that the peer reset its part of a stream."""
        if self._closing:
            return
        try:
            if stream_id & _UNIDIRECTIONAL:
                self._end_unidirectional(stream_id)
                return
            stream = self._find(stream_id)
            if stream is not None:
                stream.peer_reset(error_code)
        except ProtocolError as error:
            self._fail(error)

    def on_stop_sending(self, stream_id: int, error_code: int) -> None:
        """Learn that the peer wants no more of a stream."""
        if self._closing:
            return
        try:
            if stream_id & _UNIDIRECTIONAL:
                raise ProtocolError(H3_CLOSED_CRITICAL_STREAM, "the control stream is critical")
            stream = self._find(stream_id)
            if stream is not None:
                stream.peer_stopped()
        except ProtocolError as error:
            self._fail(error)

    def on_stream_writable(self, stream_id: int) -> None:
        """Offer a stream's bytes again."""
        if self._closing:
            return
        if stream_id == self._control_id:
            self._send_control(b"")
            return
        stream = self._requests.get(stream_id)
        if stream is not None:
            stream.writable()

    def on_streams_available(self) -> None:
        """Learn that the peer lets us open more streams."""
        if self._established and self._control_id is None and not self._closing:
            self._open_control()
        self.wake()

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        """Pass it on to the owner."""
        self._owner.on_connection_id_issued(connection_id)

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        """Pass it on to the owner."""
        self._owner.on_connection_id_retired(connection_id)

    def on_closed(self, close: Any) -> None:
        """End every stream and tell the owner."""
        reason = self._close_reason or self._reason_of(close)
        try:
            self._end_streams(self._stream_reason(close))
        finally:
            self._owner.on_closed(close, reason)

    # --- what the peer's control stream calls -------------------------------------------------

    def begin_unidirectional(self, stream_id: int, kind: int) -> Any:
        """Return what reads a stream of the peer, or ``None`` if it is to be discarded.

        Raises:
            ProtocolError: The peer must not open one, or not another one.
        """
        if kind == _PUSH_STREAM:
            raise self._push_stream_error()
        if not 0 <= kind <= _CRITICAL_LAST:
            self.quic.stop_sending(stream_id, H3_STREAM_CREATION_ERROR)
            del self._unidirectional[stream_id]
            return None
        if self._critical & 1 << kind:
            raise ProtocolError(H3_STREAM_CREATION_ERROR, f"a second stream of type {kind}")
        self._critical |= 1 << kind
        if kind == _CONTROL_STREAM:
            return ControlStream(self)
        if kind == _QPACK_ENCODER_STREAM:
            return EncoderInstructions(self.budget)
        return DecoderInstructions(self.budget)

    def take_settings(self, settings: dict[int, int]) -> None:
        """Take the peer's settings; its QPACK limits do not matter, as we use no table."""
        self.peer_max_field_section_size = settings.get(SETTINGS_MAX_FIELD_SECTION_SIZE)

    def take_goaway(self, identifier: int) -> None:
        """Take a GOAWAY frame (RFC 9114 section 5.2).

        Raises:
            ProtocolError: The identifier is not a possible one.
        """
        if self._peer_goaway is not None and identifier > self._peer_goaway:
            raise ProtocolError(H3_ID_ERROR, "GOAWAY with a greater identifier")
        self._peer_goaway = identifier

    @abstractmethod
    def take_max_push_id(self, push_id: int) -> None:
        """Take a MAX_PUSH_ID frame; only clients send it."""

    @abstractmethod
    def take_priority_update(self, stream_id: int, value: bytes) -> None:
        """Take a PRIORITY_UPDATE frame for a request; only clients send it."""

    # --- by role ------------------------------------------------------------------------------

    @abstractmethod
    def _goaway_id(self) -> int:
        """Return the identifier to send in GOAWAY."""

    @abstractmethod
    def _push_stream_error(self) -> ProtocolError:
        """Return what is wrong about a push stream."""

    @abstractmethod
    def _handshake_reason(self, close: Any) -> Reason:
        """Return why a handshake failed."""

    def _stream_reason(self, close: Any) -> Reason:
        """Return why the streams ended that were open when the connection was."""
        reason: Reason = self.LOST
        return reason

    @abstractmethod
    def _reason_for(self, error: ProtocolError) -> Reason:
        """Return the reason for a connection that the peer's error ends."""

    # --- our control stream -------------------------------------------------------------------

    def _open_control(self) -> None:
        """Open the control stream and send the settings (RFC 9114 section 6.2.1)."""
        self._control_id = self.quic.open_stream(unidirectional=True)
        if self._control_id is None:
            return
        self.quic.set_priority(self._control_id, CONTROL_URGENCY, False)
        self._send_control(_control_stream_begin(self.limits.max_field_section_size))
        if self._shutting_down:
            self._send_control(encode_frame(GOAWAY, encode_varint(self._goaway_id())))

    def _send_control(self, data: bytes) -> None:
        """Send on the control stream; what QUIC does not accept waits."""
        if self._control_id is None:
            return
        data = self._control_held + data
        accepted = self.quic.send(self._control_id, data, False)
        self._control_held = data[accepted:]

    # --- the peer's unidirectional streams ----------------------------------------------------

    def _receive_unidirectional(self, stream_id: int, data: bytes, fin: bool) -> None:
        # Read at once and never kept, so credited at once.
        self.quic.consume(stream_id, len(data))
        stream = self._unidirectional.get(stream_id)
        if stream is None:
            if not self._seen_unidirectional.is_new(stream_id):
                return
            self.budget.spend_unidirectional()
            stream = self._unidirectional[stream_id] = UnidirectionalStream(self, stream_id)
        stream.receive(data, fin)
        if fin:
            self._unidirectional.pop(stream_id, None)

    def _end_unidirectional(self, stream_id: int) -> None:
        stream = self._unidirectional.pop(stream_id, None)
        if stream is not None:
            stream.ended()
        elif self._seen_unidirectional.is_new(stream_id):
            self.budget.spend_unidirectional()

    # --- the end ------------------------------------------------------------------------------

    def _fail(self, error: ProtocolError) -> None:
        """Close because of what the peer did."""
        self._close(error.code, error.phrase, self._reason_for(error))

    def _close(self, code: int, phrase: str, reason: Reason) -> None:
        if self._closing:
            return
        self._close_reason = reason
        self.quic.close(code, phrase, is_application=True)
        self._end_streams(reason)
        self.wake()

    def _end_streams(self, reason: Reason) -> None:
        """End every stream that is open; none takes calls before all are told."""
        self._closing = True
        handlers = [stream.detach() for stream in self._requests.values()]
        self._requests.clear()
        self._unidirectional.clear()
        self.settle()
        for handler in handlers:
            handler.on_reset(reason)

    def _reason_of(self, close: Any) -> Reason:
        """Return why the connection ended, if it was not for a decision of this session."""
        if close.timed_out:
            return reasons.IDLE_TIMEOUT if self._established else reasons.HANDSHAKE_TIMEOUT
        if not self._established:
            return self._handshake_reason(close)
        if close.error_code == (H3_NO_ERROR if close.is_application else 0):
            return reasons.COMPLETED
        if close.by_peer:
            lost: Reason = self.LOST
            return lost
        if close.error_code == _QUIC_INTERNAL_ERROR and not close.is_application:
            # A defect of ours.
            return reasons.INTERNAL_ERROR
        broken: Reason = self.PROTOCOL_ERROR
        return broken


@lru_cache(maxsize=16)
def _control_stream_begin(max_field_section_size: int) -> bytes:
    """Return what a control stream begins with: the same for all connections of a listener."""
    settings = {
        SETTINGS_QPACK_MAX_TABLE_CAPACITY: 0,
        SETTINGS_MAX_FIELD_SECTION_SIZE: max_field_section_size,
        SETTINGS_QPACK_BLOCKED_STREAMS: 0,
    }
    return encode_varint(CONTROL_STREAM) + encode_settings(settings)
