"""The hellos of clients on TCP, as we read them before the TLS library does."""

from collections.abc import Iterator

from aioquic.buffer import Buffer

from fuzz import client_hello
from spooky.protocol.client_hello import (
    RECORD_HEADER_BYTES,
    RECORD_MAX_BYTES,
    parse_client_hello,
    record_bytes,
)

NAMED = ("server_name", "protocols")
"""What we read of a hello."""


def seeds() -> Iterator[bytes]:
    """Yield the hellos of the QUIC target as records, and some cut off."""
    for hello in client_hello.seeds():
        record = b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello
        yield record
        yield record[: len(record) // 2]
    yield b"\x16\x03\x01\xff\xff"
    yield b"GET / HTTP/1.1\r\n"


def run(data: bytes) -> None:
    """Read a record; what is good for aioquic as well names the same."""
    size = record_bytes(data)
    assert size is None or RECORD_HEADER_BYTES <= size <= RECORD_HEADER_BYTES + RECORD_MAX_BYTES
    hello = parse_client_hello(data)
    if hello is None:
        return
    message = data[RECORD_HEADER_BYTES:]
    try:
        extensions = client_hello.extensions_of(message[: 4 + int.from_bytes(message[1:4])])
        theirs = {
            name: pull(Buffer(data=extensions[kind])) if kind in extensions else None
            for name, (kind, pull) in client_hello.PULLERS.items()
            if name in NAMED
        }
    except Exception:
        return  # What aioquic cannot read is for the TLS library to judge.
    protocols = None if hello.protocols is None else list(hello.protocols)
    assert {"server_name": hello.server_name, "protocols": protocols} == theirs
