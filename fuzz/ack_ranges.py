"""ACK frames of an established client, for packets that the server sent and that were lost.

An input is frames: after a byte that says how the ranges are meant, either the frame as it is, or
distances of a byte each, from the newest packet down. aioquic says which frames are malformed; no
other is refused, but that which acknowledges what was never sent.
"""

from collections.abc import Iterator
from typing import Any

from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic.packet import QuicErrorCode, pull_ack_frame

from spooky import _core
from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from tests.protocol.quic import forge
from tests.protocol.quic.support import Endpoints, open_stream

FRAMES_MAX = 10
SENT = 12
"""Packets of the server that nobody got."""

AS_IT_IS, COUNTED, SPREAD = 0x80, 0x40, 0x3F
LARGEST = (1 << 62) - 1

REFUSED = (QuicErrorCode.FRAME_ENCODING_ERROR, QuicErrorCode.PROTOCOL_VIOLATION)


def frame(*content: int) -> bytes:
    """Encode a frame of an input."""
    return bytes((len(content), *content))


def seeds() -> Iterator[bytes]:
    """Yield frames that are right, and some that are nearly."""
    number = forge.varint
    for what in (0, 1, COUNTED, COUNTED | 3):
        yield frame(what, 0, 0)
        yield frame(what, 3, 2, 1, 0, 0, 2) + frame(what, 0, 11)
    for text in (
        number(0) * 4, number(20) + number(0) * 3, number(20) + number(0) + number(1) + number(19),
        number(5) + number(0) + number(3) + number(0) * 7, number(LARGEST) + number(0) * 3,
        number(9) + number(LARGEST) + number(0) + number(9), number(5) + number(0) * 2 + number(6),
        number(9) + number(0) + number(LARGEST) + number(0) + bytes(20), number(3), b"",
    ):  # fmt: skip
        yield frame(AS_IT_IS, *text)
        yield frame(AS_IT_IS | COUNTED, *text, *number(1) * 3)


def content_of(what: int, rest: bytes, newest: int) -> bytes:
    """Return the frame that is meant, but for its type."""
    if what & AS_IT_IS:
        return rest
    gaps = [byte & SPREAD for byte in rest]
    largest = max(0, newest + 2 - (gaps[0] if gaps else 0))
    number = forge.varint
    body = number(largest) + number(what & 7) + number(len(gaps[2::2])) + number(sum(gaps[1:2]))
    for gap, length in zip(gaps[2::2], [*gaps[3::2], 0], strict=False):
        body += number(gap) + number(length)
    return body + (number(1) * 3 if what & COUNTED else b"")


def frames_of(data: bytes, newest: int) -> Iterator[bytes]:
    """Decode an input."""
    position = 0
    for _ in range(FRAMES_MAX):
        if position >= len(data):
            return
        length = data[position]
        what, *rest = data[position + 1 : position + 1 + length] or b"\0"
        position += 1 + length
        yield bytes((3 if what & COUNTED else 2,)) + content_of(what, bytes(rest), newest)


def is_well_formed(encoded: bytes) -> bool:
    """Tell whether aioquic can read an ACK frame, to its end."""
    buffer = Buffer(data=encoded)
    try:
        kind = buffer.pull_uint_var()
        count = Buffer(data=encoded[1:])
        count.pull_uint_var(), count.pull_uint_var()
        if count.pull_uint_var() > len(encoded):
            return False  # It would try each.
        ranges, _ = pull_ack_frame(buffer)
        for _ in range(3 if kind == 3 else 0):
            buffer.pull_uint_var()
    except (BufferReadError, ValueError, AssertionError):
        return False
    return buffer.eof() and all(part.start >= 0 for part in ranges)


def run(data: bytes) -> None:
    """Acknowledge packets, and see how the server takes it."""
    if not _core.COMPILED:
        return  # aioquic's own reader is the oracle here.
    pair: Endpoints[Any] = Endpoints(1, engines=(AIOQUIC, ENGINES["native"]))
    pair.handshake()
    server, now = pair.server, pair.network.now
    stream = open_stream(server, unidirectional=True)
    for _ in range(SENT):
        now += 0.001
        server.send(stream, b"lost", False)
        server.flush(now)
    newest = server.statistics()["packets_sent"]
    for encoded in frames_of(data, newest):
        if pair.server_handler.closes:
            break
        now += 0.001
        good = is_well_formed(encoded)
        # A PING behind it, so that the frame ends where it says.
        forge.send(pair, encoded + b"\x01")
        server.expire(now)
        server.flush(now)
        for close in pair.server_handler.closes:
            assert close.error_code in REFUSED, close
            if good:
                assert close.error_code == QuicErrorCode.PROTOCOL_VIOLATION, (encoded, close)
