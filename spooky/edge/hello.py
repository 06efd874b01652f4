"""Waiting for a TCP client's ClientHello without taking it from the TLS library."""

import asyncio
import socket

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
    wanted = RECORD_HEADER_BYTES
    try:
        while True:
            await _readable(loop, connection)
            start = connection.recv(wanted, socket.MSG_PEEK)
            if not start:
                raise ConnectionResetError("closed before its hello")
            needed = record_bytes(start)
            if needed is None:
                return None
            if len(start) >= needed > RECORD_HEADER_BYTES:
                return parse_client_hello(start)
            wanted = needed
            # The socket stays readable while bytes are in it: ask to be woken for all of them.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
    finally:
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), on_readable)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())
