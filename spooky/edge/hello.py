"""Waiting for a TCP client's ClientHello without taking it from the TLS library."""

import asyncio
import socket

from spooky.edge.peeking import peek
from spooky.protocol.client_hello import (
    RECORD_HEADER_BYTES,
    ClientHello,
    parse_client_hello,
    record_bytes,
)


async def peek_client_hello(
    loop: asyncio.AbstractEventLoop, connection: socket.socket
) -> ClientHello | None:
    """Return what the client asks for, and leave its bytes in the socket.

    Returns:
        ``None`` if that cannot be said: the TLS library judges the bytes.

    Raises:
        ConnectionError: The client closed the connection.
    """
    start = await peek(loop, connection, RECORD_HEADER_BYTES)
    if not start:
        raise ConnectionResetError("closed before its hello")
    needed = record_bytes(start)
    if needed is None or needed <= RECORD_HEADER_BYTES:
        return None
    record = await peek(loop, connection, needed)
    return parse_client_hello(record) if len(record) == needed else None
