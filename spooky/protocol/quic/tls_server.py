"""The server's side of TLS 1.3 (RFC 8446), as lean as a proxy's front needs it.

Keys, signatures and hashes are those of ``cryptography`` and libcrypto. Only (EC)DHE is offered,
with a certificate or a ticket. A client that speaks a group of ours and brought no share of any is
asked for one (HelloRetryRequest), once.
"""

import os
import struct
from hmac import compare_digest
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spooky._core.quic.client_hello import ClientHello
from spooky._core.quic.errors import Alert, TlsAlert
from spooky._core.quic.key_schedule import KeySchedule
from spooky._core.quic.negotiation import ServerNegotiation
from spooky._core.quic.tls_wire import read_certificate_verify, read_certificates
from spooky.protocol.quic.certificates import (
    ClientCertificateError,
    ClientCertificateFault,
    ServerIdentity,
    normalize_server_name,
)
from spooky.protocol.quic.key_exchange import exchange_keys, group_to_ask
from spooky.protocol.quic.parameters import ServerParameters, date_at
from spooky.protocol.quic.sealed_tickets import (
    TICKET_SECONDS,
    Session,
    TicketSealer,
    ticket_sealer,
)
from spooky.protocol.quic.signatures import CLIENT_CONTENT, SCHEMES, verify
from spooky.protocol.quic.tls_endpoint import (
    APPLICATION,
    EARLY,
    TlsEvents,
)
from spooky.protocol.quic.tls_messages import (
    Extension,
    MessageType,
    extension,
    handshake_message,
    load_certificates,
    opaque,
)

PSK_DHE_KE: Final = 1
"""The mode that keeps forward secrecy; the other is not offered (RFC 8446 section 4.2.9)."""

MAX_EARLY_DATA: Final = extension(Extension.EARLY_DATA, b"\xff\xff\xff\xff")
"""Says in a ticket that 0-RTT data may be sent; QUIC has other limits (RFC 9001 section 4.6.1)."""

CERTIFICATE_REQUEST: Final = handshake_message(
    MessageType.CERTIFICATE_REQUEST,
    b"\0"
    + opaque(
        extension(
            Extension.SIGNATURE_ALGORITHMS,
            opaque(b"".join(scheme.to_bytes(2, "big") for scheme in SCHEMES), 2),
        ),
        2,
    ),
)

FAULT_ALERTS: Final[dict[ClientCertificateFault, Alert]] = {
    ClientCertificateFault.EXPIRED: Alert.CERTIFICATE_EXPIRED,
    ClientCertificateFault.PURPOSE: Alert.UNSUPPORTED_CERTIFICATE,
    ClientCertificateFault.UNTRUSTED: Alert.UNKNOWN_CA,
    ClientCertificateFault.MALFORMED: Alert.BAD_CERTIFICATE,
}


class ServerTls(ServerNegotiation):
    """The server's side of a handshake."""

    __slots__ = ()

    CERTIFICATE_REQUEST = CERTIFICATE_REQUEST

    _events: TlsEvents
    _parameters: ServerParameters
    _identity: ServerIdentity
    _tickets: TicketSealer | None

    # --- the hello ------------------------------------------------------------------------------

    def _meet(self, server_name: str | None) -> None:
        self.server_name = normalize_server_name(server_name)
        selector = self._parameters.certificates
        assert selector is not None
        identity = selector.select(self.server_name)
        if identity is None:
            raise TlsAlert(Alert.UNRECOGNIZED_NAME, "no certificate for this server name")
        self._identity = identity

    def _sealer(self) -> TicketSealer | None:
        parameters = self._parameters
        if parameters.tickets is None:
            return None
        return ticket_sealer(parameters.keys, parameters.listener)

    def _resumable(self, hello: ClientHello, cipher_suite: int) -> Session | None:
        """Return the session of a client's ticket, if it may be resumed now.

        It belongs to one server name and what was asked of clients there, lest a client carry its
        identity to another (attack 32), and its client is verified again: certificates expire.
        """
        if hello.identities is not None and hello.psk_modes is None:
            raise TlsAlert(Alert.MISSING_EXTENSION, "a ticket without key exchange modes")
        if PSK_DHE_KE not in (hello.psk_modes or b""):
            return None
        self._tickets = self._sealer()
        if self._tickets is None or hello.identities is None:
            return None
        session = self._tickets.open(hello.identities[0][0])
        if (
            session is None
            or session.version != self._events.version
            or session.server_name != self.server_name
            or session.policy != self._identity.policy
            or session.alpn != self.alpn
            or session.cipher_suite != cipher_suite
            or not 0 <= self._now() - session.issued <= TICKET_SECONDS
        ):
            return None
        verifier = self._identity.client_verifier
        if verifier is not None and session.client_chain:
            chain = tuple(map(x509.load_der_x509_certificate, session.client_chain))
            try:
                verifier.verify(chain, date_at(self._parameters.wall_clock()))
            except ClientCertificateError:
                return None
            self._client_chain = chain
        return session

    def _begin_resumed(
        self, message: bytes, hello: ClientHello, cipher_suite: int, session: Session
    ) -> None:
        schedule = self._schedule = KeySchedule(cipher_suite, session.secret)
        schedule.update(self._retried + message[: hello.binders_at])
        binders = hello.binders or [b""]
        if not compare_digest(binders[0], schedule.verify_data(schedule.binder_key())):
            raise TlsAlert(Alert.DECRYPT_ERROR, "the ticket is not its sender's")
        schedule.update(message[hello.binders_at :])
        self.resumed = True

    def _consider_early_data(self, hello: ClientHello, session: Session | None) -> None:
        early = self._parameters.early_data
        self.early_data = (
            early is not None
            and session is not None
            and hello.identities is not None
            # Its packets are in the version that the client began with.
            and self._events.version == self._events.original_version
            and early.takes(session, *hello.identities[0], self._now())
        )
        if self.early_data:
            schedule = self._schedule
            self._tell_secret(False, EARLY, schedule.cipher_suite, schedule.derive(b"c e traffic"))

    def _group_to_ask(self, shares: list[tuple[int, bytes]], supported: tuple[int, ...]) -> int:
        return group_to_ask(shares, supported)

    def _exchange(self, shares: list[tuple[int, bytes]]) -> tuple[int, bytes, bytes]:
        return exchange_keys(shares)

    # --- the client's flight --------------------------------------------------------------------

    def _on_certificate(self, message: bytes) -> None:
        verifier = self._identity.client_verifier
        assert verifier is not None
        chain = load_certificates(read_certificates(message))
        if chain:
            try:
                verifier.verify(chain, date_at(self._parameters.wall_clock()))
            except ClientCertificateError as error:
                raise TlsAlert(FAULT_ALERTS[error.fault], str(error)) from error
            self._expect = MessageType.CERTIFICATE_VERIFY
        elif verifier.required:
            raise TlsAlert(Alert.CERTIFICATE_REQUIRED, "a client certificate is required")
        else:
            self._expect = MessageType.FINISHED
        self._client_chain = chain
        self._schedule.update(message)

    def _on_certificate_verify(self, message: bytes) -> None:
        scheme, signature = read_certificate_verify(message)
        content = CLIENT_CONTENT + self._schedule.transcript()
        verify(self._client_chain[0], scheme, signature, content)
        self._schedule.update(message)
        self._expect = MessageType.FINISHED

    def _give_ticket(self) -> None:
        """Give a ticket, now that the client can acknowledge it (RFC 9001 section 4.5)."""
        assert self._tickets is not None
        age_add = int.from_bytes(os.urandom(4), "big")
        early = self._parameters.early_data
        session = Session(
            self._events.version,
            self._schedule.cipher_suite,
            self._schedule.resumption_secret(b""),
            self._now(),
            age_add,
            self.server_name,
            self.alpn,
            self._identity.policy,
            tuple(each.public_bytes(Encoding.DER) for each in self._client_chain),
            register_id=early.register.register_id if early is not None else 0,
            limits=early.limits if early is not None else (),
        )
        ticket = self._tickets.seal(session)
        if ticket is not None:
            # No nonce, as there is one ticket.
            body = struct.pack("!IIB", TICKET_SECONDS, age_add, 0) + opaque(ticket, 2)
            body += opaque(MAX_EARLY_DATA if early is not None else b"", 2)
            self._send(APPLICATION, handshake_message(MessageType.NEW_SESSION_TICKET, body))

    def _now(self) -> float:
        return self._parameters.wall_clock()
