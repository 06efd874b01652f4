"""What a backend sends on an HTTP/2 connection with two requests under way, cut anywhere.

What a client session makes of it may not depend on where the bytes were cut.
"""

from collections.abc import Iterator

import hpack

from tests.protocol.h2.peers import (
    POST,
    ClientEnd,
    Recorder,
    data,
    raw_frame,
    rst_stream,
    settings,
    window_update,
)

NOW = 1.0


def head(stream_id: int, fields: list[tuple[bytes, bytes]], end: bool = False) -> bytes:
    """Encode a head that leaves nothing in the table."""
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])
    return raw_frame(1, 4 | end, stream_id, block)


def seeds() -> Iterator[bytes]:
    """Yield answers that are right, and some that are nearly."""
    ok = [(b":status", b"200"), (b"content-length", b"5")]
    yield settings() + head(1, ok) + data(1, b"hello", end=True)
    yield settings() + head(3, ok) + data(3, b"he") + data(3, b"llo!", end=True)
    yield settings() + head(1, [(b":status", b"103")]) + head(1, ok[:1], end=True)
    yield settings() + head(1, ok[:1]) + data(1, b"x") + head(1, [(b"x-trailer", b"1")], end=True)
    yield settings() + rst_stream(1, 7) + raw_frame(7, 0, 0, bytes(8))
    yield settings({3: 1}) + raw_frame(6, 0, 0, bytes(8)) + window_update(1, 65_536)
    yield settings() + raw_frame(1, 0, 1, b"\x88") + raw_frame(9, 4, 1)
    # Ends in good order with requests under way that it said it would answer.
    yield settings() + raw_frame(7, 0, 0, b"\0\0\0\x3d" + bytes(4)) + data(1, b"x", end=True)
    yield bytes.fromhex(
        "000000047c000000000000090700000000000000003d0000000000000000000000000000"
        "0000ffffffffffff00ffffff1b28ff00005702000000000001fe6c6f21"
    )


def receive(pieces: Iterator[bytes]) -> tuple[ClientEnd, list[Recorder]]:
    """Deliver pieces to a session with two requests."""
    end = ClientEnd("ngh2")
    requests = [end.request(POST, False), end.request()]
    end.session.transmit()
    for piece in pieces:
        end.session.receive(piece, NOW)
    return end, requests


def outcome(recorder: Recorder) -> tuple[object, ...]:
    """Return what a request came to."""
    heads = [event for event in recorder.events if event[0] in ("head", "informational")]
    return heads, bytes(recorder.body), recorder.ended, recorder.reason


def run(data: bytes) -> None:
    """Deliver an input whole and byte by byte, and compare."""
    whole, requests = receive(iter([data]))
    bytewise, again = receive(data[at : at + 1] for at in range(len(data)))
    whole.session.transmit()
    bytewise.session.transmit()
    assert whole.session.close_reason is bytewise.session.close_reason
    if not whole.session.closed:
        assert list(map(outcome, requests)) == list(map(outcome, again))
        assert whole.session.active_streams == bytewise.session.active_streams
