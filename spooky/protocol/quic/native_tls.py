"""TLS 1.3 for the native engine: both sides our own, as lean as a proxy needs them."""

from spooky._core.quic.errors import TlsAlert
from spooky._core.quic.handshake import NativeTls
from spooky.protocol.quic.parameters import ClientParameters, ServerParameters
from spooky.protocol.quic.tls_client import ClientTls
from spooky.protocol.quic.tls_endpoint import TlsEvents
from spooky.protocol.quic.tls_server import ServerTls

__all__ = ["NativeTls", "TlsAlert", "TlsEvents", "client_tls", "server_tls"]


def server_tls(parameters: ServerParameters, events: TlsEvents) -> NativeTls:
    """Return a server's side of a handshake.

    Arguments:
        parameters: Of the listener.
        events: Who is told of secrets and of what the client said.
    """
    return ServerTls(parameters, events)


def client_tls(parameters: ClientParameters, server_name: str, events: TlsEvents) -> NativeTls:
    """Return a client's side of a handshake.

    Arguments:
        parameters: How to connect.
        server_name: The name or address the server's certificate must be for; a name is sent (SNI).
        events: Who is told of secrets and of what the server said.
    """
    return ClientTls(parameters, server_name, events)
