"""aioquic's TLS 1.3 with what we add: SNI, verified peers, tickets without 0-RTT.

Every failure is an alert, which QUIC carries as error 0x100 + alert (RFC 9001 section 4.8).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.stream import QuicStreamReceiver
from aioquic.tls import AlertDescription
from cryptography import x509

from spooky.protocol.quic.certificates import (
    CertificateSelector,
    ClientCertificateError,
    ClientCertificateFault,
    ClientVerifier,
    ServerIdentity,
    normalize_server_name,
)
from spooky.protocol.quic.parameters import date_at
from spooky.protocol.quic.reassembly import GapBudget, WaitingRanges
from spooky.protocol.quic.server_verifier import (
    ServerCertificateError,
    ServerCertificateFault,
    ServerVerifier,
)
from spooky.protocol.quic.tickets import ResumableSession, TicketStore

HANDSHAKE_MESSAGE_MAX: Final = 64 * 1024
"""Largest handshake message taken; bytes. aioquic would collect the 16 MiB its header can announce,
in quadratic time. Browsers' hellos have 2 KiB, long client chains 10 KiB."""


CERT_NONE: Final = 0
"""Of ``ssl``, whose sockets this room knows nothing of: no certificate is verified."""


class AlertUnrecognizedName(tls.Alert):
    """The client asked for a server name we do not serve."""

    description = AlertDescription.unrecognized_name


class AlertCertificateRequired(tls.Alert):
    """The client sent no certificate."""

    description = AlertDescription.certificate_required


class AlertUnknownAuthority(tls.Alert):
    """The peer's certificate comes from an authority we do not trust."""

    description = AlertDescription.unknown_ca


FAULT_ALERTS: Final[dict[ClientCertificateFault, type[tls.Alert]]] = {
    ClientCertificateFault.EXPIRED: tls.AlertCertificateExpired,
    ClientCertificateFault.PURPOSE: tls.AlertUnsupportedCertificate,
    ClientCertificateFault.UNTRUSTED: AlertUnknownAuthority,
    ClientCertificateFault.MALFORMED: tls.AlertBadCertificate,
}


SERVER_FAULT_ALERTS: Final[dict[ServerCertificateFault, type[tls.Alert]]] = {
    ServerCertificateFault.EXPIRED: tls.AlertCertificateExpired,
    ServerCertificateFault.PURPOSE: tls.AlertUnsupportedCertificate,
    ServerCertificateFault.WEAK: tls.AlertBadCertificate,
    ServerCertificateFault.UNTRUSTED: AlertUnknownAuthority,
    ServerCertificateFault.NAME: tls.AlertBadCertificate,
    ServerCertificateFault.MALFORMED: tls.AlertBadCertificate,
}


class CryptoReceiver(QuicStreamReceiver):
    """Puts CRYPTO frames in order, within bounds (attack 12).

    Arguments:
        gaps: The ranges that wait for their turn.
        ahead_max: How far data may run ahead of it; bytes.
    """

    def __init__(self, gaps: GapBudget, ahead_max: int) -> None:
        super().__init__(stream_id=None, readable=True)
        self._ahead_max = ahead_max
        self._ranges = WaitingRanges(gaps)

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Take a frame and return the data whose turn it is, if any."""
        if frame.offset + len(frame.data) - self.starting_offset() > self._ahead_max:
            raise crypto_buffer_exceeded()
        return super().handle_frame(frame)


class BoundedContext(tls.Context):
    """A TLS endpoint that does not collect endless messages (attack 12), and takes none after one
    that it refused: the next may come in the same batch, before the connection is closed."""

    _failed = False

    def handle_message(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        """Take handshake bytes in order."""
        if self._failed:
            return
        self._failed = True
        if len(self._receive_buffer) + len(input_data) > HANDSHAKE_MESSAGE_MAX:
            raise crypto_buffer_exceeded()
        super().handle_message(input_data, output_buf)
        self._failed = False


class ClientContext(BoundedContext):
    """A TLS client.

    Arguments:
        verifier: Judges the server's certificate; ``None`` leaves it to aioquic.
        wall_clock: Returns the time of day; Unix time, seconds.
        server_name: The name or address that the server is asked for by.
        groups: Of the key exchange; ``None`` offers all there are.
        verify_mode: As ``ssl`` numbers it.
        options: Of aioquic's context.
    """

    def __init__(
        self,
        *,
        verifier: ServerVerifier | None,
        wall_clock: Callable[[], float],
        server_name: str,
        groups: Sequence[int] | None,
        verify_mode: int | None,
        **options: Any,
    ) -> None:
        super().__init__(
            is_client=True, server_name=server_name, verify_mode=verify_mode, **options
        )
        if groups is not None:
            self._supported_groups = [tls.Group(group) for group in groups]
        self._judged = verifier is not None or verify_mode != CERT_NONE
        self._verifier = verifier
        self._wall_clock = wall_clock
        self._name = server_name

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        # Anybody owns some certificate: who takes any learns nothing from a proof of it.
        if self._judged:
            super()._check_certificate_verify_signature(verify)

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate_verify(input_buf)
        leaf = self._peer_certificate
        if self._verifier is None or leaf is None:
            return
        chain = (leaf, *self._peer_certificate_chain)
        try:
            self._verifier.verify(chain, self._name, date_at(self._wall_clock()))
        except ServerCertificateError as error:
            raise SERVER_FAULT_ALERTS[error.fault](str(error)) from error


class ServerContext(BoundedContext):
    """A TLS server.

    Attributes:
        server_name: What the client asked for, once its hello was read.
        client_chain: The certificates the client proved to own, leaf first, in this handshake or
            the one it resumes; verified.
    """

    def __init__(
        self,
        *,
        alpn: list[str],
        certificates: CertificateSelector,
        tickets: TicketStore | None,
        wall_clock: Callable[[], float],
        logger: logging.LoggerAdapter[logging.Logger] | None,
    ) -> None:
        # No early data: max_early_data goes into tickets (RFC 8446 section 4.6.1).
        super().__init__(is_client=False, alpn_protocols=alpn, logger=logger, max_early_data=None)
        self.server_name: str | None = None
        self.client_chain: tuple[x509.Certificate, ...] = ()
        self._certificates = certificates
        self._identity: ServerIdentity
        self._tickets = tickets
        self._wall_clock = wall_clock
        if tickets is not None:
            self.get_session_ticket_cb = self._find_session
            self.new_session_ticket_cb = self._keep_session

    def let_go_of_certificates(self) -> None:
        """Keep none after the handshake, as they may be replaced."""
        del self._certificates, self._identity
        self.certificate = self.certificate_private_key = None
        self.certificate_chain = []

    def _server_handle_hello(
        self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer
    ) -> None:
        hello = tls.pull_client_hello(Buffer(data=input_buf.data_slice(0, input_buf.capacity)))
        self.server_name = normalize_server_name(hello.server_name)
        identity = self._certificates.select(self.server_name)
        if identity is None:
            raise AlertUnrecognizedName("no certificate for this server name")
        self._identity, chain = identity, identity.chain
        self._request_client_certificate = identity.client_verifier is not None
        self.certificate = chain.certificate
        self.certificate_chain = list(chain.intermediates)
        self.certificate_private_key = chain.key
        if hello.early_data:
            # No ticket of ours allows it, and aioquic would accept it with any: not resuming
            # refuses it as a client expects (RFC 8446 section 4.2.10).
            self.get_session_ticket_cb = None
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)
        if not self.session_resumed:
            self.client_chain = ()
        elif self.state is tls.State.SERVER_EXPECT_CERTIFICATE:
            # A resumed handshake has no certificates (RFC 8446 section 2.2), but aioquic waits.
            self._server_expect_finished()

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        verifier = self._identity.client_verifier
        if verifier is None:
            raise tls.AlertUnexpectedMessage("no certificate was asked for")
        if self._peer_certificate is not None:
            self._verify(verifier, self._peer_chain())
        elif verifier.required:
            raise AlertCertificateRequired("a client certificate is required")

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate_verify(input_buf)
        self.client_chain = self._peer_chain()

    def _peer_chain(self) -> tuple[x509.Certificate, ...]:
        leaf = self._peer_certificate
        return (leaf, *self._peer_certificate_chain) if leaf is not None else ()

    def _verify(self, verifier: ClientVerifier, chain: tuple[x509.Certificate, ...]) -> None:
        try:
            verifier.verify(chain, date_at(self._wall_clock()))
        except ClientCertificateError as error:
            raise FAULT_ALERTS[error.fault](str(error)) from error

    def _find_session(self, ticket: bytes) -> tls.SessionTicket | None:
        """Return the session of a ticket if it may be resumed now.

        It belongs to one server name and what was asked of clients there, lest a client carry its
        identity to another (attack 32), and its client is verified again: certificates expire.
        """
        session = self._tickets.take(ticket) if self._tickets is not None else None
        if (
            session is None
            or session.server_name != self.server_name
            or session.policy != self._identity.policy
        ):
            return None
        verifier = self._identity.client_verifier
        if verifier is not None and session.client_chain:
            try:
                verifier.verify(session.client_chain, date_at(self._wall_clock()))
            except ClientCertificateError:
                return None
            self.client_chain = session.client_chain
        return session.ticket

    def _keep_session(self, ticket: tls.SessionTicket) -> None:
        if self._tickets is not None:
            self._tickets.put(
                ResumableSession(ticket, self.server_name, self._identity.policy, self.client_chain)
            )


def crypto_buffer_exceeded() -> QuicConnectionError:
    """Return the error for a peer that sends more CRYPTO data than is taken."""
    return QuicConnectionError(
        error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
        frame_type=QuicFrameType.CRYPTO,
        reason_phrase="too much handshake data",
    )
