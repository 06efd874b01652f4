"""HTTP/3 backends that answer with what no client should have to see, on aioquic's QUIC.

The last component of a request's path says how it is answered; ``good`` is answered well.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer, serve
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection, encode_frame
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived

from tests.attacks.hostile_backends import GOOD, going_on
from tests.certificates import ca, leaf, write

DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 13
RESERVED = 0x21
"""A frame, or a stream, of a type that has no meaning (RFC 9114 section 7.2.8)."""

PIECE = b"x" * 16_384
UNSENT_MAX = 4 * len(PIECE)

Fields = list[tuple[bytes, bytes]]


class Answer:
    """What a behaviour has: the stream, and ways to say things."""

    def __init__(self, server: "HostileServer", stream_id: int) -> None:
        self.server = server
        self.id = stream_id
        self.quic: Any = server._quic

    def say(self, *frames: bytes, end: bool = False) -> None:
        self.quic.send_stream_data(self.id, b"".join(frames), end)
        self.server.transmit()

    def block(self, fields: Fields, status: bytes | None = b"200") -> bytes:
        pseudo = [(b":status", status)] if status is not None else []
        return self.server.http._encode_headers(self.id, [*pseudo, *fields])

    def head(self, fields: Fields | None = None, status: bytes | None = b"200") -> bytes:
        return encode_frame(HEADERS, self.block(fields or [], status))

    def control(self, *frames: bytes) -> None:
        self.quic.send_stream_data(
            self.server.http._local_control_stream_id, b"".join(frames), False
        )
        self.server.transmit()

    def stream(self, begin: bytes, unidirectional: bool = True) -> None:
        stream_id = self.quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self.quic.send_stream_data(stream_id, begin, False)
        self.server.transmit()

    def reset(self, code: int) -> None:
        self.quic.reset_stream(self.id, code)
        self.server.transmit()

    async def forever(self, piece: bytes) -> None:
        mark: Any = self
        going_on.add(mark)
        try:
            while True:
                self.say(piece)
                await asyncio.sleep(0)
                while len(self.quic._streams[self.id].sender._buffer) > UNSENT_MAX:
                    await asyncio.sleep(0.001)
        finally:
            going_on.remove(mark)


def data(content: bytes) -> bytes:
    return encode_frame(DATA, content)


def goaway_frame(identifier: int) -> bytes:
    return encode_frame(GOAWAY, encode_uint_var(identifier))


async def good(to: Answer) -> None:
    to.say(to.head(), data(GOOD), end=True)


async def header_count(to: Answer) -> None:
    to.say(to.head([(b"x-%d" % n, b"y") for n in range(5_000)]), end=True)


async def header_bytes(to: Answer) -> None:
    to.say(to.head([(b"x", b"y" * 200_000)]), end=True)


async def endless_head(to: Answer) -> None:
    to.say(encode_uint_var(HEADERS) + encode_uint_var(1 << 30))
    await to.forever(PIECE)


async def endless_1xx(to: Answer) -> None:
    await to.forever(to.head(status=b"103") * 10)


async def switching(to: Answer) -> None:
    to.say(to.head(status=b"101"))


async def too_short(to: Answer) -> None:
    to.say(to.head([(b"content-length", b"100")]), data(b"short"), end=True)


async def too_long(to: Answer) -> None:
    to.say(to.head([(b"content-length", b"2")]), data(b"far too long"), end=True)


async def endless_too_long(to: Answer) -> None:
    to.say(to.head([(b"content-length", b"20000")]))
    await to.forever(data(PIECE))


async def no_head(to: Answer) -> None:
    to.say(b"", end=True)


async def cut_frame(to: Answer) -> None:
    to.say(to.head(), data(PIECE)[:-100], end=True)


async def refused(to: Answer) -> None:
    to.reset(0x10B)


async def fallback(to: Answer) -> None:
    to.reset(0x110)


async def reset_in_body(to: Answer) -> None:
    to.say(to.head(), data(b"some"))
    to.reset(0x102)


async def close_before(to: Answer) -> None:
    to.server.close(0x102)


async def close_in_body(to: Answer) -> None:
    to.say(to.head(), data(b"some"))
    to.server.close(0x100)


async def goaway_before(to: Answer) -> None:
    to.control(goaway_frame(0))


async def goaway_grows(to: Answer) -> None:
    to.control(goaway_frame(to.id + 4), goaway_frame(to.id + 8))


async def goaway_for_a_push(to: Answer) -> None:
    to.control(goaway_frame(1))


async def data_first(to: Answer) -> None:
    to.say(data(b"what is this?"))


async def after_the_trailers(to: Answer) -> None:
    to.say(to.head(), to.head([(b"x-t", b"y")], None), to.head())


async def settings_on_a_request(to: Answer) -> None:
    to.say(encode_frame(SETTINGS, b""))


async def settings_again(to: Answer) -> None:
    to.control(encode_frame(SETTINGS, b""))


async def empty_flood(to: Answer) -> None:
    to.say(to.head())
    await to.forever(data(b"") * 1_000)


async def unknown_flood(to: Answer) -> None:
    to.say(to.head())
    await to.forever(encode_frame(RESERVED, PIECE))


async def cancel_push_flood(to: Answer) -> None:
    to.control(encode_frame(CANCEL_PUSH, b"\0") * 10_000)


async def push(to: Answer) -> None:
    to.say(encode_frame(PUSH_PROMISE, b"\0" + to.block([])))


async def push_stream(to: Answer) -> None:
    to.stream(b"\x01\0")


async def max_push_id(to: Answer) -> None:
    to.control(encode_frame(MAX_PUSH_ID, b"\x09"))


async def a_request_of_its_own(to: Answer) -> None:
    to.stream(to.head(), unidirectional=False)


async def second_control(to: Answer) -> None:
    to.stream(b"\0" + encode_frame(SETTINGS, b""))


async def bad_compression(to: Answer) -> None:
    to.say(encode_frame(HEADERS, b"\0\0" + b"\xff" * 20))


async def dynamic_table(to: Answer) -> None:
    to.say(encode_frame(HEADERS, b"\x02\0\x80"))


async def malformed_head(to: Answer) -> None:
    to.say(to.head([(b"Bad Name", b"x")]), end=True)


async def no_status(to: Answer) -> None:
    to.say(to.head([(b"x", b"y")], None), end=True)


async def silent(to: Answer) -> None:
    pass


Behaviour = Callable[[Answer], Awaitable[None]]

BEHAVIOURS: dict[str, Behaviour] = {
    each.__name__.replace("_", "-"): each
    for each in (
        header_count, header_bytes, endless_head, endless_1xx, switching, too_short, too_long,
        endless_too_long, no_head, cut_frame, refused, fallback, reset_in_body, close_before,
        close_in_body, goaway_before, goaway_grows, goaway_for_a_push, data_first,
        after_the_trailers, settings_on_a_request, settings_again, empty_flood, unknown_flood,
        cancel_push_flood, push, push_stream, max_push_id, a_request_of_its_own, second_control,
        bad_compression, dynamic_table, malformed_head, no_status, silent,
    )
}  # fmt: skip


class HostileServer(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http: Any = H3Connection(self._quic)
        self._answering: dict[int, asyncio.Task[None]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case StopSendingReceived():
                self._stop([event.stream_id])
            case ConnectionTerminated():
                self._stop(list(self._answering))
        for each in self.http.handle_event(event):
            if isinstance(each, HeadersReceived):
                what = dict(each.headers)[b":path"].decode().rpartition("/")[2]
                behaviour = good if what == "good" else BEHAVIOURS[what]
                answering = _quietly(behaviour(Answer(self, each.stream_id)))
                self._answering[each.stream_id] = self._loop.create_task(answering)

    def _stop(self, streams: list[int]) -> None:
        for stream_id in streams:
            answering = self._answering.pop(stream_id, None)
            if answering is not None:
                answering.cancel()


async def _quietly(answering: Awaitable[None]) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        await answering


async def start_h3(directory: Path) -> tuple[QuicServer, int]:
    """Be a hostile HTTP/3 server; returns it and its port."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(*write(leaf(["localhost"], ca()), directory, "hostile"))
    server: Any = await serve(
        "127.0.0.1", 0, configuration=configuration, create_protocol=HostileServer
    )
    return server, server._transport.get_extra_info("sockname")[1]
