"""Joins a byte-stream session to an asyncio transport; both client and upstream sides use it."""

import asyncio
import fcntl
import ssl
import struct
import termios
from typing import cast

from spooky._core.carrier import Carrier
from spooky._core.reasons import Reason
from spooky.protocol.session import ByteSession
from spooky.runtime.runtime import Runtime

WRITE_BUFFER_HIGH_BYTES = 256 * 1024
"""Above this many unsent bytes in the transport a session is told to hold back."""

_INT = struct.Struct("i")


class CarriedProtocol(asyncio.Protocol):
    """What is told of a connection whose bytes go to a carrier.

    Attributes:
        carrier: What moves the bytes.
    """

    carrier: Carrier


class ByteTransport(CarriedProtocol):
    """Feeds a session what the socket delivers, and writes what it wants once a turn.

    Subclasses say what loss means to them and may watch progress.

    Attributes:
        session: The session; set by the subclass in or before :meth:`connection_made`.
        lost_reason: What streams are told when the transport goes away.
    """

    session: ByteSession
    lost_reason: Reason

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.transport: asyncio.Transport | None = None
        self.carrier = Carrier(runtime)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        self.carrier.carry(transport, self.session, self)

    def data_received(self, data: bytes) -> None:
        self.carrier.receive(data)

    def eof_received(self) -> bool:
        self.session.receive_eof(clean=self._ended_cleanly())
        self.wake()
        # The session decides when to close: a response may still be on its way.
        return not self.session.closed

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.carrier.let_go()
        self.session.connection_lost(self.lost_reason)
        self.on_closed()

    def pause_writing(self) -> None:
        self.session.set_transport_writable(False)

    def resume_writing(self) -> None:
        self.session.set_transport_writable(True)
        self.wake()

    def unwritten(self) -> int:
        """Return how much of what was written the peer has not acknowledged; bytes."""
        if self.transport is None:
            return 0
        waiting = self.transport.get_write_buffer_size()
        stream = self.transport.get_extra_info("socket")
        if stream is None:
            return waiting
        try:
            answer = fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, _INT.pack(0))
        except (OSError, ValueError):
            # Not a socket of TCP, or closed: then only what is here is known.
            return waiting
        return waiting + int(_INT.unpack(answer)[0])

    def wake(self) -> None:
        """Flush at the end of this turn."""
        self.carrier.wake()

    def end(self) -> None:
        """Close the transport, after what was written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop the transport at once; unsent bytes are lost."""
        if self.transport is not None:
            self.transport.abort()

    def on_progress(self) -> None:
        """Learn that bytes moved; called after every flush while the session is open."""

    def on_closed(self) -> None:
        """Learn that the transport is gone."""

    def _ended_cleanly(self) -> bool:
        """Return whether the peer itself said that this is the end, where it has to."""
        if self.transport is None:
            return True
        tls: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            # It waits for more: the TCP connection ended without close_notify.
            return False
