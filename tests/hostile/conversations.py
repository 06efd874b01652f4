"""Hostile conversations by number: random, but with the shape of their protocol.

A conversation is steps that a client takes, whatever it hears. The same number always gives the
same steps, so that what a run finds can be had again by its number alone.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import hpack

from spooky._core.h2_gate import PREFACE
from spooky._core.h3_frames import encode_frame, encode_settings, encode_varint
from tests.protocol.h2.peers import raw_frame, settings
from tests.protocol.h3.peers import block

Field = tuple[bytes, bytes]

PROTOCOLS: Final = ("h1", "h1", "h2", "h2", "h2", "h3", "h3", "quic")
"""As often as they stand here; ``quic`` never comes to HTTP, nor to a handshake."""

PAUSES: Final = (0.0, 0.0, 0.001, 0.02)
"""Between two steps; seconds."""

ENDINGS: Final = ("close", "vanish", "reset", "half-close", "wait")
"""How a client goes: in order; without a word; by a reset; but for hearing; after hearing all."""

NUMBER_MAX: Final = (1 << 62) - 1


@dataclass(frozen=True)
class Step:
    """One thing that a client does.

    Attributes:
        act: ``send``, ``reset``, ``stop`` or ``pause``; the first alone has data.
        stream: On which stream of HTTP/3.
        data: What it sends.
        fin: Whether the stream ends with it.
        number: An error code, or seconds of a pause in milliseconds.
    """

    act: str
    stream: int = 0
    data: bytes = b""
    fin: bool = False
    number: int = 0


@dataclass(frozen=True)
class Conversation:
    """What one client does.

    Attributes:
        number: Which it is.
        protocol: One of :data:`PROTOCOLS`.
        steps: What it does.
        ending: How it goes.
    """

    number: int
    protocol: str
    steps: tuple[Step, ...]
    ending: str


def conversation(number: int) -> Conversation:
    """Return a conversation by its number."""
    chance = random.Random(number)
    protocol = chance.choice(PROTOCOLS)
    steps = tuple(_paused(chance, _MAKERS[protocol](chance)))
    return Conversation(number, protocol, steps, chance.choice(ENDINGS))


def _paused(chance: random.Random, steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if pause := chance.choice(PAUSES):
            yield Step("pause", number=round(pause * 1000))


def _damaged(chance: random.Random, data: bytes, one_in: int = 6) -> bytes:
    """Return bytes as they are, mostly; else with some changed, lost, doubled or cut off."""
    if not data or chance.randrange(one_in):
        return data
    at = chance.randrange(len(data))
    size = chance.choice((1, 2, 9, 100))
    match chance.randrange(4):
        case 0:
            return data[:at] + chance.randbytes(size) + data[at + size :]
        case 1:
            return data[:at] + data[at + size :]
        case 2:
            return data[:at] + data[at : at + size] * 3 + data[at + size :]
        case _:
            return data[:at]


# --- heads ----------------------------------------------------------------------------------------

_METHODS: Final = (
    b"GET",
    b"GET",
    b"GET",
    b"POST",
    b"POST",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"get",
)
_PATHS: Final = (
    b"/size/0", b"/size/500", b"/size/100000", b"/echo", b"/echo", b"/status/404", b"/", b"*",
    b"/size/10?a=b&c", b"/a/../b", b"/%2e%2e/x", b"/%5c", b"/%00", b"//", b"/" + b"a" * 5000, b"",
)  # fmt: skip
_AUTHORITIES: Final = (
    b"127.0.0.1", b"127.0.0.1", b"127.0.0.1", b"127.0.0.1:443", b"other.example", b"a,b", b"",
    b"[::1]",
)  # fmt: skip
_FIELDS: Final[tuple[Field, ...]] = (
    (b"accept", b"*/*"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d; e=f"),
    (b"x-long", b"v" * 4000),
    (b"te", b"trailers"),
    (b"expect", b"100-continue"),
    (b"content-length", b"5"),
    (b"content-length", b"5, 5"),
    (b"content-length", b"18446744073709551615"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close, x-long"),
    (b"upgrade", b"websocket"),
    (b"priority", b"u=1, i"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"forwarded", b'for="'),
    (b"range", b"bytes=0-" + b",0-" * 200),
    (b"X-Upper", b"1"),
    (b"", b"nameless"),
    (b"x-bad", b"a\r\nb: c"),
    (b"x-null", b"a\0b"),
    (b":protocol", b"websocket"),
    (b":path", b"/again"),
    (b"host", b"other.example"),
)


def _regular(chance: random.Random) -> list[Field]:
    """Return some fields; most often none that is wrong."""
    choices = _FIELDS if chance.randrange(3) == 0 else _FIELDS[:6]
    return [chance.choice(choices) for _ in range(chance.choice((0, 1, 2, 5, 40)))]


def _head(chance: random.Random) -> list[Field]:
    """Return a head as HTTP/2 and HTTP/3 say it."""
    usual = chance.randrange(3) > 0
    fields = [
        (b":method", chance.choice(_METHODS[:5] if usual else _METHODS)),
        (b":scheme", b"https" if usual else chance.choice((b"https", b"http", b"ftp", b""))),
        (b":authority", chance.choice(_AUTHORITIES[:3] if usual else _AUTHORITIES)),
        (b":path", chance.choice(_PATHS[:6] if usual else _PATHS)),
        *_regular(chance),
    ]
    if chance.randrange(12) == 0:
        del fields[chance.randrange(len(fields))]
    if chance.randrange(12) == 0:
        chance.shuffle(fields)
    return fields


# --- HTTP/1.1 -------------------------------------------------------------------------------------

_LINE_ENDS: Final = (b"\r\n",) * 12 + (b"\n", b"\r", b"\r\n ")
_CHUNKS: Final = (
    b"5\r\nhello\r\n", b"5\r\nhello\r\n", b"1;a=b\r\nx\r\n", b"0005\r\nhello\r\n",
    b"fffffffff\r\nx", b"-1\r\nx\r\n", b"5\nhello\n", b"5\r\nhelloo\r\n",
    b"2;" + b"x" * 300 + b"\r\nok\r\n",
)  # fmt: skip
_LAST_CHUNKS: Final = (
    b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx-t: 1\r\n\r\n", b"0\r\ncontent-length: 9\r\n\r\n",
    b"0\r\n", b"",
)  # fmt: skip


def _h1(chance: random.Random) -> Iterator[Step]:
    """Yield requests, some of them pipelined, in pieces."""
    for _ in range(chance.choice((1, 1, 2, 5, 40))):
        head, body = _h1_request(chance)
        data = _damaged(chance, head + body)
        if chance.randrange(4):
            yield Step("send", data=data)
            continue
        at = chance.randrange(len(data) + 1)
        yield Step("send", data=data[:at])
        yield Step("send", data=data[at:])


def _h1_request(chance: random.Random) -> tuple[bytes, bytes]:
    method, path = chance.choice(_METHODS), chance.choice(_PATHS)
    version = chance.choice((b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 "))
    lines = [method + b" " + path + b" " + version]
    lines += [
        b"host: " + chance.choice(_AUTHORITIES) for _ in range(chance.choice((0, 1, 1, 1, 2)))
    ]
    lines += [name + b": " + value for name, value in _regular(chance)]
    body = b""
    if method == b"POST":
        match chance.randrange(4):
            case 0:
                lines.append(b"transfer-encoding: chunked")
                body = b"".join(chance.choices(_CHUNKS[: chance.choice((2, 9))], k=3))
                body += chance.choice(_LAST_CHUNKS)
            case 1:
                lines.append(b"content-length: 5")
                body = b"hello"
            case 2:
                lines.append(b"content-length: 100000")
                body = bytes(chance.choice((0, 1, 99_999, 100_000, 100_001)))
            case _:
                lines.append(b"content-length: %d" % chance.choice((0, 3, NUMBER_MAX)))
    end = chance.choice(_LINE_ENDS)
    return end.join(lines) + chance.choice((b"\r\n\r\n",) * 9 + (end,)), body


# --- HTTP/2 -------------------------------------------------------------------------------------

_H2_SETTINGS: Final = (
    {}, {}, {4: 1 << 20}, {4: 0}, {4: 0x8000_0000}, {5: 16_384}, {5: 1}, {1: 0, 3: 1}, {2: 1},
    {6: 10}, {8: 1}, {0x99: 7},
)  # fmt: skip


def _h2(chance: random.Random) -> Iterator[Step]:
    """Yield a preface and frames."""
    yield Step("send", data=_damaged(chance, PREFACE, 30) + settings(chance.choice(_H2_SETTINGS)))
    encoder = hpack.Encoder()
    stream = 1
    for _ in range(chance.choice((1, 3, 10, 30))):
        if chance.randrange(3):
            yield Step("send", data=_damaged(chance, _h2_request(chance, encoder, stream), 20))
            stream += 2
        else:
            target = chance.choice((0, 1, stream, max(1, stream - 2), stream + 100, 2))
            yield Step("send", data=_damaged(chance, _h2_frame(chance, target), 20))


def _h2_request(chance: random.Random, encoder: hpack.Encoder, stream: int) -> bytes:
    """Return the frames of a request, its body with it."""
    encoded = encoder.encode(_head(chance), huffman=False)
    pieces = [encoded]
    for _ in range(chance.choice((0, 0, 0, 1, 20))):
        at = chance.randrange(len(pieces[-1]) + 1)
        pieces[-1:] = [pieces[-1][:at], pieces[-1][at:]]
    ends = chance.choice((0, 1))
    kinds = [1, *[9] * (len(pieces) - 1)]
    frames = [
        raw_frame(kind, ends * (kind == 1) | 4 * (number == len(pieces) - 1), stream, piece)
        for number, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    ]
    if not ends:
        for _ in range(chance.choice((0, 1, 3))):
            frames.append(raw_frame(0, 0, stream, bytes(chance.choice((0, 5, 5, 16_384)))))
        frames.append(
            chance.choice(
                (
                    raw_frame(0, 1, stream, b"hello"),
                    raw_frame(1, 5, stream, encoder.encode([(b"x-trailer", b"1")], huffman=False)),
                    raw_frame(3, 0, stream, b"\0\0\0\x08"),
                    b"",
                )
            )
        )
    return b"".join(frames)


def _h2_frame(chance: random.Random, stream: int) -> bytes:
    """Return a frame of any kind."""
    number = chance.choice((0, 1, 8, 65_535, 0x7FFF_FFFF, 0xFFFF_FFFF)).to_bytes(4, "big")
    return chance.choice(
        (
            raw_frame(3, 0, stream, number),
            raw_frame(8, 0, stream, number),
            raw_frame(6, chance.choice((0, 1)), 0, bytes(chance.choice((8, 8, 7)))),
            raw_frame(4, 0, 0, (b"\0\x04" + number) * chance.choice((1, 40))),
            raw_frame(4, 1, 0, b""),
            raw_frame(2, 0, stream, number + b"\xff"),
            raw_frame(7, 0, 0, number * 2),
            raw_frame(5, 4, stream, number),
            raw_frame(9, 4, stream, b"\x82"),
            raw_frame(0, chance.choice((0, 1, 8, 9)), stream, chance.randbytes(9)),
            raw_frame(1, 5, stream, chance.randbytes(20)),
            raw_frame(16, 0, 0, number + b"u=9"),
            raw_frame(chance.randrange(256), chance.randrange(256), stream, chance.randbytes(5)),
        )
    ) * chance.choice((1, 1, 1, 30))


# --- HTTP/3 -------------------------------------------------------------------------------------

_H3_SETTINGS: Final = ({}, {}, {6: 1 << 20}, {1: 4096, 7: 100}, {2: 1}, {0x21: 1}, {8: 1, 0x33: 1})
_UNIDIRECTIONAL: Final = (0x00, 0x01, 0x02, 0x03, 0x21, 0x54)
_CODES: Final = (0x100, 0x10B, 0x10C, 0x10E, 0, NUMBER_MAX)


def _h3(chance: random.Random) -> Iterator[Step]:
    """Yield pieces of streams, as a client with a stream for each may have them in any order."""
    control = encode_varint(0x00) + encode_settings(chance.choice(_H3_SETTINGS))
    if chance.randrange(10):
        yield Step("send", 2, _damaged(chance, control, 15))
    if chance.randrange(3) == 0:
        kind = encode_varint(chance.choice(_UNIDIRECTIONAL))
        yield Step("send", 6, kind + chance.randbytes(chance.choice((0, 1, 30))), _seldom(chance))
    stream = 0
    for _ in range(chance.choice((1, 2, 8, 25))):
        if chance.randrange(8) == 0:
            yield Step("send", 2, _damaged(chance, _h3_control(chance)), _seldom(chance))
            continue
        data = _damaged(chance, _h3_request(chance))
        at = chance.choice((0, len(data), chance.randrange(len(data) + 1)))
        yield Step("send", stream, data[:at])
        yield Step("send", stream, data[at:], chance.randrange(5) > 0)
        if chance.randrange(6) == 0:
            yield Step(chance.choice(("reset", "stop")), stream, number=chance.choice(_CODES))
        stream += 4


def _seldom(chance: random.Random) -> bool:
    return chance.randrange(10) == 0


def _h3_request(chance: random.Random) -> bytes:
    """Return the frames of a request, its body with it."""
    frames = [encode_frame(1, _h3_block(chance, _head(chance)))]
    for _ in range(chance.choice((0, 0, 1, 3))):
        frames.append(encode_frame(0, bytes(chance.choice((0, 5, 20_000)))))
    if chance.randrange(6) == 0:
        frames.append(encode_frame(1, block([(b"x-trailer", b"1")])))
    if chance.randrange(6) == 0:
        kind = chance.choice((0x02, 0x03, 0x04, 0x05, 0x07, 0x0D, 0x21, 0xF0700, NUMBER_MAX))
        frames.insert(chance.randrange(2), encode_frame(kind, chance.randbytes(3)))
    return b"".join(frames)


def _h3_block(chance: random.Random, fields: list[Field]) -> bytes:
    """Return a field section: the encoder's, or one that it would not make."""
    if chance.randrange(8) == 0:
        return chance.choice((b"\0\0\xff\x24", b"\x02\0\x80", b"\0\x80", chance.randbytes(30), b""))
    return block([field for field in fields if field[0]])


def _h3_control(chance: random.Random) -> bytes:
    """Return frames of a control stream."""
    number = encode_varint(chance.choice((0, 4, 1 << 20, NUMBER_MAX)))
    kind = chance.choice((0x03, 0x04, 0x07, 0x0D, 0x0D, 0x21, 0xF0700, 0xF0701, 0x00, 0x01))
    payload = number + (b"u=1" if kind >= 0xF0700 else b"")
    return encode_frame(kind, payload) * chance.choice((1, 1, 50))


# --- QUIC without a handshake ---------------------------------------------------------------------


def _quic(chance: random.Random) -> Iterator[Step]:
    """Yield what becomes the frames of Initial packets, or datagrams with a number of 1."""
    for _ in range(chance.choice((1, 3, 10))):
        if chance.randrange(2):
            frames = chance.choice(
                (
                    b"\x06\0\x44\0" + b"\x01\0\x03\xfc\x03\x03" + chance.randbytes(1000),
                    b"\x06\0\x04\x01\0\xff\xff",
                    b"\x01" * 20,
                    b"\x02\0\0\0\0",
                    b"\x1c\0\0\0",
                    chance.randbytes(chance.choice((1, 40, 900))),
                )
            )
            yield Step("send", data=frames)
        else:
            yield Step("send", data=_datagram(chance), number=1)


def _datagram(chance: random.Random) -> bytes:
    """Return a datagram that is no packet, or hardly one."""
    version = chance.choice((b"\0\0\0\1", b"\x6b\x33\x43\xcf", b"\0\0\0\0", b"\x0a\x0a\x0a\x0a"))
    first = bytes((chance.choice((0xC0, 0xD0, 0xE0, 0xF0, 0x40, 0x00)),))
    sizes = chance.choice((8, 8, 0, 20, 21, 255))
    ids = bytes((sizes,)) + chance.randbytes(min(sizes, 20)) + b"\x08" + chance.randbytes(8)
    return first + version + ids + chance.randbytes(chance.choice((0, 30, 1200)))


_MAKERS: Final[dict[str, Callable[[random.Random], Iterator[Step]]]] = {
    "h1": _h1,
    "h2": _h2,
    "h3": _h3,
    "quic": _quic,
}
