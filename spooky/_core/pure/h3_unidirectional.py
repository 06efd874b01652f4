# cython: annotation_typing=False
"""The peer's unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2).

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. We advertise QPACK
table capacity 0 and use none of the peer's, so the few instructions that peers may still send are
only checked.
"""

from typing import Any, Final

from spooky._core import h3_frames
from spooky._core.h3_budget import Budget
from spooky._core.h3_errors import (
    H3_CLOSED_CRITICAL_STREAM,
    H3_EXCESSIVE_LOAD,
    H3_FRAME_ERROR,
    H3_FRAME_UNEXPECTED,
    H3_ID_ERROR,
    H3_MISSING_SETTINGS,
    QPACK_DECODER_STREAM_ERROR,
    QPACK_ENCODER_STREAM_ERROR,
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
    parse_settings,
    parse_single_varint,
    read_varint,
)

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

SET_CAPACITY_0: Final = b"\x20"
"""Set Dynamic Table Capacity with the only value allowed here (RFC 9204 section 4.3.1)."""

VARINT_CONTINUATION_MAX: Final = 9
"""Bytes after the prefix that an integer of 62 bits can need (RFC 9204 section 4.1.1)."""

# C numbers, where those above are objects.
_CONTROL_FRAME_MAX_BYTES = CONTROL_FRAME_MAX_BYTES
_VARINT_CONTINUATION_MAX = VARINT_CONTINUATION_MAX
_SETTINGS = SETTINGS


class UnidirectionalStream:
    """A unidirectional stream of the peer, whose first bytes tell what it is.

    Arguments:
        session: The connection it is on.
        stream_id: Its QUIC stream ID.
    """

    def __init__(self, session: Any, stream_id: int) -> None:
        self._session = session
        self._stream_id = stream_id
        self._partial = b""
        # What reads it; None until its type is known.
        self._reader: Any = None

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes from QUIC.

        Raises:
            ProtocolError: They break a rule for which the connection is closed.
        """
        if self._reader is None:
            data = self._partial + data
            parsed = read_varint(data, 0)
            if parsed is None:
                self._partial = data
                return
            kind, position = parsed
            self._reader = self._session.begin_unidirectional(self._stream_id, kind)
            if self._reader is None:
                return
            data = data[position:]
        self._reader.read(data)
        if fin:
            self.ended()

    def ended(self) -> None:
        """Learn that the peer ended or reset it.

        Raises:
            ProtocolError: It is a critical stream (RFC 9114 section 6.2.1, RFC 9204 section 4.2).
        """
        if self._reader is not None:
            raise ProtocolError(H3_CLOSED_CRITICAL_STREAM, "a critical stream was closed")


class ControlStream(h3_frames.FrameReader):
    """The peer's control stream (RFC 9114 section 6.2.1)."""

    def __init__(self, session: Any) -> None:
        self._begin_reading()
        self._session = session
        self._budget = session.budget
        self._settings_seen = False
        self._forbidden = FORBIDDEN_TO_SERVERS if session.is_client else FORBIDDEN_FRAMES

    def _begin_frame(self, kind: int, length: int) -> bool:
        """Judge a frame by its header; frames with a meaning are gathered."""
        if not self._settings_seen:
            if kind != _SETTINGS:
                raise ProtocolError(H3_MISSING_SETTINGS, f"frame {kind:#x} before SETTINGS")
            self._settings_seen = True
        elif kind == _SETTINGS:
            raise ProtocolError(H3_FRAME_UNEXPECTED, "a second SETTINGS frame")
        elif kind in self._forbidden:
            raise ProtocolError(H3_FRAME_UNEXPECTED, f"frame {kind:#x} on the control stream")
        else:
            # Little of the others changes anything here; GOAWAY is sent once or twice.
            self._budget.spend_frames(1)
        if kind in KNOWN_FRAMES:
            if length > _CONTROL_FRAME_MAX_BYTES:
                raise ProtocolError(H3_EXCESSIVE_LOAD, f"frame {kind:#x} is too long")
            return True
        self._budget.spend_bytes(length)
        return False

    def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
        """Obey a frame."""
        if kind == _SETTINGS:
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


class EncoderInstructions:
    """Checks what comes on the peer's encoder stream (RFC 9204 section 4.3).

    Arguments:
        budget: Pays for each, as none has an effect.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def read(self, data: bytes) -> None:
        """Check the next bytes.

        Raises:
            ProtocolError: One is anything but setting the capacity to 0, or there were too many.
        """
        if data.strip(SET_CAPACITY_0):
            raise ProtocolError(QPACK_ENCODER_STREAM_ERROR, "there is no dynamic table")
        self._budget.spend_frames(len(data))


class DecoderInstructions:
    """Checks what comes on the peer's decoder stream (RFC 9204 section 4.4).

    We never refer to the dynamic table, so there is nothing to acknowledge or to count; only
    stream cancellations are legal.

    Arguments:
        budget: Pays for each, as none has an effect.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # How many bytes of an integer beyond its prefix were seen; -1 outside an integer.
        self._continuation = -1

    def read(self, data: bytes) -> None:
        """Check the next bytes.

        Raises:
            ProtocolError: One is not a stream cancellation, or there were too many.
        """
        count = 0
        for byte in data:
            if self._continuation >= 0:
                self._continuation += 1
                if byte < 0x80:
                    self._continuation = -1
                    count += 1
                elif self._continuation == _VARINT_CONTINUATION_MAX:
                    raise ProtocolError(QPACK_DECODER_STREAM_ERROR, "the stream ID is too large")
            elif byte & 0b1100_0000 != 0b0100_0000:
                raise ProtocolError(QPACK_DECODER_STREAM_ERROR, "nothing to acknowledge")
            elif byte == 0b0111_1111:
                self._continuation = 0
            else:
                count += 1
        self._budget.spend_frames(count)
