"""Floods of HTTP/3 frames: said to a running proxy, and to a session without the limit."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from spooky._core.h3_errors import H3_EXCESSIVE_LOAD
from spooky._core.h3_frames import MAX_PUSH_ID, encode_frame, encode_varint
from spooky.protocol.h3.limits import Limits
from tests.protocol.h3.peers import GET, data, headers

PRIORITY_UPDATE = 0xF0700
GREASE = 0x21
CONTROL, ENCODER, DECODER, OTHER = 2, 6, 10, 14
UPLOAD = 0
ENDLESS = 10**9


class Speaker(Protocol):
    """Whoever sends on QUIC streams."""

    def deliver(self, stream_id: int, data: bytes, fin: bool = False) -> None: ...

    def give_up(self, stream_id: int) -> None: ...


class Flood(NamedTuple):
    """What is said over and over; the control stream has begun.

    Attributes:
        row: Of the catalogue of attacks.
        act: Says it; repetitions are numbered from 0.
        limits: Without what stops it.
        first: What is said before.
        most: How often, at most.
        code: The error of the close that answers it.
    """

    row: int
    act: Callable[[Speaker, int], None]
    limits: Limits
    first: Callable[[Speaker], None] = lambda _: None
    most: int = 1_500
    code: int = H3_EXCESSIVE_LOAD


LOCAL_GET = [*GET[:2], (b":authority", b"localhost"), (b":path", b"/size/10")]
LOCAL_POST = [(b":method", b"POST"), *LOCAL_GET[1:3], (b":path", b"/count")]
"""Requests that the backend answers, and one whose body it waits for."""


def request(count: int) -> int:
    """Return the stream of a repetition."""
    return 4 * count + 4


def begin_upload(speaker: Speaker) -> None:
    speaker.deliver(UPLOAD, headers(LOCAL_POST))


def begin_encoder(speaker: Speaker) -> None:
    speaker.deliver(ENCODER, b"\x02")


def begin_decoder(speaker: Speaker) -> None:
    speaker.deliver(DECODER, b"\x03")


def reset(speaker: Speaker, count: int) -> None:
    speaker.deliver(request(count), headers(LOCAL_POST))
    speaker.give_up(request(count))


def cut_short(speaker: Speaker, count: int) -> None:
    head = headers([*LOCAL_POST, (b"content-length", b"5")])
    speaker.deliver(request(count), head + data(b"x"), True)


def priorities(speaker: Speaker, count: int) -> None:
    speaker.deliver(CONTROL, encode_frame(PRIORITY_UPDATE, encode_varint(0) + b"u=1"))


def push_ids(speaker: Speaker, count: int) -> None:
    speaker.deliver(CONTROL, encode_frame(MAX_PUSH_ID, encode_varint(0)))


def grease(speaker: Speaker, count: int) -> None:
    speaker.deliver(UPLOAD, encode_frame(GREASE, b""))


def bulky_grease(speaker: Speaker, count: int) -> None:
    speaker.deliver(UPLOAD, encode_frame(GREASE, bytes(1_000)))


def empty_data(speaker: Speaker, count: int) -> None:
    speaker.deliver(UPLOAD, data(b""))


def table_capacities(speaker: Speaker, count: int) -> None:
    speaker.deliver(ENCODER, b"\x20" * 10)


def cancellations(speaker: Speaker, count: int) -> None:
    speaker.deliver(DECODER, b"\x40" * 10)


def strange_streams(speaker: Speaker, count: int) -> None:
    speaker.deliver(OTHER + 4 * count, encode_varint(GREASE), True)


NO_FRAMES = Limits(max_useless_frames=ENDLESS)

FLOODS = {
    "resets": Flood(1, reset, Limits(max_aborted_requests=ENDLESS), most=700),
    "bodies cut short": Flood(2, cut_short, Limits(max_aborted_requests=ENDLESS), most=700),
    "PRIORITY_UPDATE": Flood(8, priorities, NO_FRAMES),
    "table capacities": Flood(25, table_capacities, NO_FRAMES, begin_encoder, most=150),
    "cancellations": Flood(25, cancellations, NO_FRAMES, begin_decoder, most=150),
    "MAX_PUSH_ID": Flood(26, push_ids, NO_FRAMES),
    "unknown frames": Flood(26, grease, NO_FRAMES, begin_upload),
    "large unknown frames": Flood(
        26, bulky_grease, Limits(max_useless_bytes=ENDLESS), begin_upload, most=400
    ),
    "empty DATA": Flood(26, empty_data, NO_FRAMES, begin_upload),
    "unknown streams": Flood(
        26, strange_streams, Limits(max_unidirectional_streams=ENDLESS), most=150
    ),
}
