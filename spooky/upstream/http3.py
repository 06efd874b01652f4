"""A client's HTTP/3 connection over a UDP socket of its own."""

import asyncio
import errno
import socket
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import H3_NO_ERROR, Reason
from spooky._core.timers import Timer
from spooky._core.udp import UdpSocket
from spooky.protocol.h3.client import ClientSession
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Close, Handshake, Transmit
from spooky.runtime import Runtime

DATAGRAMS_PER_TURN: Final = 64
"""Datagrams read in one turn of the loop."""

DEFAULT_LIMITS: Final = Limits()

LOSSES: Final = (errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM)
"""What the kernel says of a datagram that, to QUIC, is lost; the server may be there."""


class HandshakeError(ConnectionError):
    """A handshake failed.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail or reason.text)
        self.reason = reason


class Http3Connection:
    """Joins a QUIC session, its HTTP/3 session and a UDP socket.

    Arguments:
        runtime: The clockwork of the running loop.
        udp: A socket connected to the server; closed by :meth:`close`.
        parameters: Of the transport and of TLS.
        server_name: The name asked for and verified.
        engine: Name of the QUIC engine; ``None`` for the best there is.
        limits: What the server may send.

    Attributes:
        http3: The HTTP/3 session.
        datagrams_received: How many came.
        established: Done when the handshake is: its result is what was agreed on. Fails with an
            :class:`OSError` if the connection closes first, or cannot be.
        closed: Done when the connection is over.
    """

    def __init__(
        self,
        runtime: Runtime,
        udp: socket.socket,
        parameters: ClientParameters,
        server_name: str,
        engine: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.runtime = runtime
        self._socket = udp
        self._udp = UdpSocket(udp.fileno(), udp.family)
        self.quic = chosen_engine(engine).client_session(
            parameters, udp.getpeername(), server_name, runtime.now()
        )
        self.http3 = ClientSession(self.quic, limits, self)
        self.datagrams_received = 0
        self._timer: Timer | None = None
        self._marked = False
        self._has_socket = True
        self.established: asyncio.Future[Handshake] = runtime.loop.create_future()
        self.closed: asyncio.Future[Close] = runtime.loop.create_future()
        runtime.loop.add_reader(udp.fileno(), self._on_readable)
        self.wake()

    def shutdown(self) -> None:
        """Close the connection."""
        self.quic.close(H3_NO_ERROR, "", is_application=True)
        self.wake()

    def close(self) -> None:
        """Let go of the socket."""
        if not self._has_socket:
            return
        self._has_socket = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.runtime.loop.remove_reader(self._socket.fileno())
        self._udp.release()
        self._socket.close()

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if not self._marked:
            self._marked = True
            self.runtime.mark(self)

    def flush(self) -> None:
        """Send what is pending, and set the timer for what comes next."""
        self._marked = False
        if not self._has_socket:
            return
        self.http3.settle()
        for run in self.quic.flush(self.runtime.now()):
            self._send(run)
        if self.quic.terminated:
            self.close()
        else:
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
            self.established.set_exception(HandshakeError(reason, close.phrase))
        if not self.closed.done():
            self.closed.set_result(close)
        self.wake()

    def on_unreachable(self, error: OSError) -> None:
        """Give up the handshake: the server's host says that nobody listens there."""
        if not self.established.done():
            self.established.set_exception(error)

    # --- the socket ---------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            batch = self._udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            self.on_unreachable(error)
            return
        if batch:
            self.datagrams_received += len(batch)
            try:
                self.quic.receive(batch, self.runtime.now())
            except Exception:
                # A defect in what it carries ends this connection, and what it carries.
                self.runtime.report(self)
                self.http3.terminate(reasons.UPSTREAM_CONNECTION_LOST)
            self.wake()

    def _send(self, run: Transmit) -> None:
        payload, segment_size, _, ecn = run
        try:
            # What the kernel has no room for is, to QUIC, lost packets.
            self._udp.send(payload, segment_size, None, ecn)
        except OSError as error:
            if error.errno not in LOSSES:
                self.on_unreachable(error)

    def _set_timer(self) -> None:
        """Have :meth:`_on_timer` called when the session wants to be."""
        deadline, timer = self.quic.deadline(), self._timer
        if timer is not None:
            if deadline is not None and deadline >= timer.deadline:
                timer.postpone(deadline)
                return
            timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self.runtime.schedule(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.quic.expire(self.runtime.now())
        self.wake()
