"""The peer's unidirectional streams (RFC 9114 section 6.2)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from spooky._core.h3_errors import (
    H3_CLOSED_CRITICAL_STREAM,
    H3_EXCESSIVE_LOAD,
    H3_FRAME_ERROR,
    H3_FRAME_UNEXPECTED,
    H3_ID_ERROR,
    H3_MISSING_SETTINGS,
    ProtocolError,
)
from spooky._core.h3_frames import (
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
    parse_settings,
    parse_single_varint,
    read_varint,
)

if TYPE_CHECKING:
    from spooky.protocol.h3.session import Session

CONTROL_FRAME_MAX_BYTES: Final = 1024
"""Longest control frame with a meaning here; the settings that exist take a tenth of it."""


KNOWN_FRAMES: Final = frozenset({
    CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE_REQUEST, PRIORITY_UPDATE_PUSH,
})  # fmt: skip

CLIENT_FRAMES: Final = frozenset({MAX_PUSH_ID, PRIORITY_UPDATE_REQUEST, PRIORITY_UPDATE_PUSH})
"""Frames that only clients send (RFC 9114 section 7.2.7, RFC 9218 section 7.2)."""

FORBIDDEN_FRAMES: Final = HTTP2_FRAMES | {DATA, HEADERS, PUSH_PROMISE}
FORBIDDEN_TO_SERVERS: Final = FORBIDDEN_FRAMES | CLIENT_FRAMES
"""Frames that have no place on a control stream of a client, and on one of a server (RFC 9114
sections 7.2 and 7.2.8)."""


class UnidirectionalStream:
    """A unidirectional stream of the peer, whose first bytes tell what it is.

    Arguments:
        session: The connection it is on.
        stream_id: Its QUIC stream ID.
    """

    __slots__ = ("_partial", "_read", "_session", "_stream_id")

    def __init__(self, session: "Session", stream_id: int) -> None:
        self._session = session
        self._stream_id = stream_id
        self._partial = b""
        # What reads it; None until its type is known.
        self._read: Callable[[bytes], None] | None = None

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes from QUIC.

        Raises:
            ProtocolError: They break a rule for which the connection is closed.
        """
        if self._read is None:
            data = self._partial + data
            parsed = read_varint(data, 0)
            if parsed is None:
                self._partial = data
                return
            kind, position = parsed
            self._read = self._session.begin_unidirectional(self._stream_id, kind)
            if self._read is None:
                return
            data = data[position:]
        self._read(data)
        if fin:
            self.ended()

    def ended(self) -> None:
        """Learn that the peer ended or reset it.

        Raises:
            ProtocolError: It is a critical stream (RFC 9114 section 6.2.1, RFC 9204 section 4.2).
        """
        if self._read is not None:
            raise ProtocolError(H3_CLOSED_CRITICAL_STREAM, "a critical stream was closed")


class ControlStream(FrameReader):
    """The peer's control stream (RFC 9114 section 6.2.1)."""

    __slots__ = ("_forbidden", "_session", "_settings_seen")

    def __init__(self, session: "Session") -> None:
        super().__init__()
        self._session = session
        self._settings_seen = False
        self._forbidden = FORBIDDEN_TO_SERVERS if session.is_client else FORBIDDEN_FRAMES

    def _begin_frame(self, kind: int, length: int) -> bool:
        """Judge a frame by its header; frames with a meaning are gathered."""
        if not self._settings_seen:
            if kind != SETTINGS:
                raise ProtocolError(H3_MISSING_SETTINGS, f"frame {kind:#x} before SETTINGS")
            self._settings_seen = True
        elif kind == SETTINGS:
            raise ProtocolError(H3_FRAME_UNEXPECTED, "a second SETTINGS frame")
        elif kind in self._forbidden:
            raise ProtocolError(H3_FRAME_UNEXPECTED, f"frame {kind:#x} on the control stream")
        else:
            # Little of the others changes anything here; GOAWAY is sent once or twice.
            self._session.budget.spend_frames(1)
        if kind in KNOWN_FRAMES:
            if length > CONTROL_FRAME_MAX_BYTES:
                raise ProtocolError(H3_EXCESSIVE_LOAD, f"frame {kind:#x} is too long")
            return True
        self._session.budget.spend_bytes(length)
        return False

    def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
        """Obey a frame."""
        if kind == SETTINGS:
            self._session.take_settings(parse_settings(payload))
        elif kind == GOAWAY:
            self._session.take_goaway(parse_single_varint(payload))
        elif kind == MAX_PUSH_ID:
            self._session.take_max_push_id(parse_single_varint(payload))
        elif kind == CANCEL_PUSH:
            parse_single_varint(payload)
            raise ProtocolError(H3_ID_ERROR, "nothing was pushed")
        else:
            self._take_priority_update(kind, payload)

    def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
        """Discard unknown frames (RFC 9114 section 9)."""

    def _take_priority_update(self, kind: int, payload: bytes) -> None:
        """Check what a priority is for, and pass it on (RFC 9218 section 7.2)."""
        element = read_varint(payload, 0)
        if element is None:
            raise ProtocolError(H3_FRAME_ERROR, "the priority update is truncated")
        if kind == PRIORITY_UPDATE_PUSH or element[0] & 0x3:
            raise ProtocolError(H3_ID_ERROR, "the priority is not that of a request")
        self._session.take_priority_update(element[0], payload[element[1] :])
