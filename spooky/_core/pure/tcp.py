"""Reading and writing a connected TCP socket that does not block."""

import os
from typing import Final

RECEIVE_BYTES_MAX: Final = 256 * 1024
"""Most bytes read at once; what is more takes another read."""


def receive(descriptor: int) -> bytes | None:
    """Return what a socket has, :data:`RECEIVE_BYTES_MAX` at most.

    Arguments:
        descriptor: The socket's.

    Returns:
        Nothing at the end of the stream; ``None`` if nothing came yet.

    Raises:
        OSError: The connection broke.
    """
    try:
        return os.read(descriptor, RECEIVE_BYTES_MAX)
    except (BlockingIOError, InterruptedError):
        return None


def send(descriptor: int, data: bytes, start: int) -> int:
    """Send what follows a place in some data.

    Arguments:
        descriptor: The socket's.
        data: What is sent in the end.
        start: How much of it was sent before; bytes.

    Returns:
        How many bytes the socket took, 0 if it has no room.

    Raises:
        OSError: The connection broke.
        ValueError: It starts outside of the data.
    """
    if not 0 <= start <= len(data):
        raise ValueError("a start outside of the data")
    try:
        # Python ignores SIGPIPE, which a peer that is gone would send us.
        return os.write(descriptor, memoryview(data)[start:])
    except (BlockingIOError, InterruptedError):
        return 0
