"""The server's side of TLS 1.3 (RFC 8446), as lean as a proxy's front needs it.

Keys, signatures and hashes are those of ``cryptography`` and libcrypto. Only (EC)DHE is offered,
with a certificate or a ticket, and no HelloRetryRequest: whoever has none of our groups in its
key shares is refused.
"""

import os
import struct
from functools import partial
from hmac import compare_digest
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spooky._core.quic.client_hello import ClientHello, parse_client_hello
from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError
from spooky._core.quic.handshake import ServerHandshake
from spooky._core.quic.key_schedule import KeySchedule
from spooky.protocol.quic.certificates import (
    ClientCertificateError,
    ClientCertificateFault,
    ServerIdentity,
    normalize_server_name,
)
from spooky.protocol.quic.key_exchange import exchange_keys
from spooky.protocol.quic.parameters import ServerParameters
from spooky.protocol.quic.sealed_tickets import (
    TICKET_SECONDS,
    Session,
    TicketSealer,
    ticket_sealer,
)
from spooky.protocol.quic.signatures import SCHEMES, choose_scheme, sign, verify
from spooky.protocol.quic.tls_endpoint import (
    APPLICATION,
    CRYPTO_FRAME,
    EARLY,
    HANDSHAKE,
    TlsEvents,
)
from spooky.protocol.quic.tls_messages import (
    MessageType,
    extension,
    handshake_message,
    opaque,
    parse_certificate,
    parse_certificate_verify,
)

TLS_1_3: Final = 0x0304

CIPHER_SUITES: Final = (0x1301, 0x1302, 0x1303)
"""In our order: AES in hardware is everywhere, and its shorter keys do."""

NULL_COMPRESSION: Final = b"\0"
"""All that a hello of TLS 1.3 may list (RFC 8446 section 4.1.2)."""

PSK_DHE_KE: Final = 1
"""The mode that keeps forward secrecy; the other is not offered (RFC 8446 section 4.2.9)."""

SIGNATURE_ALGORITHMS: Final = 13
EARLY_DATA: Final = 42

MAX_EARLY_DATA: Final = extension(EARLY_DATA, b"\xff\xff\xff\xff")
"""Says in a ticket that 0-RTT data may be sent; QUIC has other limits (RFC 9001 section 4.6.1)."""

CLIENT_SIGNATURE: Final = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"
"""What goes before a transcript that a client signed (RFC 8446 section 4.4.3)."""

CERTIFICATE_REQUEST: Final = handshake_message(
    MessageType.CERTIFICATE_REQUEST,
    b"\0"
    + opaque(
        extension(
            SIGNATURE_ALGORITHMS,
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


class ServerTls(ServerHandshake):
    """The server's side of a handshake."""

    __slots__ = ("_client_chain", "_identity", "_parameters", "_tickets")

    _events: TlsEvents

    def __init__(self, parameters: ServerParameters, events: TlsEvents) -> None:
        super().__init__(events, parameters.secrets_log)
        self._parameters = parameters
        self._identity: ServerIdentity
        self._client_chain: tuple[x509.Certificate, ...] = ()
        # Seals the ticket of this session, if its client can resume it.
        self._tickets: TicketSealer | None = None

    def _sealer(self) -> TicketSealer | None:
        parameters = self._parameters
        if parameters.tickets is None:
            return None
        return ticket_sealer(parameters.keys, parameters.listener)

    # --- the hello ------------------------------------------------------------------------------

    def _on_hello(self, message: bytes) -> None:
        hello = parse_client_hello(message)
        self._client_random = hello.random
        self.server_name = normalize_server_name(hello.server_name)
        identity = self._parameters.certificates.select(self.server_name)
        if identity is None:
            raise TlsAlert(Alert.UNRECOGNIZED_NAME, "no certificate for this server name")
        self._identity, chain = identity, identity.chain
        cipher_suite = self._negotiate(hello)
        if hello.session_id:
            # There is no middlebox compatibility mode (RFC 9001 section 8.4).
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, "a hello with a session ID"
            )
        ours = self._tell_peer_parameters(hello.transport_parameters)
        session = self._resumable(hello, cipher_suite)
        scheme = choose_scheme(chain.schemes, hello.signature_schemes) if session is None else 0
        self._begin_schedule(message, hello, cipher_suite, session)
        if hello.early_data:
            self._consider_early_data(hello, session)
        group, own_share, shared = exchange_keys(hello.key_shares or [])
        self._send_hello(group, own_share, shared)
        certificates = None if self.resumed else chain.message
        expect = MessageType.FINISHED
        if certificates is not None and identity.client_verifier is not None:
            certificates = CERTIFICATE_REQUEST + certificates
            expect = MessageType.CERTIFICATE
        self._send_flight(ours or b"", certificates, scheme, partial(sign, chain.key, scheme))
        self._level = HANDSHAKE
        self._expect = expect

    def _negotiate(self, hello: ClientHello) -> int:
        """Choose the protocol, and return the cipher suite."""
        if TLS_1_3 not in (hello.versions or ()):
            raise TlsAlert(Alert.PROTOCOL_VERSION, "only TLS 1.3 is spoken")
        if hello.compression_methods != NULL_COMPRESSION:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "compression does not exist any more")
        if hello.key_shares is None or hello.supported_groups is None:
            # Neither comes without the other (RFC 8446 section 9.2).
            raise TlsAlert(Alert.MISSING_EXTENSION, "no key share, or no groups")
        offered = hello.protocols or ()
        for protocol in self._parameters.alpn:
            if protocol.encode() in offered:
                self.alpn = protocol
                break
        else:
            raise TlsAlert(Alert.NO_APPLICATION_PROTOCOL, "no application protocol in common")
        for cipher_suite in CIPHER_SUITES:
            if cipher_suite in hello.cipher_suites:
                return cipher_suite
        raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no cipher suite in common")

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
                verifier.verify(chain, self._parameters.wall_clock())
            except ClientCertificateError:
                return None
            self._client_chain = chain
        return session

    def _begin_schedule(
        self, message: bytes, hello: ClientHello, cipher_suite: int, session: Session | None
    ) -> None:
        if session is None:
            self._schedule = KeySchedule(cipher_suite)
            self._schedule.update(message)
            return
        schedule = self._schedule = KeySchedule(cipher_suite, session.secret)
        schedule.update(message[: hello.binders_at])
        binders = hello.binders or [b""]
        if not compare_digest(binders[0], schedule.verify_data(schedule.binder_key())):
            raise TlsAlert(Alert.DECRYPT_ERROR, "the ticket is not its sender's")
        schedule.update(message[hello.binders_at :])
        self.resumed = True

    def _consider_early_data(self, hello: ClientHello, session: Session | None) -> None:
        """Take the 0-RTT data that a client offers, or let it come to nothing."""
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

    # --- the client's flight --------------------------------------------------------------------

    def _on_certificate(self, message: bytes) -> None:
        verifier = self._identity.client_verifier
        assert verifier is not None
        chain = parse_certificate(message)
        if chain:
            try:
                verifier.verify(chain, self._parameters.wall_clock())
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
        scheme, signature = parse_certificate_verify(message)
        content = CLIENT_SIGNATURE + self._schedule.transcript()
        verify(self._client_chain[0], scheme, signature, content)
        self._schedule.update(message)
        self._expect = MessageType.FINISHED

    def _complete(self) -> None:
        """Give a ticket, and say who the client is."""
        if self._client_chain:
            self.client_certificate = self._client_chain[0].public_bytes(Encoding.DER)
        if self._tickets is not None:
            self._give_ticket(self._tickets)

    def _give_ticket(self, tickets: TicketSealer) -> None:
        """Give a ticket, now that the client can acknowledge it (RFC 9001 section 4.5)."""
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
        ticket = tickets.seal(session)
        if ticket is not None:
            # No nonce, as there is one ticket.
            body = struct.pack("!IIB", TICKET_SECONDS, age_add, 0) + opaque(ticket, 2)
            body += opaque(MAX_EARLY_DATA if early is not None else b"", 2)
            self._send(APPLICATION, handshake_message(MessageType.NEW_SESSION_TICKET, body))

    def _now(self) -> float:
        return self._parameters.wall_clock().timestamp()
