"""QUIC frames taken apart (RFC 9000 section 19), to see what an engine sent."""

from enum import IntEnum
from typing import NamedTuple

from aioquic.buffer import Buffer


class FrameType(IntEnum):
    """The first varint of a frame; of those with flags, without them."""

    PADDING = 0x00
    PING = 0x01
    ACK = 0x02
    ACK_ECN = 0x03
    RESET_STREAM = 0x04
    STOP_SENDING = 0x05
    CRYPTO = 0x06
    NEW_TOKEN = 0x07
    STREAM = 0x08
    MAX_DATA = 0x10
    MAX_STREAM_DATA = 0x11
    MAX_STREAMS_BIDI = 0x12
    MAX_STREAMS_UNI = 0x13
    DATA_BLOCKED = 0x14
    STREAM_DATA_BLOCKED = 0x15
    STREAMS_BLOCKED_BIDI = 0x16
    STREAMS_BLOCKED_UNI = 0x17
    NEW_CONNECTION_ID = 0x18
    RETIRE_CONNECTION_ID = 0x19
    PATH_CHALLENGE = 0x1A
    PATH_RESPONSE = 0x1B
    CONNECTION_CLOSE = 0x1C
    APPLICATION_CLOSE = 0x1D
    HANDSHAKE_DONE = 0x1E


RESET_TOKEN_BYTES = 16

STREAM_OFFSET, STREAM_LENGTH, STREAM_FIN = 4, 2, 1

NUMBERS = {
    FrameType.PADDING: 0,
    FrameType.PING: 0,
    FrameType.RESET_STREAM: 3,
    FrameType.STOP_SENDING: 2,
    FrameType.MAX_DATA: 1,
    FrameType.MAX_STREAM_DATA: 2,
    FrameType.MAX_STREAMS_BIDI: 1,
    FrameType.MAX_STREAMS_UNI: 1,
    FrameType.DATA_BLOCKED: 1,
    FrameType.STREAM_DATA_BLOCKED: 2,
    FrameType.STREAMS_BLOCKED_BIDI: 1,
    FrameType.STREAMS_BLOCKED_UNI: 1,
    FrameType.RETIRE_CONNECTION_ID: 1,
    FrameType.HANDSHAKE_DONE: 0,
}
"""How many varints follow the type, where nothing else does."""


class Frame(NamedTuple):
    """A frame.

    Attributes:
        type: Its type.
        numbers: Its integers: of STREAM ID, offset and FIN, of CRYPTO the offset, of
            CONNECTION_CLOSE the error code, of ACK the largest number and of ACK_ECN the counts
            behind it.
        data: Its bytes: stream data, token, challenge, phrase, connection ID with reset token.
    """

    type: FrameType
    numbers: tuple[int, ...] = ()
    data: bytes = b""


def parse_frames(payload: bytes) -> list[Frame]:
    """Take a packet's payload apart; PADDING is left out."""
    buffer = Buffer(data=payload)
    frames = []
    while not buffer.eof():
        frame = _pull_frame(buffer)
        if frame.type is not FrameType.PADDING:
            frames.append(frame)
    return frames


def _pull_frame(buffer: Buffer) -> Frame:
    number = buffer.pull_uint_var()
    if FrameType.STREAM <= number < FrameType.MAX_DATA:
        return _pull_stream(buffer, number)
    kind = FrameType(number)
    pull = buffer.pull_uint_var
    if kind in NUMBERS:
        return Frame(kind, tuple(pull() for _ in range(NUMBERS[kind])))
    if kind in (FrameType.ACK, FrameType.ACK_ECN):
        largest, _, ranges, _ = pull(), pull(), pull(), pull()
        for _ in range(2 * ranges):
            pull()
        counts = tuple(pull() for _ in range(3)) if kind is FrameType.ACK_ECN else ()
        return Frame(kind, (largest, *counts))
    if kind is FrameType.CRYPTO:
        return Frame(kind, (pull(),), buffer.pull_bytes(pull()))
    if kind is FrameType.NEW_TOKEN:
        return Frame(kind, (), buffer.pull_bytes(pull()))
    if kind is FrameType.NEW_CONNECTION_ID:
        numbers = pull(), pull()
        return Frame(kind, numbers, buffer.pull_bytes(buffer.pull_uint8() + RESET_TOKEN_BYTES))
    if kind in (FrameType.PATH_CHALLENGE, FrameType.PATH_RESPONSE):
        return Frame(kind, (), buffer.pull_bytes(8))
    code = pull()
    if kind is FrameType.CONNECTION_CLOSE:
        pull()
    return Frame(kind, (code,), buffer.pull_bytes(pull()))


def _pull_stream(buffer: Buffer, number: int) -> Frame:
    stream_id = buffer.pull_uint_var()
    offset = buffer.pull_uint_var() if number & STREAM_OFFSET else 0
    rest = buffer.capacity - buffer.tell()
    length = buffer.pull_uint_var() if number & STREAM_LENGTH else rest
    data = buffer.pull_bytes(length)
    return Frame(FrameType.STREAM, (stream_id, offset, number & STREAM_FIN), data)
