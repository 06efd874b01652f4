"""The client's side of TLS 1.3, in aioquic's context."""

import ssl
from dataclasses import replace
from typing import Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.tls import Direction, Epoch

from spooky._core.quic.errors import TlsAlert
from spooky._core.quic.handshake import NativeTls
from spooky.protocol.quic.aioquic_tls import ClientContext
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.tls_endpoint import (
    APPLICATION,
    EARLY,
    HANDSHAKE,
    INITIAL,
    QUIC_TRANSPORT_PARAMETERS,
    TlsEvents,
)

FLIGHT_MAX: Final = 16 * 1024
"""Room for what is sent at one level; bytes. Chains are refused at load if they exceed it."""

EPOCHS: Final = {
    Epoch.INITIAL: INITIAL,
    Epoch.HANDSHAKE: HANDSHAKE,
    Epoch.ONE_RTT: APPLICATION,
    Epoch.ZERO_RTT: EARLY,
}
"""The engine's numbers of aioquic's levels."""

LEVELS: Final = {
    tls.State.CLIENT_EXPECT_SERVER_HELLO: INITIAL,
    tls.State.CLIENT_POST_HANDSHAKE: APPLICATION,
}
"""The level at which the next message comes, in the states where it is not that of handshakes."""


class ClientTls(NativeTls):
    """The client's side of a handshake."""

    _events: TlsEvents

    def __init__(self, parameters: ClientParameters, server_name: str, events: TlsEvents) -> None:
        super().__init__(events, parameters.secrets_log, is_client=True)
        context = self._context = ClientContext(
            verifier=parameters.verifier,
            wall_clock=parameters.wall_clock,
            groups=parameters.groups,
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
            if not parameters.early_data:
                ticket = replace(ticket, max_early_data_size=None)
            context.session_ticket = ticket
        context.new_session_ticket_cb = parameters.on_ticket
        context.alpn_cb = self._on_extensions
        context.update_traffic_key_cb = self._on_traffic_secret
        self._buffers: dict[Epoch, Buffer] = {
            epoch: Buffer(capacity=FLIGHT_MAX)
            for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)
        }
        self._client_random = context.client_random or b""
        self._requested_name = server_name
        self._offers_early_data = False

    def start(self, own_parameters: bytes) -> None:
        """Produce the hello."""
        context = self._context
        context.handshake_extensions = [(QUIC_TRANSPORT_PARAMETERS, own_parameters)]
        self._handle(b"")
        if self._offers_early_data and context.session_ticket is not None:
            for kind, value in context.session_ticket.other_extensions:
                if kind == QUIC_TRANSPORT_PARAMETERS:
                    self._events.remember_parameters(value)

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
        before, self._level = self._level, LEVELS.get(context.state, HANDSHAKE)
        if self._level == APPLICATION != before:
            self.resumed = context.session_resumed
            if self._offers_early_data:
                self.early_data = context.early_data_accepted
            self.alpn = context.alpn_negotiated or ""
            self.server_name = self._requested_name
            self._events.on_handshake_complete()

    def _on_extensions(self, alpn: str) -> None:
        """Tell of the server's parameters."""
        for kind, value in self._context.received_extensions or ():
            if kind == QUIC_TRANSPORT_PARAMETERS:
                self._tell_peer_parameters(value)
                return
        self._tell_peer_parameters(None)

    def _on_traffic_secret(
        self, direction: Direction, epoch: Epoch, cipher_suite: tls.CipherSuite, secret: bytes
    ) -> None:
        self._offers_early_data = self._offers_early_data or epoch is Epoch.ZERO_RTT
        self._tell_secret(direction is Direction.ENCRYPT, EPOCHS[epoch], cipher_suite, secret)
