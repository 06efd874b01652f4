"""Request streams: a request and its response on one QUIC stream (RFC 9114 section 4)."""

from abc import abstractmethod
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Final

from spooky._core.reasons import Reason
from spooky.protocol.h3 import qpack
from spooky.protocol.h3.errors import (
    H3_EXCESSIVE_LOAD,
    H3_FRAME_ERROR,
    H3_FRAME_UNEXPECTED,
    H3_INTERNAL_ERROR,
    H3_MESSAGE_ERROR,
    H3_REQUEST_CANCELLED,
    ProtocolError,
)
from spooky.protocol.h3.frames import (
    CANCEL_PUSH,
    DATA,
    GOAWAY,
    HEADERS,
    HTTP2_FRAMES,
    MAX_PUSH_ID,
    PRIORITY_UPDATE_PUSH,
    PRIORITY_UPDATE_REQUEST,
    PUSH_PROMISE,
    SETTINGS,
    FrameReader,
    encode_frame,
    encode_varint,
)
from spooky.protocol.h3.limits import FIELD_SIZE_OVERHEAD
from spooky.protocol.stream import Field, Fields, StreamHandler

if TYPE_CHECKING:
    from spooky.protocol.h3.session import Session

JOIN_MAX_BYTES: Final = 4096
"""A body piece up to this size is copied behind its frame header, which costs less than handing
both to QUIC one by one."""

HELD_PIECE_BYTES: Final = 16_384
"""What QUIC did not accept is kept in pieces: the rest of a piece is copied each time some of it is
accepted, and a peer may grant credit by the byte."""

FORBIDDEN_FRAMES: Final = HTTP2_FRAMES | {
    CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE_PUSH, PRIORITY_UPDATE_REQUEST,
}  # fmt: skip
"""Frames that have no place on a request stream (RFC 9114 sections 7.2 and 7.2.8, RFC 9218
section 7.2)."""

_DATA_TYPE: Final = encode_varint(DATA)

# What may come next on the receiving side.
_HEAD: Final = 0
_BODY: Final = 1
_NOTHING: Final = 2  # but unknown frames, once the trailers came


class _NoHandler:
    """Takes the upcalls of a stream that nobody listens to (any more)."""

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Ignore it."""

    def on_informational(self, fields: list[Field]) -> None:
        """Ignore it."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Ignore it."""

    def on_trailers(self, fields: list[Field]) -> None:
        """Ignore it."""

    def on_reset(self, reason: Reason) -> None:
        """Ignore it."""

    def on_stopped(self) -> None:
        """Ignore it."""

    def on_writable(self) -> None:
        """Ignore it."""


NO_HANDLER: Final[StreamHandler] = _NoHandler()


def declared_length(fields: Fields) -> int:
    """Return the content-length of a head, or -1 if there is none.

    A malformed one counts as none here: refusing it is the validator's part.
    """
    for name, value in fields:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else -1
    return -1


def _section_size(fields: Fields) -> int:
    """Return the size of a field section (RFC 9114 section 4.2.2)."""
    return FIELD_SIZE_OVERHEAD * len(fields) + sum(map(len, chain.from_iterable(fields)))


class RequestStream(FrameReader):
    """A request stream, in both roles; what differs by role is left to the subclasses.

    Arguments:
        session: The connection it is on.
        stream_id: Its QUIC stream ID.
        handler: Where upcalls go.

    Attributes:
        handler: Where upcalls go.
        protocol: ``h3``.
    """

    __slots__ = (
        "_content_length", "_delivered", "_end_held", "_expects", "_fin", "_held", "_owed", "_quic",
        "_received", "_receiving", "_sending", "_session", "_stream_id", "_trailers", "handler",
        "protocol",
    )  # fmt: skip

    # What differs by role:
    STOP_CODE: ClassVar[int]
    """The error code that says that the rest of a body is not wanted."""
    TOO_SHORT: ClassVar[Reason]
    TOO_LONG: ClassVar[Reason]
    """Why a body that differs from its content-length is refused."""
    UNSENDABLE: ClassVar[Reason]
    """Why a stream ends whose field section is larger than the peer takes."""
    OUT_OF_LIMITS: ClassVar[dict[int, Reason]]
    """Why a field section is refused, by the verdict of the scan."""

    def __init__(self, session: "Session", stream_id: int, handler: StreamHandler) -> None:
        super().__init__()
        self.handler = handler
        self.protocol = "h3"
        self._session = session
        self._quic = session.quic
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

    # --- the stream contract ------------------------------------------------------------------

    def send_head(self, fields: Fields, end: bool) -> None:
        """Send the head; ``end`` says that no body and no trailers follow."""
        self._send_fields(fields, end)

    def send_informational(self, fields: Fields) -> None:
        """Send a 1xx response head."""
        self._send_fields(fields, False)

    def send_data(self, data: bytes, end: bool) -> bool:
        """Send a piece of the body; return whether it counts as accepted now."""
        if not self._sending:
            return True
        size = len(data)
        if not size:
            return self._send(b"", end) if end else self._held is None
        header = _DATA_TYPE + encode_varint(size)
        if size <= JOIN_MAX_BYTES:
            return self._send(header + data, end)
        self._send(header, False)
        return self._send(data, end)

    def send_trailers(self, fields: Fields) -> None:
        """Send trailers, which end this direction."""
        self._send_fields(fields, True)

    def consume(self, count: int) -> None:
        """Credit ``count`` delivered body bytes back to the peer."""
        if count and self._owed:
            self._credit(count)
            self._session.wake()

    def stop_receiving(self) -> None:
        """Ask the peer to stop sending: the rest of its body is not wanted."""
        if not self._receiving:
            return
        self._stop_receiving()
        self._forget_if_ended()
        self._session.wake()

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

    def detach(self) -> StreamHandler:
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
        if kind == DATA:
            if self._expects != _BODY:
                raise ProtocolError(H3_FRAME_UNEXPECTED, "DATA outside of a body")
            if not length:
                self._session.budget.spend_frames(1)
            return False
        if kind == HEADERS:
            if self._expects == _NOTHING:
                raise ProtocolError(H3_FRAME_UNEXPECTED, "HEADERS after the trailers")
            if length > self._session.limits.max_headers_frame_bytes:
                self._refuse_section(qpack.TOO_LARGE)
            return True
        if kind == PUSH_PROMISE:
            self._session.reject_push_promise()
        if kind in FORBIDDEN_FRAMES:
            raise ProtocolError(H3_FRAME_UNEXPECTED, f"frame {kind:#x} on a request stream")
        self._session.budget.spend_frames(1)
        self._session.budget.spend_bytes(length)
        return False

    def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
        """Deliver a piece of the body; discard unknown frames (RFC 9114 section 9)."""
        if kind != DATA:
            return
        self._received += len(piece)
        end = at_end and self._fin
        if self._content_length >= 0:
            excess = self._received - self._content_length
            if excess > 0 or (end and excess < 0):
                self.fail(self.TOO_SHORT if excess < 0 else self.TOO_LONG, H3_MESSAGE_ERROR)
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
        fields = qpack.decode(payload, self._session.limits)
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
        reason = self.OUT_OF_LIMITS[verdict]
        if self._expects == _HEAD:
            self._refuse_head(reason)
        else:
            self.fail(reason, H3_EXCESSIVE_LOAD)

    def _end_of_stream(self) -> None:
        """Take the end that came with no frame."""
        if self._inside_frame:
            raise ProtocolError(H3_FRAME_ERROR, "the stream ended within a frame")
        if self._expects == _HEAD:
            self._end_without_head()
            return
        if 0 <= self._content_length != self._received:
            self.fail(self.TOO_SHORT, H3_MESSAGE_ERROR)
            return
        self._receiving = False
        if self._trailers is not None:
            self.handler.on_trailers(self._trailers)
        else:
            self.handler.on_data(b"", True)
        self._forget_if_ended()

    # --- sending ------------------------------------------------------------------------------

    def _send_fields(self, fields: Fields, end: bool) -> None:
        """Send a field section, unless the peer would not take it (RFC 9114 section 4.2.2)."""
        if not self._sending:
            return
        limit = self._session.peer_max_field_section_size
        if limit is not None and _section_size(fields) > limit:
            self._give_up()
            return
        self._send(encode_frame(HEADERS, qpack.encode(fields)), end)

    def _send(self, data: bytes, end: bool) -> bool:
        """Hand bytes to QUIC and hold what it does not accept."""
        self._session.wake()
        if self._held is not None:
            self._hold(data, end)
            return False
        accepted = self._quic.send(self._stream_id, data, end)
        if accepted < len(data):
            self._held = deque()
            self._hold(data[accepted:], end)
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
            self._quic.stop_sending(self._stream_id, self.STOP_CODE)

    def _abort(self, error_code: int) -> StreamHandler:
        """End both directions abruptly; return the handler, which is not told."""
        if self._sending:
            self._quic.reset(self._stream_id, error_code)
        if self._receiving and not self._fin:
            self._quic.stop_sending(self._stream_id, error_code)
        handler = self.detach()
        self._forget()
        self._session.wake()
        return handler

    def _give_up(self) -> None:
        """End the stream as it cannot carry what it should; its handler learns it later."""
        handler = self._abort(H3_INTERNAL_ERROR)
        self._session.defer_reset(handler, self.UNSENDABLE)

    def _forget_if_ended(self) -> None:
        if not self._sending and not self._receiving:
            self._forget()

    def _forget(self) -> None:
        """Leave the session; nothing follows, and what was not credited is credited."""
        self._credit(self._owed)
        self.handler = NO_HANDLER
        self._session.forget(self._stream_id)
