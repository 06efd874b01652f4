"""Frames that an established client sends, in packets that are rightly protected.

The first byte chooses the server's engine. An input is packets: a length of two bytes, and so many
bytes of frames.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from tests.protocol.quic import forge
from tests.protocol.quic.support import Endpoints

NAMES = sorted(ENGINES)

PACKET_MAX_BYTES = 1200
PACKETS_MAX = 20


def packets(*payloads: bytes) -> bytes:
    """Encode an input, but for the engine."""
    return b"".join(len(p).to_bytes(2, "big") + p for p in payloads)


def seeds() -> Iterator[bytes]:
    """Yield conversations for each engine."""
    for index in range(len(NAMES)):
        yield from (bytes((index,)) + conversation for conversation in conversations())


def conversations() -> Iterator[bytes]:
    """Yield each frame by itself, and some that belong together."""
    number = forge.varint
    frames = [
        b"\x01",
        b"\x02" + number(0) * 4,
        b"\x03" + number(0) * 7,
        b"\x04" + number(0) + number(7) + number(3),
        b"\x05" + number(0) + number(7),
        forge.crypto_frame(0, b"\x04\x00\x00\x01x"),
        b"\x07\x04abcd",
        forge.stream_frame(0, 0, b"abc", fin=True),
        forge.stream_frame(2, 5, b"later"),
        b"\x10" + number(1 << 30),
        b"\x11" + number(0) + number(1 << 20),
        b"\x12" + number(1 << 10),
        b"\x13" + number(1 << 10),
        b"\x14" + number(5),
        b"\x15" + number(0) + number(5),
        b"\x16" + number(5),
        b"\x17" + number(5),
        forge.new_connection_id(9, 0),
        b"\x19" + number(1),
        b"\x1a12345678",
        b"\x1b12345678",
        b"\x1c" + number(1) + number(0) + b"\x03bye",
        b"\x1d" + number(1) + b"\x03bye",
    ]
    yield from map(packets, frames)
    yield packets(*frames[:-2])
    yield packets(forge.stream_frame(0, 0, b"x"), b"\x04" + number(0) + number(0) + number(1))
    yield packets(*(forge.new_connection_id(8 + n, 8 + n) for n in range(8)))


def packets_of(data: bytes) -> Iterator[bytes]:
    """Decode an input."""
    position = 1
    while position + 2 <= len(data):
        length = int.from_bytes(data[position : position + 2], "big") % PACKET_MAX_BYTES
        position += 2
        yield data[position : position + length]
        position += length


def run(data: bytes) -> None:
    """Send the packets, let time pass after each, and see how the server took it."""
    engine = ENGINES[NAMES[(data[0] if data else 0) % len(NAMES)]]
    pair: Endpoints[Any] = Endpoints(1, engines=(AIOQUIC, engine))
    pair.handshake()
    for frames in itertools.islice(packets_of(data), PACKETS_MAX):
        if pair.server_handler.closes:
            break
        forge.send(pair, frames)
        pair.run(seconds=0.02)
    for close in pair.server_handler.closes:
        assert close.by_peer or close.error_code != QuicErrorCode.INTERNAL_ERROR, close
    for stream_id, received in pair.server_handler.data.items():
        assert len(received) <= pair.server_parameters.stream_window_max, stream_id
