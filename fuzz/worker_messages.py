"""Messages between a supervisor and its workers: a message, or the one error that is foreseen.

The first byte chooses who reads. A worker that was taken over may send what it likes.
"""

from collections.abc import Iterator

from spooky.config.loading import load_text
from spooky.edge import messages
from spooky.edge.messages import MessageError, decode_for_supervisor, decode_for_worker, encode
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering
from tests.config.support import minimal

READERS = (decode_for_supervisor, decode_for_worker)


def seeds() -> Iterator[bytes]:
    """Yield a message of each kind."""
    from_worker = (
        messages.Ready(), messages.Failed("why"), messages.Prepared(3), messages.Draining(),
        messages.PrepareFailed(3, "why"), messages.Resolve("example.com", 80), messages.Drained(1),
    )  # fmt: skip
    yield from (b"\0" + encode(each) for each in from_worker)
    keys = Keys(1, bytes(32), (b"p" * 32,), bytes(32))
    steering, loaded, files = Steering((0, 1)), load_text(minimal()), {"a": b"x"}
    to_worker = [
        messages.Begin(), messages.Discard(3), messages.UseKeys(keys), messages.Drain(1.5),
        messages.UseLogs(("log",)), messages.Resolved("a", 80, ("192.0.2.1",)), messages.Stop(),
        messages.Prepare(4, loaded, files, b"", (1,), 5.0, ("tcp:1",)),
        messages.Start(0, 3, loaded, files, b"", keys, steering, (1,), False, ("segment",)),
        messages.Steer(steering, ()),
    ]  # fmt: skip
    yield from (b"\1" + encode(each) for each in to_worker)
    yield b"\0" + bytes((messages.VERSION,)) + b"\x91" * 600


def run(data: bytes) -> None:
    """Read a message, and say it again."""
    read = READERS[(data[0] if data else 0) % len(READERS)]
    try:
        message = read(data[1:])
    except MessageError as error:
        assert str(error)
        return
    assert read(encode(message)) == message
