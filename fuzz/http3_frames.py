"""HTTP/3 and QPACK streams of a client, cut anywhere.

An input is pieces: a byte that chooses a stream and whether it ends there, a length, and so many
bytes. What a server makes of it may not depend on where the bytes were cut.
"""

import itertools
from collections.abc import Iterator

from spooky._core.h3_frames import CANCEL_PUSH
from spooky._core.h3_wire import encode_frame, encode_varint
from tests.protocol.h3.peers import (
    CONTROL,
    DECODER,
    ENCODER,
    GET,
    OTHER,
    POST,
    Recorder,
    Server,
    control,
    data,
    headers,
    make_server,
)

STREAMS = (0, 4, 8, CONTROL, ENCODER, DECODER, OTHER, 12)
END = 0x80

Piece = tuple[int, bytes, bool]


def piece(stream_id: int, payload: bytes, end: bool = False) -> bytes:
    """Encode a piece of an input."""
    return bytes((STREAMS.index(stream_id) | END * end, len(payload))) + payload


def seeds() -> Iterator[bytes]:
    """Yield conversations that are right, and some that are nearly."""
    opening = piece(CONTROL, control()) + piece(ENCODER, b"\x02") + piece(DECODER, b"\x03")
    yield opening + piece(0, headers(GET), end=True)
    yield opening + piece(0, headers(POST) + data(b"abc")) + piece(0, data(b"def"), end=True)
    yield opening + piece(0, headers(POST) + data(b"x") + headers([(b"x-trailer", b"1")]), end=True)
    yield opening + piece(0, encode_frame(0x21, b"grease") + headers(GET), end=True)
    yield piece(CONTROL, control({6: 4096, 0x33: 1}) + encode_frame(7, b"\x00"))
    yield piece(CONTROL, control() + encode_frame(CANCEL_PUSH, b"\x01"))
    yield piece(OTHER, encode_varint(0x21) + b"whatever") + piece(ENCODER, b"\x02\x3f\xe1\x1f")
    yield piece(0, encode_frame(0x01, bytes.fromhex("0000ff24")))


def pieces_of(data: bytes) -> Iterator[Piece]:
    """Decode an input."""
    position = 0
    while position + 2 <= len(data):
        choice, length = data[position], data[position + 1]
        position += 2
        yield STREAMS[choice & 7], data[position : position + length], bool(choice & END)
        position += length


def cut(pieces: list[Piece]) -> Iterator[Piece]:
    """Deliver the same one byte at a time."""
    for stream_id, payload, end in pieces:
        for index in range(len(payload)):
            yield stream_id, payload[index : index + 1], end and index == len(payload) - 1
        if not payload:
            yield stream_id, b"", end


def converse(pieces: Iterator[Piece]) -> Server:
    """Deliver pieces to a server until it closes."""
    server = make_server()
    ended = set()
    for stream_id, payload, end in pieces:
        if server.quic.closed is not None:
            break
        if stream_id in ended or stream_id in server.quic.stops or not (payload or end):
            continue
        if end:
            ended.add(stream_id)
        server.quic.deliver(stream_id, payload, end)
    return server


def outcome(recorder: Recorder) -> tuple[object, ...]:
    """Return what a request came to."""
    return recorder.head, bytes(recorder.body), recorder.trailers, recorder.ended, recorder.reset


def run(data: bytes) -> None:
    """Deliver an input whole and cut, and compare."""
    pieces = list(itertools.islice(pieces_of(data), 100))
    whole, bytewise = converse(iter(pieces)), converse(cut(pieces))
    closed, again = whole.quic.closed, bytewise.quic.closed
    assert (closed is None) == (again is None), (closed, again)
    if closed is None:
        assert list(map(outcome, whole.requests)) == list(map(outcome, bytewise.requests))
        for stream_id in STREAMS:
            assert whole.quic.outstanding(stream_id) == bytewise.quic.outstanding(stream_id)
    elif again is not None:
        assert closed[0] == again[0]
        assert 0x100 <= closed[0] <= 0x110 or 0x200 <= closed[0] <= 0x202
