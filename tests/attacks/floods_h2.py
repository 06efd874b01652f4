"""Floods of HTTP/2 frames: said to a running proxy, and to a session without the limit."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from spooky.protocol.h2.limits import Limits
from spooky.protocol.stream import Field
from tests.protocol.h2.peers import data, raw_frame, rst_stream, settings, window_update

PRIORITY, PING, CONTINUATION, PRIORITY_UPDATE = 2, 6, 9, 16
ENHANCE_YOUR_CALM = 0xB
NO_ERROR, PROTOCOL_ERROR = 0, 1

GET: list[Field] = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"),
    (b":path", b"/size/10"),
]  # fmt: skip
POST: list[Field] = [(b":method", b"POST"), *GET[1:3], (b":path", b"/count")]

BOMB_FIELD: Field = (b"x-bomb", b"b" * 3_900)
"""A field that costs one byte to repeat, once the compression table has it."""


class Speaker(Protocol):
    """Whoever has the compression state of a connection."""

    def headers(
        self, stream_id: int, fields: Iterable[Field], end: bool = False, final: bool = True
    ) -> bytes: ...


class Flood(NamedTuple):
    """What is said over and over.

    Attributes:
        row: Of the catalogue of attacks.
        make: Returns the bytes of one repetition; they are numbered from 1.
        limits: Without what stops it; ``None`` if that is no number of ours.
        first: What is said before.
        most: How often, at most.
        codes: The errors of the GOAWAY that may answer it.
    """

    row: int
    make: Callable[[Speaker, int], bytes]
    limits: Limits | None
    first: Callable[[Speaker], bytes] = lambda _: b""
    most: int = 1_100
    codes: tuple[int, ...] = (ENHANCE_YOUR_CALM,)


def stream(count: int) -> int:
    """Return the stream of a repetition; the first is another one's."""
    return 2 * count + 1


def upload(speaker: Speaker) -> bytes:
    """Begin a request whose body does not come."""
    return speaker.headers(1, POST)


def rapid_reset(speaker: Speaker, count: int) -> bytes:
    return speaker.headers(stream(count), GET, end=True) + rst_stream(stream(count))


def malformed(speaker: Speaker, count: int) -> bytes:
    """Have the server reset a stream, whose request has no path."""
    return speaker.headers(stream(count), GET[:3], end=True)


def cut_short(speaker: Speaker, count: int) -> bytes:
    """Have the server reset a stream, whose body is shorter than announced."""
    head = speaker.headers(stream(count), [*POST, (b"content-length", b"5")])
    return head + data(stream(count), b"", end=True)


def late_data(speaker: Speaker, count: int) -> bytes:
    """Have it reset one for data beyond what was announced."""
    head = speaker.headers(stream(count), [*POST, (b"content-length", b"0")])
    return head + data(stream(count), b"x")


def no_credit(speaker: Speaker, count: int) -> bytes:
    """Have it reset one for a window that grows by nothing."""
    return speaker.headers(stream(count), POST) + window_update(stream(count), 0)


def empty_continuation(speaker: Speaker, count: int) -> bytes:
    return raw_frame(CONTINUATION, 0, 1)


def unended_head(speaker: Speaker) -> bytes:
    return speaker.headers(1, GET, final=False)


def change_settings(speaker: Speaker, count: int) -> bytes:
    return settings({1: count % 4_096, 4: 65_535})


def many_settings(speaker: Speaker, count: int) -> bytes:
    return settings(dict.fromkeys(range(32, 32 + 100), 0))


def ping(speaker: Speaker, count: int) -> bytes:
    return raw_frame(PING, 0, 0, count.to_bytes(8, "big"))


def priority(speaker: Speaker, count: int) -> bytes:
    return raw_frame(PRIORITY, 0, stream(count), bytes(4) + b"\x10")


def credit_by_the_byte(speaker: Speaker, count: int) -> bytes:
    return window_update(0, 1)


def empty_data(speaker: Speaker, count: int) -> bytes:
    return data(1)


def padding(speaker: Speaker, count: int) -> bytes:
    return data(1, padding=200)


def priority_update(speaker: Speaker, count: int) -> bytes:
    return raw_frame(PRIORITY_UPDATE, 0, 0, (1).to_bytes(4, "big") + b"u=%d" % (count % 8))


ENDLESS = (10**9, 10**9)
"""A bucket that never is empty."""

RETIRED = (NO_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM)
"""A connection with many cut bodies is told to end, and then takes no more streams."""

FLOODS = {
    "rapid reset": Flood(1, rapid_reset, Limits(peer_resets=ENDLESS, provoked_resets=ENDLESS)),
    "malformed heads": Flood(
        2, malformed, Limits(provoked_resets=ENDLESS), codes=(PROTOCOL_ERROR, ENHANCE_YOUR_CALM)
    ),
    "bodies cut short": Flood(2, cut_short, None, codes=RETIRED),
    "data beyond the length": Flood(2, late_data, None, codes=RETIRED),
    "empty CONTINUATION": Flood(
        3, empty_continuation, Limits(max_continuations=10_000), unended_head, most=100
    ),
    "SETTINGS": Flood(6, change_settings, Limits(settings_frames=ENDLESS), most=300),
    "SETTINGS with many entries": Flood(6, many_settings, Limits(max_settings=200), most=5),
    "PING": Flood(7, ping, Limits(control_frames=ENDLESS, max_pending_acks=10_000), most=3_000),
    "PRIORITY": Flood(7, priority, Limits(control_frames=ENDLESS), most=3_000),
    "WINDOW_UPDATE": Flood(7, credit_by_the_byte, Limits(control_frames=ENDLESS), most=3_000),
    "empty DATA": Flood(7, empty_data, Limits(empty_data_frames=ENDLESS), upload),
    "padding": Flood(7, padding, Limits(empty_data_frames=ENDLESS), upload),
    "PRIORITY_UPDATE": Flood(
        8, priority_update, Limits(control_frames=ENDLESS), upload, most=3_000
    ),
}
