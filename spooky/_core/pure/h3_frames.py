# cython: annotation_typing=False
"""HTTP/3 framing: integers, frames as they arrive in pieces, SETTINGS (RFC 9114 section 7)."""

from collections.abc import Mapping
from typing import Final

from spooky._core.h3_errors import H3_FRAME_ERROR, H3_SETTINGS_ERROR, ProtocolError
from spooky._core.h3_wire import encode_frame, encode_varint

DATA: Final = 0x00
HEADERS: Final = 0x01
CANCEL_PUSH: Final = 0x03
SETTINGS: Final = 0x04
PUSH_PROMISE: Final = 0x05
GOAWAY: Final = 0x07
MAX_PUSH_ID: Final = 0x0D
PRIORITY_UPDATE_REQUEST: Final = 0xF0700
PRIORITY_UPDATE_PUSH: Final = 0xF0701

HTTP2_FRAMES: Final = frozenset({0x02, 0x06, 0x08, 0x09})
"""Frame types of HTTP/2 that must never be seen (RFC 9114 section 7.2.8)."""

SETTINGS_QPACK_MAX_TABLE_CAPACITY: Final = 0x01
SETTINGS_MAX_FIELD_SECTION_SIZE: Final = 0x06
SETTINGS_QPACK_BLOCKED_STREAMS: Final = 0x07

HTTP2_SETTINGS: Final = frozenset({0x00, 0x02, 0x03, 0x04, 0x05})
"""Settings of HTTP/2 that must never be seen (RFC 9114 sections 7.2.4.1 and 11.2.2)."""

CONTROL_STREAM: Final = 0x00
PUSH_STREAM: Final = 0x01
QPACK_ENCODER_STREAM: Final = 0x02
QPACK_DECODER_STREAM: Final = 0x03

VARINT_MAX: Final = 2**62 - 1
"""RFC 9000 section 16."""


def _end_of_varint(data: bytes, position: int) -> int:
    """Return the position behind an integer, or -1 if ``data`` ends before it does."""
    if position >= len(data):
        return -1
    end = position + (1 << (data[position] >> 6))
    return end if end <= len(data) else -1


def _varint(data: bytes, position: int, end: int) -> int:
    """Return the integer between two positions."""
    value = data[position] & 0x3F
    for index in range(position + 1, end):
        value = value << 8 | data[index]
    return value


def read_varint(data: bytes, position: int) -> tuple[int, int] | None:
    """Read an integer.

    Returns:
        Its value and the position behind it, or ``None`` if ``data`` ends before it does.
    """
    end = _end_of_varint(data, position)
    return None if end < 0 else (_varint(data, position, end), end)


def parse_frame_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Read a frame's header.

    Returns:
        Its type, the length of its payload and the position behind it, or ``None`` if ``data``
        ends before it does.
    """
    kind = read_varint(data, position)
    if kind is None:
        return None
    length = read_varint(data, kind[1])
    if length is None:
        return None
    return kind[0], length[0], length[1]


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """Make a SETTINGS frame (RFC 9114 section 7.2.4)."""
    payload = b"".join(encode_varint(key) + encode_varint(settings[key]) for key in settings)
    return encode_frame(SETTINGS, payload)


def parse_settings(payload: bytes) -> dict[int, int]:
    """Read the payload of a SETTINGS frame.

    Raises:
        ProtocolError: It is truncated, repeats a setting or has one of HTTP/2.
    """
    settings: dict[int, int] = {}
    position = 0
    while position < len(payload):
        pair = parse_frame_header(payload, position)  # a setting has the shape of a frame header
        if pair is None:
            raise ProtocolError(H3_FRAME_ERROR, "SETTINGS is truncated")
        key, value, position = pair
        if key in HTTP2_SETTINGS:
            raise ProtocolError(H3_SETTINGS_ERROR, f"setting {key:#x} is of HTTP/2")
        if key in settings:
            raise ProtocolError(H3_SETTINGS_ERROR, f"setting {key:#x} is repeated")
        settings[key] = value
    return settings


def parse_single_varint(payload: bytes) -> int:
    """Read a payload that is one integer: GOAWAY, MAX_PUSH_ID, CANCEL_PUSH.

    Raises:
        ProtocolError: It is anything else.
    """
    parsed = read_varint(payload, 0)
    if parsed is None or parsed[1] != len(payload):
        raise ProtocolError(H3_FRAME_ERROR, "the frame's payload is not one integer")
    return parsed[0]


class FrameReader:
    """Splits the bytes of a stream into frames as they arrive, and discards them.

    A subclass decides, at each frame's header, whether its payload is gathered or passed on in
    the pieces in which it comes.
    """

    def __init__(self) -> None:
        self._begin_reading()

    def _begin_reading(self) -> None:
        """Do what making one does; here for its type."""
        self._inside_frame = False
        self._frame_type = 0
        self._remaining = 0
        # The beginning of a frame header.
        self._partial = b""
        self._gathers = False
        self._gathered: bytearray | None = None
        # Set by a subclass to leave the rest of the stream unread.
        self._stopped = False

    def _begin_frame(self, kind: int, length: int) -> bool:
        """Judge a frame by its header; return whether its payload is to be gathered."""
        return False

    def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
        """Take a gathered payload; ``at_end`` says that the bytes read so far end with it."""

    def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
        """Take a piece; ``at_end`` says that its frame and the bytes read so far end with it."""

    @property
    def ends_within_frame(self) -> bool:
        """Whether the bytes so far end within a frame."""
        return self._inside_frame or len(self._partial) > 0

    def read(self, data: bytes) -> None:
        """Read the next bytes of the stream.

        Raises:
            ProtocolError: The subclass rejects a frame.
        """
        if len(self._partial) > 0:
            data = self._partial + data
            self._partial = b""
        position = 0
        size = len(data)
        while not self._stopped:
            if not self._inside_frame:
                if position == size:
                    return
                end = self._read_header(data, position)
                if end < 0:
                    self._partial = data[position:]
                    return
                position = end
                self._gathers = self._begin_frame(self._frame_type, self._remaining)
                if self._stopped:
                    return
            end = min(size, position + self._remaining)
            piece = data[position:end]
            self._remaining -= end - position
            position = end
            self._take(piece, position == size)
            if self._remaining:
                return
            self._inside_frame = False

    def _read_header(self, data: bytes, position: int) -> int:
        """Read a frame's header; return the position behind it, or -1 if it is not all here."""
        middle = _end_of_varint(data, position)
        end = -1 if middle < 0 else _end_of_varint(data, middle)
        if end >= 0:
            self._frame_type = _varint(data, position, middle)
            self._remaining = _varint(data, middle, end)
            self._inside_frame = True
        return end

    def _take(self, piece: bytes, at_end: bool) -> None:
        """Gather or pass on a piece of the current frame's payload."""
        kind = self._frame_type
        complete = not self._remaining
        if not self._gathers:
            if complete or len(piece) > 0:
                self._take_piece(kind, piece, at_end and complete)
        elif complete:
            if self._gathered is not None:
                self._gathered += piece
                piece = bytes(self._gathered)
                self._gathered = None
            self._take_frame(kind, piece, at_end)
        elif self._gathered is None:
            self._gathered = bytearray(piece)
        else:
            self._gathered += piece
