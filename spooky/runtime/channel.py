"""A channel between two processes of one machine: messages, each with open descriptors."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

INLINE_MAX_BYTES: Final = 32 * 1024
"""Longest message sent as it is; a longer one goes as a memory file, as a socket's buffer is
small."""

MESSAGE_MAX_BYTES: Final = 256 * 1024 * 1024
"""Longest message taken; a configuration with all its certificates is far shorter."""

DESCRIPTORS_PER_PACKET: Final = 200
"""The kernel passes 253 at once (SCM_MAX_FD)."""

DESCRIPTORS_MAX: Final = 4096
"""Most descriptors of one message."""

UNSENT_MAX: Final = 256
"""Packets kept while the other side does not read; one that does not for so long is stuck."""

PACKETS_PER_TURN: Final = 64
"""Packets read in one turn of the loop."""

# The first byte of a packet.
_WHOLE: Final = b"\0"
_ONLY_DESCRIPTORS: Final = b"\1"
_IN_MEMORY_FILE: Final = b"\2"


class ChannelFullError(Exception):
    """The other side reads nothing."""


class Channel:
    """One end of a channel, on the running event loop.

    Arguments:
        end: A SEQPACKET socket, the channel's from now on.
        on_message: Takes a message and its descriptors, which are the receiver's to close.
        on_closed: Called once when the other side is gone, or sent what is no message.
    """

    def __init__(
        self,
        end: socket.socket,
        on_message: Callable[[bytes, list[int]], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = end
        self._on_message = on_message
        self._on_closed = on_closed
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._received: list[int] = []
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._on_readable)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message; the descriptors stay the caller's.

        Raises:
            ChannelFullError: Too much is unsent.
            OSError: There is no room for it, or no descriptor; nothing is sent.
        """
        if self._socket.fileno() < 0:
            return
        if len(self._unsent) >= UNSENT_MAX:
            raise ChannelFullError
        # First, as it may fail, and then nothing of the message may be on its way.
        file = [_memory_file(message)] if len(message) > INLINE_MAX_BYTES else []
        try:
            copies = [*_duplicates(descriptors), *file]
        except OSError:
            _close_all(file)
            raise
        while len(copies) >= DESCRIPTORS_PER_PACKET:
            part, copies = copies[:DESCRIPTORS_PER_PACKET], copies[DESCRIPTORS_PER_PACKET:]
            self._unsent.append((_ONLY_DESCRIPTORS, part))
        self._unsent.append((_IN_MEMORY_FILE if file else _WHOLE + message, copies))
        self._flush()

    def read_rest(self) -> None:
        """Take what was sent before the other side went away, without waiting."""
        while self._socket.fileno() >= 0 and self._receive():
            pass

    def close(self) -> None:
        """Close this end; idempotent. What is unsent is lost."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._drop_unsent()
        _close_all(self._received)
        self._received = []

    def _flush(self) -> None:
        while self._unsent:
            packet, descriptors = self._unsent[0]
            try:
                socket.send_fds(self._socket, [packet], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._on_writable)
                return
            except OSError:
                # The other side is gone; reading says so too, in order.
                self._drop_unsent()
                return
            self._unsent.popleft()
            _close_all(descriptors)

    def _drop_unsent(self) -> None:
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._flush()

    def _on_readable(self) -> None:
        for _ in range(PACKETS_PER_TURN):
            if self._socket.fileno() < 0 or not self._receive():
                return
        if self._socket.fileno() >= 0:
            # uvloop tells of nothing more where it saw an error, and there may be more.
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def _receive(self) -> bool:
        """Take one packet; return whether there may be another."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(
                self._socket, 1 + INLINE_MAX_BYTES, DESCRIPTORS_PER_PACKET + 1
            )
        except BlockingIOError:
            return False
        except ConnectionError:
            # It is gone and had not read all, which is said once and first: what it sent is there.
            return True
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._received += descriptors
        if packet[:1] == _ONLY_DESCRIPTORS and len(self._received) <= DESCRIPTORS_MAX:
            return True
        received, self._received = self._received, []
        message: bytes | None = packet[1:] if packet[:1] == _WHOLE else None
        if packet[:1] == _IN_MEMORY_FILE and received:
            message = _read_memory_file(received.pop())
        if message is None:
            _close_all(received)
            self.close()
            self._on_closed()
            return False
        self._on_message(message, received)
        return True


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("spooky-message", os.MFD_CLOEXEC)
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _duplicates(descriptors: Sequence[int]) -> list[int]:
    made: list[int] = []
    try:
        made += (os.dup(descriptor) for descriptor in descriptors)
    except OSError:
        _close_all(made)
        raise
    return made


def _read_memory_file(descriptor: int) -> bytes | None:
    """Return what a memory file holds, or ``None`` if it is too long; closes the descriptor."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        content = file.read(MESSAGE_MAX_BYTES + 1)
    return content if len(content) <= MESSAGE_MAX_BYTES else None


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
