"""Headers of datagrams, as the dispatcher reads them before anything is decrypted.

What aioquic makes of the same bytes is the oracle.
"""

from collections.abc import Iterator

from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_header

from spooky.protocol.quic.packet import (
    CONNECTION_ID_LENGTH,
    CONNECTION_ID_MAX_LENGTH,
    VERSION_1,
    VERSION_2,
    PacketHeader,
    PacketType,
    parse_header,
    version_negotiation,
)

VERSIONS = (VERSION_1, VERSION_2)


def seeds() -> Iterator[bytes]:
    """Yield a packet of each kind, of each version, and one of another."""
    for version in (*VERSIONS, 0, 0xFACEB002):
        for first in (0xC0, 0xD3, 0xE1, 0xF0):
            yield (
                bytes((first,))
                + version.to_bytes(4, "big")
                + b"\x08destined\x07sources"
                + bytes(40)
            )
    yield b"\x40destined" + bytes(20)
    yield (
        b"\xc0\0\0\0\x01\x14"
        + bytes(20)
        + b"\x14"
        + bytes(20)
        + b"\x40\x04tokn\x41\x00"
        + bytes(256)
    )


def check_answer(header: PacketHeader, answer: bytes) -> None:
    """A client can read it, if its version has connection IDs as long as ours."""
    ids = header.source_connection_id, header.destination_connection_id
    if max(map(len, ids)) > CONNECTION_ID_MAX_LENGTH:
        return
    again = parse_header(answer)
    assert again is not None
    assert again.type is PacketType.VERSION_NEGOTIATION
    assert (again.destination_connection_id, again.source_connection_id) == ids


def run(data: bytes) -> None:
    """Read a header, and answer it."""
    ours = parse_header(data)
    if ours is not None:
        assert ours.datagram_size == len(data)
        answer = version_negotiation(ours, VERSIONS)
        if answer is not None:
            assert len(answer) < len(data)
            check_answer(ours, answer)
    try:
        theirs = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_LENGTH)
    except ValueError:
        return
    assert ours is not None or len(data) <= CONNECTION_ID_LENGTH
    if ours is not None:
        assert ours.version == theirs.version
        assert ours.destination_connection_id == theirs.destination_cid
        assert ours.source_connection_id == theirs.source_cid
