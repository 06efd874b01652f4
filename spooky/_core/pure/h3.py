# cython: annotation_typing=False
"""HTTP/3 request streams: messages on QUIC streams (RFC 9114 section 4).

This is the kernel's source and its twin: ``spooky/_core/h3.pxd`` gives its classes C types, which
the annotations would contradict.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from spooky._core import h3_fields, h3_frames, qpack
from spooky._core.h3_errors import (
    H3_EXCESSIVE_LOAD,
    H3_FRAME_ERROR,
    H3_FRAME_UNEXPECTED,
    H3_INTERNAL_ERROR,
    H3_MESSAGE_ERROR,
    H3_REQUEST_CANCELLED,
    ProtocolError,
)
from spooky._core.h3_frames import (
    CANCEL_PUSH,
    GOAWAY,
    HTTP2_FRAMES,
    MAX_PUSH_ID,
    PRIORITY_UPDATE_PUSH,
    PRIORITY_UPDATE_REQUEST,
    PUSH_PROMISE,
    SETTINGS,
)
from spooky._core.h3_handler import NO_HANDLER
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import Reason
from spooky._core.sections import decode_fields, encode_fields

Field = tuple[bytes, bytes]

FORBIDDEN_FRAMES: Final = HTTP2_FRAMES | {
    CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE_PUSH, PRIORITY_UPDATE_REQUEST,
}  # fmt: skip
"""Frames that have no place on a request stream (RFC 9114 sections 7.2 and 7.2.8, RFC 9218
section 7.2)."""

STREAM_ID_STEP: Final = 4
"""The two low bits of a stream ID are its kind (RFC 9000 section 2.1)."""

UNIDIRECTIONAL: Final = 0x2
"""The one that says that only its sender sends."""

_UNIDIRECTIONAL = UNIDIRECTIONAL

JOIN_MAX_BYTES: Final = 4096
"""A body piece up to this size is copied behind its frame header, which costs less than handing
both to QUIC one by one."""

HELD_PIECE_BYTES: Final = 16_384
"""What QUIC did not accept is kept in pieces: the rest of a piece is copied each time some of it is
accepted, and a peer may grant credit by the byte."""


class Role(NamedTuple):
    """What differs between what a server and a client say of their peer's messages.

    Attributes:
        stop_code: The error code that says that the rest of a body is not wanted.
        too_short: Why a body is refused that is shorter than its content-length.
        too_long: Why one is that is longer.
        unsendable: Why a stream ends whose field section is larger than the peer takes.
        too_many_fields: Why a field section with too many lines is refused.
        fields_too_large: Why one with too many bytes is.
    """

    stop_code: int
    too_short: Reason
    too_long: Reason
    unsendable: Reason
    too_many_fields: Reason
    fields_too_large: Reason


class SeenStreams:
    """Which streams of one kind the peer has begun, so that ended ones are not taken for new.

    The IDs below the next one that were not seen are kept: QUIC delivers streams in any order, but
    the peer's stream limit bounds how many it can leave out.

    Arguments:
        first_id: The first of the kind.

    Attributes:
        next_id: The ID after the greatest that was seen.
    """

    def __init__(self, first_id: int) -> None:
        self.next_id = first_id
        # None until one is left out, which is rare.
        self._gaps: set[int] | None = None

    def is_new(self, stream_id: int) -> bool:
        """Tell whether a stream is seen for the first time, which this call is."""
        if stream_id < self.next_id:
            if self._gaps is not None and stream_id in self._gaps:
                self._gaps.remove(stream_id)
                return True
            return False
        if stream_id > self.next_id:
            if self._gaps is None:
                self._gaps = set()
            self._gaps.update(range(self.next_id, stream_id, STREAM_ID_STEP))
        self.next_id = stream_id + STREAM_ID_STEP
        return True

    def is_yet_to_come(self, stream_id: int) -> bool:
        """Tell whether a stream was not seen, without seeing it."""
        if stream_id >= self.next_id:
            return True
        return self._gaps is not None and stream_id in self._gaps


class Connection:
    """What the request streams of an HTTP/3 connection share.

    Arguments:
        quic: The QUIC session, see ``protocol/quic/session.py``.
        role: Which side this is.
        limits: What a message of the peer may be, see ``protocol/h3/limits.py``.
        budget: What the peer may do that is useless, see there too.
        wake: Asks for a flush at the end of this turn.

    Attributes:
        quic: The QUIC session.
        budget: What the peer has used of its limits.
        wake: Asks for a flush at the end of this turn.
        peer_max_field_section_size: Largest field section the peer takes; ``None`` without limit.
    """

    def __init__(
        self, quic: Any, role: Role, limits: Any, budget: Any, wake: Callable[[], None]
    ) -> None:
        self.quic = quic
        self.budget = budget
        self.wake = wake
        self.peer_max_field_section_size: int | None = None
        self._role = role
        self._max_headers_count = limits.max_headers_count
        self._max_decoded_bytes = limits.max_decoded_bytes
        self._max_headers_frame_bytes = limits.max_headers_frame_bytes
        self._requests: dict[int, RequestStream] = {}
        self._resets_due: list[tuple[Any, Reason]] = []
        self._closing = False
        self._woken = False

    @property
    def active_streams(self) -> int:
        """Number of request streams that have not ended."""
        return len(self._requests)

    def settle(self) -> None:
        """Make the upcalls that calls put off, so that they did not nest in those."""
        self._woken = False
        while len(self._resets_due) > 0:
            handler, reason = self._resets_due.pop(0)
            handler.on_reset(reason)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Take bytes of a stream from QUIC."""
        if self._closing:
            return
        try:
            if stream_id & _UNIDIRECTIONAL:
                self._receive_unidirectional(stream_id, data, fin)
                return
            stream = self._find(stream_id)
            if stream is None:
                # It ended here, and the rest is of no interest.
                self.quic.consume(stream_id, len(data))
            else:
                stream.receive(data, fin)
        except ProtocolError as error:
            self._fail(error)

    def _find(self, stream_id: int) -> "RequestStream | None":
        """Return a request stream, begun now if it is new; ``None`` if it has ended."""
        stream = self._requests.get(stream_id)
        return stream if stream is not None else self._accept(stream_id)

    def _accept(self, stream_id: int) -> "RequestStream | None":
        """Return the stream for an ID without one; ``None`` if it has ended."""
        return None

    @abstractmethod
    def _receive_unidirectional(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Take bytes of a unidirectional stream.

        Raises:
            ProtocolError: They break a rule for which the connection is closed.
        """

    @abstractmethod
    def _fail(self, error: ProtocolError) -> None:
        """Close because of what the peer did."""

    @abstractmethod
    def reject_push_promise(self) -> None:
        """Say what is wrong about PUSH_PROMISE on a request stream.

        Raises:
            ProtocolError: Always.
        """

    def _forget(self, stream_id: int) -> None:
        """Learn that a request stream ended."""
        self._requests.pop(stream_id, None)
        self._wake_once()

    def _defer_reset(self, handler: Any, reason: Reason) -> None:
        """Tell a handler in :meth:`settle` that its stream is gone."""
        self._resets_due.append((handler, reason))
        self._wake_once()

    def _wake_once(self) -> None:
        """Ask for a flush, unless that was asked since the last :meth:`settle`."""
        if not self._woken:
            self._woken = True
            self.wake()


# What may come next on the receiving side.
_HEAD = 0
_BODY = 1
_NOTHING = 2  # but unknown frames, once the trailers came

# C numbers, where those of ``h3_frames`` are objects.
_DATA = 0x00
_HEADERS = 0x01

_DATA_TYPE: Final = encode_varint(_DATA)


class RequestStream(h3_frames.FrameReader):
    """A request stream, in both roles; what differs by role is left to the subclasses.

    Arguments:
        connection: What it is on.
        stream_id: Its QUIC stream ID.
        handler: Where upcalls go.

    Attributes:
        handler: Where upcalls go.
        protocol: ``h3``.
    """

    def __init__(self, connection: Connection, stream_id: int, handler: Any) -> None:
        self._begin(connection, stream_id, handler)

    def _begin(self, connection: Connection, stream_id: int, handler: Any) -> None:
        """Do what making one does; here for its type."""
        self._begin_reading()
        self.handler = handler
        self.protocol = "h3"
        self._connection = connection
        self._quic = connection.quic
        self._stream_id = stream_id
        self._expects = _HEAD
        self._receiving = True
        self._sending = True
        # Whether the bytes being read are the last.
        self._fin = False
        self._content_length = -1
        # Body bytes so far, and how many of the chunk being read.
        self._received = 0
        self._delivered = 0
        # Bytes from QUIC that were not credited yet.
        self._owed = 0
        self._trailers: list[Field] | None = None
        # What QUIC did not accept yet; None if nothing.
        self._held: deque[bytes] | None = None
        self._end_held = False
        self._forgotten = False

    # --- the stream contract ------------------------------------------------------------------

    def send_head(self, fields: Sequence[Field], end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""
        self._send_fields(fields, end)

    def send_informational(self, fields: Sequence[Field]) -> None:
        """Send a 1xx response head."""
        self._send_fields(fields, False)

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; return whether it counts as accepted now."""
        if not self._sending:
            return True
        size = len(data)
        if not size:
            return self._send(b"", end) if end else self._held is None
        if size <= JOIN_MAX_BYTES:
            return self._send(encode_frame(_DATA, data), end)
        self._send(_DATA_TYPE + encode_varint(size), False)
        return self._send(data, end)

    def send_trailers(self, fields: Sequence[Field]) -> bool:
        """Send trailers, which end this direction; return whether all is accepted now."""
        return self._send_fields(fields, True)

    def consume(self, count: int) -> None:
        """Credit ``count`` delivered body bytes back to the peer."""
        if count and self._owed:
            self._credit(count)
            self._connection._wake_once()

    def stop_receiving(self) -> None:
        """Ask the peer to stop sending: the rest of its body is not wanted."""
        if not self._receiving:
            return
        self._stop_receiving()
        self._forget_if_ended()
        self._connection._wake_once()

    def reset(self, reason: Reason) -> None:
        """End both directions abruptly, with the error code of ``reason``."""
        if self._sending or self._receiving:
            self._abort(self._reset_code(reason))

    # --- what the session delivers ------------------------------------------------------------

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes from QUIC.

        Raises:
            ProtocolError: They break a rule for which the connection is closed.
        """
        self._owed += len(data)
        self._fin = fin
        self._delivered = 0
        self.read(data)
        # Framing, heads and what is discarded wait for nobody.
        self._credit(len(data) - self._delivered)
        if fin and self._receiving:
            self._end_of_stream()

    def peer_reset(self, error_code: int) -> None:
        """Learn that the peer reset its part.

        Raises:
            ProtocolError: It did so too often.
        """
        if self._receiving:
            self._receiving = False
            self.fail(self._reset_reason(error_code), H3_REQUEST_CANCELLED)

    @abstractmethod
    def peer_stopped(self) -> None:
        """Learn that the peer wants no more, and that QUIC has reset our part."""

    @abstractmethod
    def fail(self, reason: Reason, error_code: int) -> None:
        """End the stream for what the peer did, and tell its handler."""

    def writable(self) -> None:
        """Offer QUIC what it did not accept before."""
        if self._held is None:
            return
        if not self._offer_held():
            return
        self.handler.on_writable()
        self._forget_if_ended()

    def detach(self) -> Any:
        """End both directions because the connection ends; return who must be told."""
        handler = self.handler
        self._receiving = self._sending = False
        self._stopped = True
        self._held = None
        self.handler = NO_HANDLER
        return handler

    # --- by role ------------------------------------------------------------------------------

    @abstractmethod
    def _take_head(self, fields: list[Field], end: bool) -> None:
        """Judge and deliver a head."""

    @abstractmethod
    def _refuse_head(self, reason: Reason) -> None:
        """Refuse a head with too many or too large fields."""

    @abstractmethod
    def _end_without_head(self) -> None:
        """End a stream that the peer ended before it sent a head."""

    @abstractmethod
    def _reset_reason(self, error_code: int) -> Reason:
        """Return why the peer reset its part."""

    @abstractmethod
    def _reset_code(self, reason: Reason) -> int:
        """Return the error code for a reset of ours."""

    # --- receiving ----------------------------------------------------------------------------

    def _begin_frame(self, kind: int, length: int) -> bool:
        """Judge a frame by its header; a field section is gathered."""
        if kind == _DATA:
            if self._expects != _BODY:
                raise ProtocolError(H3_FRAME_UNEXPECTED, "DATA outside of a body")
            if not length:
                self._connection.budget.spend_frames(1)
            return False
        if kind == _HEADERS:
            if self._expects == _NOTHING:
                raise ProtocolError(H3_FRAME_UNEXPECTED, "HEADERS after the trailers")
            if length > self._connection._max_headers_frame_bytes:
                self._refuse_section(qpack.TOO_LARGE)
            return True
        if kind == PUSH_PROMISE:
            self._connection.reject_push_promise()
        if kind in FORBIDDEN_FRAMES:
            raise ProtocolError(H3_FRAME_UNEXPECTED, f"frame {kind:#x} on a request stream")
        self._connection.budget.spend_frames(1)
        self._connection.budget.spend_bytes(length)
        return False

    def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
        """Deliver a piece of the body; discard unknown frames (RFC 9114 section 9)."""
        if kind != _DATA:
            return
        self._received += len(piece)
        end = at_end and self._fin
        if self._content_length >= 0:
            excess = self._received - self._content_length
            if excess > 0 or (end and excess < 0):
                self.fail(
                    self._connection._role.too_short
                    if excess < 0
                    else self._connection._role.too_long,
                    H3_MESSAGE_ERROR,
                )
                return
        if not piece and not end:
            return
        self._delivered += len(piece)
        if end:
            self._receiving = False
        self.handler.on_data(piece, end)
        if end:
            self._forget_if_ended()

    def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
        """Decode a head or trailers."""
        connection = self._connection
        fields = decode_fields(
            payload, connection._max_headers_count, connection._max_decoded_bytes
        )
        if isinstance(fields, int):
            self._refuse_section(fields)
        elif self._expects == _HEAD:
            self._take_head(fields, at_end and self._fin)
        else:
            self._expects = _NOTHING
            self._trailers = fields

    def _deliver_head(self, fields: list[Field], end: bool) -> None:
        """Deliver a head that was judged."""
        self._expects = _BODY
        if end:
            self._receiving = False
        self.handler.on_head(fields, end)
        if end:
            self._forget_if_ended()

    def _refuse_section(self, verdict: int) -> None:
        """Refuse a field section that is out of limits."""
        role = self._connection._role
        reason = role.too_many_fields if verdict == qpack.TOO_MANY_FIELDS else role.fields_too_large
        if self._expects == _HEAD:
            self._refuse_head(reason)
        else:
            self.fail(reason, H3_EXCESSIVE_LOAD)

    def _end_of_stream(self) -> None:
        """Take the end that came with no frame."""
        if self.ends_within_frame:
            raise ProtocolError(H3_FRAME_ERROR, "the stream ended within a frame")
        if self._expects == _HEAD:
            self._end_without_head()
            return
        if 0 <= self._content_length != self._received:
            self.fail(self._connection._role.too_short, H3_MESSAGE_ERROR)
            return
        self._receiving = False
        if self._trailers is not None:
            self.handler.on_trailers(self._trailers)
        else:
            self.handler.on_data(b"", True)
        self._forget_if_ended()

    # --- sending ------------------------------------------------------------------------------

    def _send_fields(self, fields: Sequence[Field], end: bool) -> bool:
        """Send a field section, unless the peer would not take it (RFC 9114 section 4.2.2)."""
        if not self._sending:
            return True
        limit = self._connection.peer_max_field_section_size
        if limit is not None and h3_fields.section_size(fields) > limit:
            self._give_up()
            return True
        return self._send(encode_frame(_HEADERS, encode_fields(fields)), end)

    def _send(self, data: bytes, end: bool) -> bool:
        """Hand bytes to QUIC and hold what it does not accept."""
        self._connection._wake_once()
        if self._held is not None:
            self._hold(data, end)
            return False
        accepted = self._quic.send(self._stream_id, data, end)
        if accepted < len(data):
            self._held = deque()
            self._hold(data[accepted:] if accepted > 0 else data, end)
            return False
        if end:
            self._sending = False
            self._forget_if_ended()
        return True

    def _hold(self, data: bytes, end: bool) -> None:
        """Keep bytes until QUIC accepts more."""
        assert self._held is not None
        self._held.extend(
            data[start : start + HELD_PIECE_BYTES]
            for start in range(0, len(data), HELD_PIECE_BYTES)
        )
        if end and not self._held:
            self._held.append(b"")
        self._end_held = end

    def _offer_held(self) -> bool:
        """Hand QUIC what is held; return whether all of it was accepted."""
        held = self._held
        assert held is not None
        while held:
            data = held[0]
            end = self._end_held and len(held) == 1
            accepted = self._quic.send(self._stream_id, data, end)
            if accepted < len(data):
                if accepted > 0:
                    held[0] = data[accepted:]
                return False
            held.popleft()
        self._held = None
        if self._end_held:
            self._sending = False
        return True

    # --- the end ------------------------------------------------------------------------------

    def _credit(self, count: int) -> None:
        """Credit bytes to the peer, never more than came."""
        count = min(count, self._owed)
        if count > 0:
            self._owed -= count
            self._quic.consume(self._stream_id, count)

    def _stop_receiving(self) -> None:
        """Read no more, and say so unless the end is here already."""
        self._receiving = False
        self._stopped = True
        if not self._fin:
            self._quic.stop_sending(self._stream_id, self._connection._role.stop_code)

    def _abort(self, error_code: int) -> Any:
        """End both directions abruptly; return the handler, which is not told."""
        if self._sending:
            self._quic.reset(self._stream_id, error_code)
        if self._receiving and not self._fin:
            self._quic.stop_sending(self._stream_id, error_code)
        handler = self.detach()
        self._forget()
        self._connection._wake_once()
        return handler

    def _give_up(self) -> None:
        """End the stream as it cannot carry what it should; its handler learns it later."""
        handler = self._abort(H3_INTERNAL_ERROR)
        self._connection._defer_reset(handler, self._connection._role.unsendable)

    def _forget_if_ended(self) -> None:
        if not (self._sending or self._receiving or self._forgotten):
            self._forget()

    def _forget(self) -> None:
        """Leave the session; nothing follows, and what was not credited is credited."""
        self._forgotten = True
        self._credit(self._owed)
        self.handler = NO_HANDLER
        self._connection._forget(self._stream_id)
