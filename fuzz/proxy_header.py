"""PROXY headers, as a listener takes them off connections and datagrams."""

import struct
from collections.abc import Iterator
from typing import get_args

from spooky.protocol.proxy_header import (
    V2_MAX_BYTES,
    V2_SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    Transport,
    announced_bytes,
    crc32c,
    parse_proxy_header,
)


def seeds() -> Iterator[bytes]:
    """Yield headers of both versions and of each family, and one with a checksum."""
    yield b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\nrest"
    yield b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\nrest"
    yield b"PROXY UNKNOWN\r\n"
    for family, size in ((0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216), (0, 0)):
        for command in (0x20, 0x21):
            body = bytes(size) + b"\4\0\1x"
            start = V2_SIGNATURE + bytes((command, family))
            yield start + struct.pack("!H", len(body)) + body + b"rest"
            unsigned = start + struct.pack("!H", len(body) + 7) + body + b"\3\0\4\0\0\0\0"
            yield unsigned[:-4] + struct.pack("!I", crc32c(unsigned)) + b"rest"


def run(data: bytes) -> None:
    """Read a header; the bytes behind it change nothing, and fewer ask for more or say the same."""
    for transport in get_args(Transport):
        try:
            found = parse_proxy_header(data, transport)
        except ProxyHeaderError:
            continue
        if not isinstance(found, ProxyHeader):
            assert len(data) < found <= V2_MAX_BYTES
            continue
        assert 0 < found.size <= len(data)
        header = data[: found.size]
        assert parse_proxy_header(header, transport) == found
        needed = parse_proxy_header(header[:-1], transport)
        assert isinstance(needed, int)
        assert needed <= found.size
        if header.startswith(V2_SIGNATURE):
            assert announced_bytes(data) == found.size
