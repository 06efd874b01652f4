"""TLS 1.3 for the native engine: aioquic's, driven message by message.

Certificates, tickets and their verification are the same as with aioquic's engine.
"""

import ssl
from abc import abstractmethod
from dataclasses import replace
from typing import Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.tls import Direction, Epoch
from cryptography.hazmat.primitives.serialization import Encoding

from spooky._core.quic.errors import QuicError, TlsAlert, TransportError
from spooky.protocol.quic.aioquic_tls import ServerContext
from spooky.protocol.quic.parameters import ClientParameters, EndpointParameters, ServerParameters
from spooky.protocol.quic.tls_endpoint import (
    APPLICATION,
    CRYPTO_FRAME,
    EARLY,
    HANDSHAKE,
    INITIAL,
    QUIC_TRANSPORT_PARAMETERS,
    NativeTls,
    TlsEvents,
)

__all__ = ["NativeTls", "TlsAlert", "TlsEvents", "client_tls", "server_tls"]

FLIGHT_MAX: Final = 16 * 1024
"""Room for what a side sends at one level; bytes. Chains are refused at load if they exceed it."""

EPOCHS: Final = {
    Epoch.INITIAL: INITIAL,
    Epoch.HANDSHAKE: HANDSHAKE,
    Epoch.ONE_RTT: APPLICATION,
    Epoch.ZERO_RTT: EARLY,
}
"""The engine's numbers of aioquic's levels."""

LEVELS: Final = {
    tls.State.SERVER_EXPECT_CLIENT_HELLO: INITIAL,
    tls.State.SERVER_EXPECT_CERTIFICATE: HANDSHAKE,
    tls.State.SERVER_EXPECT_CERTIFICATE_VERIFY: HANDSHAKE,
    tls.State.SERVER_EXPECT_FINISHED: HANDSHAKE,
    tls.State.SERVER_POST_HANDSHAKE: APPLICATION,
    tls.State.CLIENT_HANDSHAKE_START: INITIAL,
    tls.State.CLIENT_EXPECT_SERVER_HELLO: INITIAL,
    tls.State.CLIENT_EXPECT_ENCRYPTED_EXTENSIONS: HANDSHAKE,
    tls.State.CLIENT_EXPECT_CERTIFICATE_REQUEST_OR_CERTIFICATE: HANDSHAKE,
    tls.State.CLIENT_EXPECT_CERTIFICATE: HANDSHAKE,
    tls.State.CLIENT_EXPECT_CERTIFICATE_VERIFY: HANDSHAKE,
    tls.State.CLIENT_EXPECT_FINISHED: HANDSHAKE,
    tls.State.CLIENT_POST_HANDSHAKE: APPLICATION,
}
"""The level at which the next message comes, in every state."""


class AioquicTls(NativeTls):
    """One side of a handshake, in a context of aioquic's."""

    def __init__(
        self, context: tls.Context, parameters: EndpointParameters, events: TlsEvents
    ) -> None:
        super().__init__(
            events, parameters.secrets_log, is_client=context.client_random is not None
        )
        self._context = context
        self._buffers: dict[Epoch, Buffer] = {
            epoch: Buffer(capacity=FLIGHT_MAX)
            for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)
        }
        context.alpn_cb = self._on_extensions
        context.update_traffic_key_cb = self._on_traffic_secret

    def _handle(self, message: bytes) -> None:
        context = self._context
        try:
            context.handle_message(message, self._buffers)
        except tls.Alert as alert:
            raise TlsAlert(alert.description, str(alert)) from alert
        for epoch, buffer in self._buffers.items():
            if buffer.tell():
                self._send(EPOCHS[epoch], buffer.data)
                buffer.seek(0)
        completed = LEVELS[context.state] == APPLICATION != self._level
        self._level = LEVELS[context.state]
        if completed:
            self.resumed = context.session_resumed
            self.early_data_accepted = context.early_data_accepted
            self.alpn = context.alpn_negotiated or ""
            self._on_complete()
            self._events.on_handshake_complete()

    @abstractmethod
    def _on_complete(self) -> None:
        """Note what is known of the peer now."""

    def _on_extensions(self, alpn: str) -> None:
        """Tell of the peer's parameters, before the other side's are written."""
        context = self._context
        if context.legacy_session_id:
            # There is no middlebox compatibility mode (RFC 9001 section 8.4).
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, "a hello with a session ID"
            )
        self._client_random = context.client_random or b""
        ours = self._tell_peer_parameters(context.received_extensions or [])
        if ours is not None:
            context.handshake_extensions = [(QUIC_TRANSPORT_PARAMETERS, ours)]

    def _on_traffic_secret(
        self, direction: Direction, epoch: Epoch, cipher_suite: tls.CipherSuite, secret: bytes
    ) -> None:
        self._tell_secret(direction is Direction.ENCRYPT, EPOCHS[epoch], cipher_suite, secret)


class AioquicServerTls(AioquicTls):
    """The server's side."""

    def __init__(self, parameters: ServerParameters, events: TlsEvents) -> None:
        self._server = ServerContext(
            alpn=list(parameters.alpn),
            certificates=parameters.certificates,
            client_verifier=parameters.client_verifier,
            tickets=parameters.tickets,
            wall_clock=parameters.wall_clock,
            logger=None,
        )
        super().__init__(self._server, parameters, events)

    def start(self, own_parameters: bytes) -> None:
        """Refuse: a server waits for the client's hello."""
        raise ValueError("a server does not begin a handshake")

    def _on_complete(self) -> None:
        self.server_name = self._server.server_name
        chain = self._server.client_chain
        self.client_certificate = chain[0].public_bytes(Encoding.DER) if chain else None


class AioquicClientTls(AioquicTls):
    """The client's side."""

    def __init__(self, parameters: ClientParameters, server_name: str, events: TlsEvents) -> None:
        context = tls.Context(
            is_client=True,
            alpn_protocols=list(parameters.alpn),
            cadata=parameters.authorities,
            server_name=server_name,
            verify_mode=ssl.CERT_REQUIRED if parameters.verify else ssl.CERT_NONE,
        )
        if parameters.certificate is not None:
            context.certificate = parameters.certificate.certificate
            context.certificate_chain = list(parameters.certificate.intermediates)
            context.certificate_private_key = parameters.certificate.key
        ticket = parameters.ticket
        if ticket is not None and ticket.server_name == server_name:
            # Without early data, which the ticket may allow but we do not send.
            context.session_ticket = replace(ticket, max_early_data_size=None)
        context.new_session_ticket_cb = parameters.on_ticket
        super().__init__(context, parameters, events)
        self._client_random = context.client_random or b""
        self._requested_name = server_name

    def start(self, own_parameters: bytes) -> None:
        """Produce the hello."""
        self._context.handshake_extensions = [(QUIC_TRANSPORT_PARAMETERS, own_parameters)]
        self._handle(b"")

    def _on_complete(self) -> None:
        self.server_name = self._requested_name


def server_tls(parameters: ServerParameters, events: TlsEvents) -> NativeTls:
    """Return a server's side of a handshake.

    Arguments:
        parameters: Of the listener.
        events: Who is told of secrets and of what the client said.
    """
    return AioquicServerTls(parameters, events)


def client_tls(parameters: ClientParameters, server_name: str, events: TlsEvents) -> NativeTls:
    """Return a client's side of a handshake.

    Arguments:
        parameters: How to connect.
        server_name: The name or address the server's certificate must be for; a name is sent (SNI).
        events: Who is told of secrets and of what the server said.
    """
    return AioquicClientTls(parameters, server_name, events)
