"""A client's HTTP/3 connection over a UDP socket of its own."""

import asyncio
import socket
from typing import Final

from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky._core.udp import UdpSocket
from spooky.protocol.h3.client import ClientSession
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Close, Handshake, Transmit
from spooky.protocol.stream import Stream, StreamHandler
from spooky.runtime import Runtime

DATAGRAMS_PER_TURN: Final = 64
"""Datagrams read in one turn of the loop."""


class Http3Connection:
    """Joins a QUIC session, its HTTP/3 session and a UDP socket.

    Arguments:
        runtime: The clockwork of the running loop.
        udp: A socket connected to the server; closed by :meth:`close`.
        parameters: Of the transport and of TLS.
        server_name: The name asked for and verified.

    Attributes:
        established: Done when the handshake is: its result is what was agreed on. Fails with
            :class:`ConnectionError` if the connection closes first.
        closed: Done when the connection is over.
    """

    def __init__(
        self,
        runtime: Runtime,
        udp: socket.socket,
        parameters: ClientParameters,
        server_name: str,
    ) -> None:
        self._runtime = runtime
        self._socket = udp
        self._udp = UdpSocket(udp.fileno(), udp.family)
        self._quic = chosen_engine(None).client_session(
            parameters, udp.getpeername(), server_name, runtime.now()
        )
        self._http3 = ClientSession(self._quic, Limits(), self)
        self._timer: Timer | None = None
        self._marked = False
        self.established: asyncio.Future[Handshake] = runtime.loop.create_future()
        self.closed: asyncio.Future[Close] = runtime.loop.create_future()
        runtime.loop.add_reader(udp.fileno(), self._on_readable)
        self.wake()

    def open(self, handler: StreamHandler) -> Stream:
        """Open a request stream."""
        return self._http3.open(handler)

    def shutdown(self) -> None:
        """Close the connection."""
        self._quic.close(0x100, "", is_application=True)
        self.wake()

    def close(self) -> None:
        """Let go of the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._runtime.loop.remove_reader(self._socket.fileno())
        self._udp.release()
        self._socket.close()

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if not self._marked:
            self._marked = True
            self._runtime.mark(self)

    def flush(self) -> None:
        """Send what is pending, and set the timer for what comes next."""
        self._marked = False
        if self._socket.fileno() < 0:
            return
        self._http3.settle()
        for run in self._quic.flush(self._runtime.now()):
            self._send(run)
        self._set_timer()

    # --- the session's upcalls ----------------------------------------------------------------

    def on_established(self, handshake: Handshake) -> None:
        """Let whoever waits for the handshake go on."""
        if not self.established.done():
            self.established.set_result(handshake)

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        """Do nothing: the socket has one connection."""

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        """Do nothing: the socket has one connection."""

    def on_closed(self, close: Close, reason: Reason) -> None:
        """Tell whoever waits."""
        if not self.established.done():
            self.established.set_exception(ConnectionError(close.phrase or reason.text))
        if not self.closed.done():
            self.closed.set_result(close)
        self.wake()

    # --- the socket ---------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            batch = self._udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            self._fail(error)
            return
        if batch:
            self._quic.receive(batch, self._runtime.now())
            self.wake()

    def _send(self, run: Transmit) -> None:
        payload, segment_size, _, ecn = run
        try:
            # What the kernel has no room for is, to QUIC, lost packets.
            self._udp.send(payload, segment_size, None, ecn)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Give up the handshake: the server's host says that nobody listens there."""
        if not self.established.done():
            self.established.set_exception(ConnectionError(error.strerror))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._quic.deadline()
        if deadline is not None:
            self._timer = self._runtime.schedule(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._quic.expire(self._runtime.now())
        self.wake()
