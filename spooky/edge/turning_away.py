"""How a listening TCP socket ends without a reset of those whom the kernel let in.

Closed, it would reset whoever waits to be accepted, or is half through the handshake of TCP. So it
is told first to look for new clients where none come from: an interface that is not there. The
kernel then gives these to another socket with the port, or refuses them. It goes on with handshakes
that began before, as it finds them by the addresses of both ends.

Linux lets anybody do so since 5.7, and nobody without privileges take it back.
"""

import contextlib
import socket
from typing import Final

ARRIVAL_SECONDS: Final = 3.5
"""How long those who were let in have to complete the handshake: the kernel sends an answer that
may be lost again after one second and after three."""

# A socket option that Python's socket module has no name for: asm-generic/socket.h.
SO_BINDTOIFINDEX: Final = 62

_NO_INTERFACE: Final = 2**31 - 1
"""The kernel counts interfaces from 1 on, so that none gets this number."""


def turn_away(listening: socket.socket) -> bool:
    """Have the kernel give a listening socket no new clients, whoever else has it too.

    Others of this user may have its port from now on, if they share it as well.

    Returns:
        Whether it gets none; if not, it is as it was.
    """
    if not is_turned_away(listening):
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, _NO_INTERFACE)
    if not is_turned_away(listening):
        return False
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return True


def is_turned_away(listening: socket.socket) -> bool:
    """Return whether the kernel gives a listening socket no new clients any more."""
    try:
        return listening.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == _NO_INTERFACE
    except OSError:
        # The kernel is older than the option, or the socket is closed.
        return False
