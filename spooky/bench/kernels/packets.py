"""What it costs to read where a datagram goes, and to make a connection ID."""

from typing import Final

from spooky._core.packets import CONNECTION_ID_LENGTH, ConnectionIds, parse_header
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls

DESTINATION: Final = bytes(range(CONNECTION_ID_LENGTH))

SHORT: Final = b"\x40" + DESTINATION + bytes(1200)
LONG: Final = b"\xc0\0\0\0\1\x08" + DESTINATION + b"\0\0\x44\xb0" + bytes(1200)


def _parse(datagram: bytes) -> Work:
    return calls(
        lambda header: header is not None and header.destination_connection_id == DESTINATION,
        parse_header,
        datagram,
    )


def _make() -> Work:
    return calls(lambda made: len(made) == CONNECTION_ID_LENGTH, ConnectionIds(7).make)


CASES: Final = (
    Case("packet header: short", lambda: _parse(SHORT)),
    Case("packet header: long", lambda: _parse(LONG)),
    Case("connection ID", _make),
)
