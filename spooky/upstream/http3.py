"""A client's HTTP/3 connection over a UDP socket of its own."""

import asyncio
import socket
from typing import Final

from spooky._core import reasons
from spooky._core.h3_client import ClientSession
from spooky._core.quic_link import Link
from spooky._core.reasons import H3_NO_ERROR, Reason
from spooky._core.udp import UdpSocket
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Close, Handshake
from spooky.runtime import Runtime

DEFAULT_LIMITS: Final = Limits()


class HandshakeError(ConnectionError):
    """A handshake failed.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail or reason.text)
        self.reason = reason


class Http3Connection(Link):
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

    runtime: Runtime

    def __init__(
        self,
        runtime: Runtime,
        udp: socket.socket,
        parameters: ClientParameters,
        server_name: str,
        engine: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        quic = chosen_engine(engine).client_session(
            parameters, udp.getpeername(), server_name, runtime.now()
        )
        Link.__init__(self, runtime, UdpSocket(udp.fileno(), udp.family), quic)
        self._socket = udp
        self.http3 = ClientSession(quic, limits, self)
        self.established: asyncio.Future[Handshake] = runtime.loop.create_future()
        self.closed: asyncio.Future[Close] = runtime.loop.create_future()
        self.watch()
        self.wake()

    def shutdown(self) -> None:
        """Close the connection."""
        self.quic.close(H3_NO_ERROR, "", is_application=True)
        self.wake()

    def watch(self) -> None:
        """Have the socket read when something comes, also if that stopped at an error."""
        self.runtime.loop.remove_reader(self._socket.fileno())
        self.runtime.loop.add_reader(self._socket.fileno(), self._on_readable)

    def close(self) -> None:
        """Let go of the socket."""
        if not self._has_socket:
            return
        self._has_socket = False
        self._cancel_timer()
        self.runtime.loop.remove_reader(self._socket.fileno())
        self._udp.release()
        self._socket.close()

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
        self.ended = True
        if not self.established.done():
            self.established.set_exception(HandshakeError(reason, close.phrase))
        if not self.closed.done():
            self.closed.set_result(close)
        self.wake()

    def on_unreachable(self, error: OSError) -> None:
        """Give up the handshake: the server's host says that nobody listens there."""
        if not self.established.done():
            self.established.set_exception(error)

    def on_broken(self) -> None:
        """End this connection, and what it carries, for a defect in that."""
        self.runtime.report(self)
        self.http3.terminate(reasons.UPSTREAM_CONNECTION_LOST)
