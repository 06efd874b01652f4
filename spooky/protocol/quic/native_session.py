"""The native engine behind the seam of :mod:`spooky.protocol.quic.session`."""

import logging
from collections.abc import Callable
from functools import partial
from os import urandom
from typing import TYPE_CHECKING

from spooky._core.quic.connection import Connection
from spooky._core.quic.handshake import NativeTls
from spooky.protocol.quic.native_tls import client_tls, server_tls
from spooky.protocol.quic.packet import CONNECTION_ID_LENGTH, PacketHeader
from spooky.protocol.quic.parameters import ClientParameters, ServerParameters
from spooky.protocol.quic.session import Address, Close, Handshake, QuicSession, Transmit

logger = logging.getLogger(__name__)


class NativeSession(Connection):
    """A connection of the engine, with the words of the seam."""

    __slots__ = ("__weakref__",)

    tls: NativeTls

    # What ``on_closed`` is told, and a run as ``flush`` gives it, of a plain tuple: to call the
    # classes runs two functions of Python for each. Static, as Python 3.14 binds what is partial.
    make_close = staticmethod(partial(tuple.__new__, Close))
    make_transmit = staticmethod(partial(tuple.__new__, Transmit))

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for."""
        return self.tls.server_name

    def make_handshake(self) -> Handshake:
        """Return what ``on_handshake`` is told."""
        tls = self.tls
        return Handshake(
            version=self.version,
            alpn=tls.alpn,
            server_name=tls.server_name,
            resumed=tls.resumed,
            client_certificate=tls.client_certificate,
            early_data=tls.early_data,
        )

    def report_defect(self, what: str) -> None:
        """Log the exception that is being handled, which nobody foresaw."""
        logger.exception("closing a connection after a failure to %s", what)


class ServerSession(NativeSession):
    """A server's side."""

    __slots__ = ()

    parameters: ServerParameters

    def make_tls(self) -> NativeTls:
        """Return the TLS endpoint of a handshake that begins."""
        return server_tls(self.parameters, self)

    def make_token(self) -> bytes | None:
        """Return a token for a client's later connections, if any is to be given."""
        make = self.parameters.new_token
        return make(self.peer, self.version) if make is not None else None


class ClientSession(NativeSession):
    """A client's side."""

    __slots__ = ("requested_name",)

    parameters: ClientParameters
    requested_name: str

    def make_tls(self) -> NativeTls:
        """Return the TLS endpoint of a handshake that begins."""
        return client_tls(self.parameters, self.requested_name, self)

    def keep_token(self, token: bytes) -> None:
        """Keep what the server gave us for a later connection."""
        if self.parameters.tokens is not None:
            self.parameters.tokens.put(self.requested_name, self.version, token)


def server_session(
    parameters: ServerParameters,
    header: PacketHeader,
    peer: Address,
    now: float,
    new_connection_id: Callable[[], bytes],
    original_destination_connection_id: bytes | None = None,
    retry_source_connection_id: bytes | None = None,
    address_validated: bool = False,
) -> NativeSession:
    """Begin a server's side of a connection.

    Args:
        parameters: Of the listener.
        header: Of the Initial packet that begins it; the packet itself goes to ``receive``.
        peer: Where that came from.
        now: Seconds.
        new_connection_id: Makes the connection IDs the client may use: 8 bytes, unused so far.
        original_destination_connection_id: After a Retry, of the packet that it answered.
        retry_source_connection_id: After a Retry, what it came from.
        address_validated: A token proved that the client is there.

    Returns:
        A session without a handler.
    """
    session = ServerSession(
        False,
        parameters,
        peer,
        now,
        header.version,
        header.source_connection_id,
        new_connection_id,
        parameters.reset_token,
    )
    session.start_server(
        header.destination_connection_id,
        original_destination_connection_id or header.destination_connection_id,
        retry_source_connection_id,
        address_validated,
    )
    return session


def client_session(
    parameters: ClientParameters, peer: Address, server_name: str, now: float
) -> NativeSession:
    """Begin a client's side of a connection.

    Args:
        parameters: How to connect.
        peer: Where to.
        server_name: The name or address the server's certificate must be for; a name is sent (SNI).
        now: Seconds.

    Returns:
        A session without a handler, whose first packets are ready to be flushed.
    """
    session = ClientSession(
        True,
        parameters,
        peer,
        now,
        parameters.versions[0],
        _random_connection_id(),
        _random_connection_id,
        None,
    )
    session.requested_name = server_name
    tokens = parameters.tokens
    session.start_client(b"" if tokens is None else tokens.take(server_name, session.version))
    return session


# Not by ``secrets``, which runs two functions of Python for each of the six of a handshake.
_random_connection_id = partial(urandom, CONNECTION_ID_LENGTH)


if TYPE_CHECKING:
    _seam: Callable[..., QuicSession] = NativeSession
