"""What a small request costs an HTTP/3 server: from a stream's bytes to those of the answer.

QUIC is a stub that accepts everything, so what is timed is framing, QPACK, the validator and the
session, with a handler that answers at once.
"""

from typing import Any, Final, cast

from pylsqpack import Encoder

from spooky._core.h3_frames import HEADERS
from spooky._core.h3_wire import encode_frame
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.bench.kernels.case import Case, Work
from spooky.protocol.h3.limits import Limits as H3Limits
from spooky.protocol.h3.server import ServerSession
from spooky.protocol.quic.session import Handshake, QuicSession

CALLS: Final = 1_000
STREAM_ID_STEP: Final = 4

GET: Final = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"www.example.com"),
    (b":path", b"/"),
    (b"user-agent", b"curl/8.14.1"),
    (b"accept", b"*/*"),
]
ANSWER: Final = [
    (b":status", b"200"),
    (b"date", b"Mon, 23 Nov 2026 23:00:00 GMT"),
    (b"server", b"nginx"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"2"),
]
LAST_SENT: Final = b"\0\2ok"


class Quic:
    """Accepts everything and keeps nothing but the last bytes."""

    is_client = False
    sent = b""

    def open_stream(self, unidirectional: bool) -> int:
        """Open the control stream."""
        return 3

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        """Take all."""
        self.sent = data
        return len(data)

    def consume(self, stream_id: int, count: int) -> None:
        """Credit nothing."""

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        """Ignore it."""


class Owner:
    """Owns the connection and does nothing."""

    def on_established(self, handshake: Handshake) -> None:
        """Ignore it."""

    def wake(self) -> None:
        """Ignore it."""


class Requests:
    """Requests of one connection, each on a stream of its own."""

    def __init__(self) -> None:
        limits = Limits()

        class Handler:
            def __init__(self, stream: Any) -> None:
                self.stream = stream

            def on_head(self, fields: list[tuple[bytes, bytes]], end: bool) -> None:
                request = validate_request(fields, HTTP_3, limits)
                if isinstance(request, Request):
                    self.stream.send_head(ANSWER, False)
                    self.stream.send_data(b"ok", True)

        self.quic = Quic()
        self.session = ServerSession(
            cast(QuicSession, self.quic), cast(Any, Handler), H3Limits(), cast(Any, Owner())
        )
        self.session.on_handshake(Handshake(1, "h3", None, False, None))
        self.frame = encode_frame(HEADERS, Encoder().encode(0, GET)[1])
        self.next_id = 0

    def run(self) -> int:
        """Make a round of requests; return how many are not over."""
        end = self.next_id + CALLS * STREAM_ID_STEP
        for stream_id in range(self.next_id, end, STREAM_ID_STEP):
            self.session.on_stream_data(stream_id, self.frame, True)
        self.next_id = end
        return self.session.active_streams


def _small_get() -> Work:
    requests = Requests()

    def right(active: int) -> bool:
        return active == 0 and requests.quic.sent == LAST_SENT

    return Work(run=requests.run, right=right, calls=CALLS)


CASES: Final = (Case("h3 server: a small GET and its answer", _small_get),)
