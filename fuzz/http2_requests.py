"""What a client sends on an HTTP/2 connection, cut anywhere, and how it is answered.

The first byte chooses the engine, the second whether requests are answered and where the bytes are
cut; the rest follows the preface and the client's settings. What the server makes of it may not
depend on the cuts.
"""

from collections.abc import Iterator

import hpack

from fuzz._wire import cut
from fuzz.http2_frames import NOW, head
from spooky._core.h2_gate import PREFACE
from tests.protocol.h2.peers import (
    ENGINES,
    GET,
    OK,
    POST,
    Recorder,
    ServerEnd,
    data,
    goaway,
    raw_frame,
    rst_stream,
    settings,
    window_update,
)

ANSWERS = 0x80
RST_STREAM = 3
FRAME_HEADER_BYTES = 9
STREAM_ID_MAX = 0x7FFF_FFFF


def seeds() -> Iterator[bytes]:
    """Yield requests that are right, and some that are nearly."""
    trailers = [(b"x-checksum", b"1")]
    table = hpack.Encoder()
    indexed = raw_frame(1, 5, 1, table.encode(GET)) + raw_frame(1, 5, 3, table.encode(GET))
    split = head(1, GET, end=True)[9:]
    conversations = [
        head(1, GET, end=True),
        head(1, POST) + data(1, b"hello") + data(1, b"", end=True) + head(3, GET, end=True),
        head(1, [*POST, (b"content-length", b"5")]) + data(1, b"hell", end=True),
        head(1, POST) + data(1, b"x", padding=7) + head(1, trailers, end=True),
        indexed,
        raw_frame(1, 1, 1, split[:9]) + raw_frame(9, 4, 1, split[9:]),
        raw_frame(1, 1, 1, split[:9]) + data(1, b"between"),
        head(1, GET) + rst_stream(1) + window_update(1, 5) + data(1, b"late"),
        head(3, GET, end=True) + head(1, GET, end=True),
        settings({4: 0x7FFFFFFF, 5: 16_384, 1: 0}) + settings({3: 1}, ack=True),
        raw_frame(6, 0, 0, bytes(8)) + raw_frame(2, 0, 1, bytes(5)) + goaway(0, 2),
        window_update(0, 0x7FFFFFFF) + window_update(0, 0x7FFFFFFF),
        head(1, [*GET, (b"connection", b"close")], end=True),
        head(1, [*GET, (b":path", b"/again")], end=True),
        raw_frame(16, 0, 0, b"\0\0\0\1u=1, i") + head(1, [*GET, (b"priority", b"u=7")], end=True),
        raw_frame(1, 5, 1, b"\x3f\xe1\xff\xff\x7f") + raw_frame(5, 4, 1, bytes(9)),
    ]
    for number, conversation in enumerate(conversations):
        for choice in (0, ANSWERS | number):
            yield bytes((number % len(ENGINES), choice)) + conversation
    # Whether it is answered before it is given up depends on the cuts.
    for engine in range(len(ENGINES)):
        late = head(1, GET) + data(1, b"", end=True) + rst_stream(1)
        yield bytes((engine, ANSWERS)) + late + head(3, GET, end=True)


def answer(recorder: Recorder, name: str) -> None:
    """Answer a request when it is complete."""
    if recorder.ended and name in ("head", "data", "trailers"):
        recorder.send_head(OK)
        recorder.send_data(b"ok", True)


def converse(pieces: Iterator[bytes], engine: int, answers: bool) -> ServerEnd:
    """Deliver pieces to a server."""
    server = ServerEnd(ENGINES[engine], hook=answer if answers else None)
    for piece in (PREFACE + settings(), *pieces):
        server.session.receive(piece, NOW)
        if not answers:
            continue
        while server.session.transmit():
            pass
    while server.session.transmit():
        pass
    return server


def given_up(frames: bytes) -> set[int]:
    """Return the streams that a client resets."""
    found, position = set(), 0
    while position + FRAME_HEADER_BYTES <= len(frames):
        length, kind = int.from_bytes(frames[position : position + 3]), frames[position + 3]
        if kind == RST_STREAM:
            found.add(int.from_bytes(frames[position + 5 : position + 9]) & STREAM_ID_MAX)
        position += FRAME_HEADER_BYTES + length
    return found


def outcome(server: ServerEnd, reset: set[int]) -> list[tuple[object, ...]]:
    """Return what came of each request, but those reset, which may never have been heard of."""
    return [
        (
            [event for event in request.events if event[0] in ("head", "trailers")],
            bytes(request.body),
            request.ended,
        )
        for request in server.requests
        if request.reason is None and request.stream.id not in reset  # type: ignore[attr-defined]
    ]


def run(wire: bytes) -> None:
    """Deliver an input whole and cut, and compare."""
    engine, choice, *rest = wire.ljust(2, b"\0")
    engine %= len(ENGINES)
    frames, answers = bytes(rest), bool(choice & ANSWERS)
    whole = converse(iter([frames]), engine, answers)
    pieces = converse(cut(frames, choice % ANSWERS), engine, answers)
    assert whole.session.closed == pieces.session.closed
    if whole.session.closed:
        return
    reset = given_up(frames)
    assert outcome(whole, reset) == outcome(pieces, reset)
    assert whole.session.active_streams == pieces.session.active_streams
