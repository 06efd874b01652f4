"""What a small request costs an HTTP/2 client session: from a head to the end of the answer.

The engine is a stub whose answers are ready, so what is timed is the session, the gate and the
sender, with a handler that takes everything.
"""

from typing import Any, Final

from spooky._core.h2_client import ClientSession
from spooky._core.h2_gate import FrameGate
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.h3 import ANSWER, GET
from spooky.protocol.h2 import engine_h2
from spooky.protocol.h2.engine import DataReceived, ResponseReceived, StreamClosed
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits

CALLS: Final = 100
BODY: Final = bytes(1024)


class Engine:
    """Answers every request at once."""

    EVENTS = engine_h2.Engine.EVENTS
    ERRORS: tuple[type[Exception], ...] = (ValueError,)
    can_send_request = True
    want_write = False
    remote_window_size = 65_535

    def __init__(self) -> None:
        self.happened: list[object] = []
        self.next_id = 1

    def send_request(self, headers: Any, *, end_stream: bool) -> int:
        """Have the answer ready."""
        stream_id = self.next_id
        self.next_id += 2
        self.happened += (
            ResponseReceived(stream_id, ANSWER, False),
            DataReceived(stream_id, BODY, True),
            StreamClosed(stream_id),
        )
        return stream_id

    def receive_data(self, data: bytes) -> None:
        """Take nothing: the answers are ready."""

    def events(self) -> list[object]:
        """Return the answers."""
        happened, self.happened = self.happened, []
        return happened

    def acknowledge_received_data(self, amount: int, stream_id: int) -> None:
        """Credit nothing."""


class Handler:
    """Takes an answer."""

    def __init__(self) -> None:
        self.stream: Any = None

    def on_head(self, fields: Any, end: bool) -> None:
        """Ignore it."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Credit it."""
        self.stream.consume(len(data))


def _small_get() -> Work:
    engine = Engine()
    session = ClientSession(lambda: None, Limits(max_concurrent_streams=2 * CALLS), engine)

    def run() -> int:
        for _ in range(CALLS):
            handler = Handler()
            handler.stream = session.open(handler)
            handler.stream.send_head(GET, True)
        session.receive(b"", 1.0)
        return session.active_streams

    return Work(run=run, right=lambda active: active == 0, calls=CALLS)


def _frames() -> Work:
    gate = FrameGate(DEFAULT_LIMITS, 0)
    # As many heads and bodies as fill what is read from a socket at once.
    wire = (b"\0\0\x40\1\4\0\0\0\1" + bytes(64) + b"\0\4\0\0\1\0\0\0\1" + BODY) * CALLS
    return Work(
        run=lambda: gate.admit(wire, 1.0),
        right=lambda admitted: admitted == wire,
        calls=2 * CALLS,
    )


CASES: Final = (
    Case("h2 client: a small GET and its answer", _small_get),
    Case("h2 gate: a frame of many", _frames),
)
