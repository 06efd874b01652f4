"""What a backend sends on an HTTP/3 connection with two requests under way: kernel against twin,
and cut anywhere.

An input is pieces as in ``http3_frames``, on the streams of a server.
"""

import itertools
from collections.abc import Iterator

from fuzz.http3_frames import Piece, cut
from spooky._core.h3_client import ClientSession
from spooky._core.h3_frames import GOAWAY, MAX_PUSH_ID, encode_frame, encode_varint
from tests.protocol.h3.peers import (
    OK,
    POST,
    SERVER_CONTROL,
    SERVER_OTHER,
    Client,
    Recorder,
    control,
    data,
    headers,
    make_client,
)
from tests.support.twins import twins

REQUESTS = (0, 4)
STREAMS = (*REQUESTS, SERVER_CONTROL, SERVER_OTHER, 11, 15)
END = 0x80
PIECES_MAX = 100

TWINS = twins(
    "h3_frames", "h3_fields", "h3_budget", "h3", "h3_unidirectional", "h3_session", "h3_client"
)
Twin: type[ClientSession] = TWINS["h3_client"].ClientSession


def piece(stream_id: int, payload: bytes, end: bool = False) -> bytes:
    """Encode a piece of an input."""
    return bytes((STREAMS.index(stream_id) | END * end, len(payload))) + payload


def seeds() -> Iterator[bytes]:
    """Yield answers that are right, and some that are nearly."""
    opening = piece(SERVER_CONTROL, control({6: 16_384}))
    length = [*OK, (b"content-length", b"5")]
    early = [(b":status", b"103")]
    yield opening + piece(0, headers(OK), end=True)
    yield opening + piece(4, headers(length) + data(b"he")) + piece(4, data(b"llo"), end=True)
    yield opening + piece(0, headers(length) + data(b"hell"), end=True)
    yield opening + piece(0, headers(early) + headers(OK) + headers([(b"x", b"1")]), end=True)
    yield opening + piece(0, data(b"first"))
    yield opening + piece(SERVER_CONTROL, encode_frame(GOAWAY, b"\x04"))
    yield opening + piece(SERVER_CONTROL, encode_frame(MAX_PUSH_ID, b"\x04"))
    yield opening + piece(SERVER_OTHER, encode_varint(1) + b"\0") + piece(11, b"\x02\x20")
    yield opening + piece(0, encode_frame(5, b"\0\0\0"))
    yield piece(SERVER_CONTROL, control() + control())


def pieces_of(data: bytes) -> Iterator[Piece]:
    """Decode an input."""
    position = 0
    while position + 2 <= len(data):
        choice, length = data[position], data[position + 1]
        position += 2
        stream = STREAMS[(choice & 0x7F) % len(STREAMS)]
        yield stream, data[position : position + length], bool(choice & END)
        position += length


def converse(
    pieces: Iterator[Piece], session_class: type[ClientSession] = ClientSession
) -> tuple[Client, list[Recorder]]:
    """Deliver pieces to a client with two requests until it closes."""
    client = make_client(session_class=session_class)
    requests = [client.request(), client.request(POST, end=False)]
    ended = set()
    for stream_id, payload, end in pieces:
        if client.quic.closed is not None:
            break
        if stream_id in ended or stream_id in client.quic.stops or not (payload or end):
            continue
        if end:
            ended.add(stream_id)
        client.quic.deliver(stream_id, payload, end)
    return client, requests


def outcome(recorder: Recorder) -> tuple[object, ...]:
    """Return what a request came to, without how much of a body came before a reset."""
    body = bytes(recorder.body) if recorder.reset is None else b""
    return recorder.head, body, recorder.trailers, recorder.ended, recorder.reset


def noted(client: Client, requests: list[Recorder]) -> tuple[object, ...]:
    """Return everything that came of a connection."""
    quic, session = client.quic, client.session
    return (
        [recorder.events for recorder in requests],
        [outcome(recorder) for recorder in requests],
        (quic.sent, quic.resets, quic.stops, quic.credited, quic.closed),
        (session.capacity, session.reusable, session.drained, session.active_streams),
    )


def run(data: bytes) -> None:
    """Deliver an input whole and cut, and compare."""
    pieces = list(itertools.islice(pieces_of(data), PIECES_MAX))
    whole, requests = converse(iter(pieces))
    twin, same = converse(iter(pieces), Twin)
    assert noted(whole, requests) == noted(twin, same)
    bytewise, again = converse(cut(pieces))
    closed, other = whole.quic.closed, bytewise.quic.closed
    assert (closed is None) == (other is None), (closed, other)
    if closed is None:
        assert list(map(outcome, requests)) == list(map(outcome, again))
        for stream_id in STREAMS:
            assert whole.quic.outstanding(stream_id) == bytewise.quic.outstanding(stream_id)
    elif other is not None:
        assert closed[0] == other[0]
        assert 0x100 <= closed[0] <= 0x110 or 0x200 <= closed[0] <= 0x202
