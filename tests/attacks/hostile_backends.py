"""Backends that answer with what no client should have to see, by hand-made bytes.

The last component of a request's path says how it is answered; ``good`` is answered well.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

import hpack

from spooky._core.h2_gate import PREFACE
from tests.attacks.floods_h2 import BOMB_FIELD
from tests.protocol.h2.peers import data, goaway, raw_frame, rst_stream, settings, window_update

MIB = 1 << 20
GOOD = b"this is the good answer"
POISON = b"poison"
HEADERS, PUSH_PROMISE, PING, CONTINUATION = 1, 5, 6, 9
PIECE = b"x" * 65536

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SECOND = OK + b"content-length: 6\r\n\r\n" + POISON


going_on: set[asyncio.StreamWriter] = set()
"""The connections on which something is said without end, and that the proxy has not closed."""


async def _forever(writer: asyncio.StreamWriter, piece: bytes, pause: float = 0.0) -> None:
    going_on.add(writer)
    try:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    finally:
        going_on.remove(writer)


# --- HTTP/1.1 -----------------------------------------------------------------------------------

WHOLE_H1 = {
    "garbage": b"\x00\x01\x02 this is not HTTP\r\n\r\n",
    "bad-status": b"HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + SECOND,
    "header-count": OK + b"".join(b"x-%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
    "nul-in-value": OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "two-lengths": OK + b"content-length: 2\r\ncontent-length: 30\r\n\r\nok",
    "both-framings": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad-chunk": CHUNKED + b"zz\r\nnope\r\n0\r\n\r\n",
    "huge-chunk": CHUNKED + b"f" * 17 + b"\r\n",
    "negative-chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "trailing-bytes": OK + b"content-length: 2\r\n\r\nok" + SECOND,
    "trailing-after-chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + SECOND,
}  # fmt: skip
"""Answers that are said at once; the connection stays open."""

CUT_H1 = {
    "too-short": OK + b"content-length: 1000\r\n\r\nshort",
    "cut-chunk": CHUNKED + b"ff\r\nshort",
    "cut-head": OK + b"content-le",
    "nothing": b"",
}
"""Answers after which the connection ends."""

ENDLESS_H1 = {
    "endless-head": (OK, b"x: " + b"y" * 1_000 + b"\r\n"),
    "endless-value": (OK + b"x: ", PIECE),
    "endless-1xx": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 10),
    "endless-extension": (CHUNKED + b"1;", PIECE),
    "endless-trailers": (CHUNKED + b"0\r\n", b"x-t: " + b"y" * 1_000 + b"\r\n"),
}
"""Answers that begin somehow and then go on without end."""

SILENT_H1 = ("silent", "silent-in-body")
DRIPPING = "dripping"
COMPLETE = ("trailing-bytes", "trailing-after-chunks")
"""What is a whole answer, with something behind it that nobody asked for."""


class Http1Backend:
    """A hostile HTTP/1.1 server.

    Attributes:
        reused: Requests that came on a connection that a hostile answer was sent on, by that.
    """

    def __init__(self) -> None:
        self.reused: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoiled = ""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if spoiled:
                    self.reused[spoiled] += 1
                what = head.split(b" ", 2)[1].decode().rpartition("/")[2]
                if what == "good":
                    writer.write(OK + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD)
                    continue
                spoiled = what
                if not await self._answer(what, writer):
                    break
        writer.close()

    async def _answer(self, what: str, writer: asyncio.StreamWriter) -> bool:
        """Answer; return whether the connection goes on."""
        if what in WHOLE_H1:
            writer.write(WHOLE_H1[what])
            return True
        if what in CUT_H1:
            writer.write(CUT_H1[what])
            return False
        if what in ENDLESS_H1:
            first, more = ENDLESS_H1[what]
            writer.write(first)
            await _forever(writer, more)
        if what == "silent-in-body":
            writer.write(OK + b"content-length: 100\r\n\r\nsome")
        if what == DRIPPING:
            writer.write(OK + b"content-length: 100000\r\n\r\n")
            await _forever(writer, b"x", 0.05)
        return True


# --- HTTP/2 -------------------------------------------------------------------------------------

Behaviour = Callable[["Http2Answer"], Awaitable[None]]


class Http2Answer:
    """What a behaviour has: the stream, and ways to say things."""

    def __init__(
        self, writer: asyncio.StreamWriter, encoder: hpack.Encoder, stream_id: int
    ) -> None:
        self.writer = writer
        self.encoder = encoder
        self.id = stream_id

    def say(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def head(
        self,
        fields: list[tuple[bytes, bytes]] | None = None,
        status: bytes = b"200",
        flags: int = 4,
    ) -> bytes:
        block = self.encoder.encode([(b":status", status), *(fields or [])])
        return raw_frame(HEADERS, flags, self.id, block)

    async def forever(self, frame: bytes) -> None:
        await _forever(self.writer, frame)


async def good(to: Http2Answer) -> None:
    to.say(to.head(), data(to.id, GOOD, end=True))


async def bomb(to: Http2Answer) -> None:
    to.say(to.head([BOMB_FIELD]))
    index = to.encoder.encode([BOMB_FIELD])
    to.say(raw_frame(HEADERS, 5, to.id, index * 16_000))


async def bomb_head(to: Http2Answer) -> None:
    to.say(to.head([BOMB_FIELD], status=b"103"))
    block = to.encoder.encode([(b":status", b"200")]) + to.encoder.encode([BOMB_FIELD]) * 16_000
    to.say(raw_frame(HEADERS, 5, to.id, block))


async def endless_continuation(to: Http2Answer) -> None:
    to.say(to.head(flags=0))
    await to.forever(raw_frame(CONTINUATION, 0, to.id) * 10)


async def endless_1xx(to: Http2Answer) -> None:
    # The block is the same each time, once the table has what it needs.
    to.say(to.head(status=b"103"))
    await to.forever(to.head(status=b"103"))


async def settings_flood(to: Http2Answer) -> None:
    await to.forever(settings({1: 4_096}) * 10)


async def ping_flood(to: Http2Answer) -> None:
    await to.forever(raw_frame(PING, 0, 0, bytes(8)) * 100)


async def empty_flood(to: Http2Answer) -> None:
    to.say(to.head())
    await to.forever(data(to.id) * 100)


async def goaway_before(to: Http2Answer) -> None:
    to.say(goaway(0))


async def goaway_again(to: Http2Answer) -> None:
    to.say(goaway(2**31 - 1), goaway(to.id), goaway(0, 2))


async def goaway_flood(to: Http2Answer) -> None:
    await to.forever(goaway(2**31 - 1) * 100)


async def refused(to: Http2Answer) -> None:
    to.say(rst_stream(to.id, 7))


async def reset_in_body(to: Http2Answer) -> None:
    to.say(to.head(), data(to.id, b"some"), rst_stream(to.id, 2))


async def beyond_window(to: Http2Answer) -> None:
    to.say(to.head())
    await to.forever(data(to.id, bytes(16_384)))


async def too_short(to: Http2Answer) -> None:
    to.say(to.head([(b"content-length", b"100")]), data(to.id, b"short", end=True))


async def too_long(to: Http2Answer) -> None:
    to.say(to.head([(b"content-length", b"2")]), data(to.id, b"far too long", end=True))


async def push(to: Http2Answer) -> None:
    to.say(raw_frame(PUSH_PROMISE, 4, to.id, b"\0\0\0\x02\x82"))


async def window_overflow(to: Http2Answer) -> None:
    to.say(window_update(0, 2**31 - 1) * 2)


async def unknown_stream(to: Http2Answer) -> None:
    to.say(data(to.id + 1_000, b"whose is this?"))


async def malformed_head(to: Http2Answer) -> None:
    to.say(to.head([(b"Bad Name", b"x")], flags=5))


async def bad_compression(to: Http2Answer) -> None:
    to.say(raw_frame(HEADERS, 5, to.id, b"\xff\xff\x7f"))


async def huge_frame(to: Http2Answer) -> None:
    to.say(b"\xff\xff\xff\x00\x00" + to.id.to_bytes(4, "big"))
    await to.forever(PIECE)


async def silent(to: Http2Answer) -> None:
    pass


BEHAVIOURS: dict[str, Behaviour] = {
    each.__name__.replace("_", "-"): each
    for each in (
        bomb, bomb_head, endless_continuation, endless_1xx, settings_flood, ping_flood, empty_flood,
        goaway_before, goaway_again, goaway_flood, refused, reset_in_body, beyond_window, too_short,
        too_long, push, window_overflow, unknown_stream, malformed_head, bad_compression,
        huge_frame, silent,
    )
}  # fmt: skip


async def serve_h2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a hostile HTTP/2 server."""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    tasks: list[asyncio.Task[None]] = []
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(settings({3: 100}))
        while True:
            header = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
            kind, flags = header[3], header[4]
            stream_id = int.from_bytes(header[5:9], "big")
            if kind == 4 and not flags & 1:
                writer.write(settings(ack=True))
            elif kind == HEADERS:
                fields = dict(decoder.decode(payload, raw=True))
                what = fields[b":path"].decode().rpartition("/")[2]
                answer = Http2Answer(writer, encoder, stream_id)
                behaviour = good if what == "good" else BEHAVIOURS[what]
                tasks.append(asyncio.create_task(_quietly(behaviour(answer))))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()


async def _quietly(answering: Awaitable[None]) -> None:
    with contextlib.suppress(ConnectionError):
        await answering
