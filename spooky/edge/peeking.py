"""Looking at the first bytes of a TCP connection without taking them from who reads it next."""

import asyncio
import socket


async def peek(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, count: int, most: int = 0
) -> bytes:
    """Wait for so many bytes, and leave them in the socket.

    Arguments:
        connection: Non-blocking, and read by nobody else meanwhile.
        count: How many; few enough that a socket keeps them.
        most: How many to return if there are more.

    Returns:
        Those that are there: fewer than ``count`` if no more will come.
    """
    # Once there is one byte, the socket stays readable: ask to be woken for all of them only.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), on_readable)
    try:
        await ready
        return connection.recv(max(count, most), socket.MSG_PEEK)
    finally:
        if connection.fileno() >= 0:
            loop.remove_reader(connection.fileno())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
