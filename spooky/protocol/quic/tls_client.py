"""The client's side of TLS 1.3 (RFC 8446): what is decided of it, and what is rare.

Only (EC)DHE is offered, and a share of the preferred group is brought: a server that wants another
says so (HelloRetryRequest), once. Sessions are resumed with the tickets that aioquic's client would
keep, so that either engine can use them.
"""

import datetime
import ipaddress
from functools import lru_cache
from typing import Any, Final

from aioquic.tls import CipherSuite, SessionTicket

from spooky._core.quic.client_handshake import ClientHandshake, ClientOffer
from spooky._core.quic.errors import Alert, TlsAlert
from spooky._core.quic.key_schedule import KeySchedule
from spooky._core.quic.negotiation import CIPHER_SUITES, sign
from spooky.protocol.quic.early_data import AGE_MODULUS
from spooky.protocol.quic.key_exchange import GROUPS, X25519
from spooky.protocol.quic.parameters import ClientParameters, date_at
from spooky.protocol.quic.sealed_tickets import TICKET_MAX
from spooky.protocol.quic.server_verifier import (
    ServerCertificateError,
    ServerCertificateFault,
    verifier_of,
)
from spooky.protocol.quic.signatures import (
    CLIENT_CONTENT,
    HANDSHAKE_SCHEMES,
    SCHEMES,
    SERVER_CONTENT,
    verify,
)
from spooky.protocol.quic.tls_endpoint import EARLY, QUIC_TRANSPORT_PARAMETERS, TlsEvents
from spooky.protocol.quic.tls_messages import (
    Extension,
    MessageType,
    certificate_message,
    handshake_message,
    load_certificates,
    opaque,
)

TLS_1_3: Final = 0x0304
PSK_DHE_KE: Final = b"\x01"
"""The mode that keeps forward secrecy, alone (RFC 8446 section 4.2.9)."""

ALL_GROUPS: Final = (X25519, *GROUPS)

TICKET_DAYS_MAX: Final = datetime.timedelta(days=7)
"""How long a ticket is kept at most, whatever the server says (RFC 8446 section 4.6.1)."""

EARLY_DATA_SIZE: Final = 0xFFFFFFFF
"""What a ticket that allows 0-RTT data says in QUIC (RFC 9001 section 4.6.1)."""

FAULT_ALERTS: Final[dict[ServerCertificateFault, Alert]] = {
    ServerCertificateFault.EXPIRED: Alert.CERTIFICATE_EXPIRED,
    ServerCertificateFault.PURPOSE: Alert.UNSUPPORTED_CERTIFICATE,
    ServerCertificateFault.WEAK: Alert.BAD_CERTIFICATE,
    ServerCertificateFault.UNTRUSTED: Alert.UNKNOWN_CA,
    ServerCertificateFault.NAME: Alert.BAD_CERTIFICATE,
    ServerCertificateFault.MALFORMED: Alert.BAD_CERTIFICATE,
}


class ClientTls(ClientHandshake):
    """The client's side of a handshake."""

    __slots__ = ()

    _events: TlsEvents
    _parameters: ClientParameters
    _ticket: SessionTicket | None

    def __init__(self, parameters: ClientParameters, server_name: str, events: TlsEvents) -> None:
        keeps_tickets = parameters.on_ticket is not None
        offer = _offer(
            server_name,
            parameters.alpn,
            parameters.groups or ALL_GROUPS,
            keeps_tickets or parameters.ticket is not None,
            CIPHER_SUITES,
        )
        judges = parameters.verify or parameters.verifier is not None
        super().__init__(offer, parameters, server_name, events, judges, keeps_tickets)

    # --- the hello ------------------------------------------------------------------------------

    def start(self, own_parameters: bytes) -> None:
        """Say the hello."""
        if self._parameters.ticket is None:
            super().start(own_parameters)
            return
        now = self._now()
        self._ticket = self._ticket_to_offer(self._parameters.ticket, now)
        if self._ticket is None:
            super().start(own_parameters)
            return
        self._own_parameters = own_parameters
        self._make_share(self._offer.groups[0])
        promised = _promised(self._ticket)
        early_data = (
            self._parameters.early_data
            and self._ticket.max_early_data_size is not None
            and promised is not None
        )
        binding = self._offer_ticket(self._ticket, now, early_data, None)
        if early_data and promised is not None:
            self.early_data = False  # Until the server says that it takes it.
            secret = binding.derive(b"c e traffic")
            self._tell_secret(True, EARLY, binding.cipher_suite, secret)
            self._events.remember_parameters(promised)

    def _ticket_to_offer(
        self, ticket: SessionTicket, now: datetime.datetime
    ) -> SessionTicket | None:
        """Return a ticket, if its session may be resumed here and now."""
        is_fit = (
            ticket.server_name == self._requested_name
            and ticket.cipher_suite in self._offer.cipher_suites
            and ticket.not_valid_before <= now <= ticket.not_valid_after
        )
        return ticket if is_fit else None

    def _offer_ticket(
        self, ticket: SessionTicket, now: datetime.datetime, early_data: bool, cookie: bytes | None
    ) -> KeySchedule:
        age = int((now - ticket.not_valid_before).total_seconds() * 1000)
        binding = KeySchedule(ticket.cipher_suite, ticket.resumption_secret)
        obfuscated = (age + ticket.age_add) % AGE_MODULUS
        self._say_hello(ticket.ticket, obfuscated, binding, early_data, cookie)
        return binding

    def _on_retry(self, cipher_suite: int, group: int, cookie: bytes | None) -> None:
        if self.early_data is not None:
            # There is none after a second hello (RFC 8446 section 4.1.2).
            self._events.on_early_data_refused()
        if group:
            self._make_share(group)
        ticket = self._ticket
        if ticket is not None and _hash_of(ticket.cipher_suite) == _hash_of(cipher_suite):
            self._offer_ticket(ticket, self._now(), False, cookie)
        else:
            self._say_hello(None, 0, None, False, cookie)

    def _new_key(self, group: int) -> tuple[Any, bytes]:
        key = GROUPS[group].generate()
        return key, GROUPS[group].share(key)

    def _exchange(self, group: int, key: Any, peer: bytes) -> bytes:
        return GROUPS[group].exchange(key, peer)

    # --- the server's flight --------------------------------------------------------------------

    def _on_early_data(self) -> None:
        """Refuse what no server may take: its session is another (RFC 8446 section 4.2.10)."""
        ticket = self._ticket
        if not self.resumed or ticket is None or ticket.cipher_suite != self._schedule.cipher_suite:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "early data taken in another session")
        protocol = dict(ticket.other_extensions).get(Extension.ALPN)
        if protocol is not None and protocol != self.alpn.encode():
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "early data taken for another protocol")

    def _on_chain(self, certificates: list[bytes]) -> None:
        self._chain = load_certificates(certificates)

    def _on_proof(self, scheme: int, signature: bytes, transcript: bytes) -> None:
        verify(self._chain[0], scheme, signature, SERVER_CONTENT + transcript)
        parameters = self._parameters
        at = date_at(parameters.wall_clock())
        try:
            if parameters.verify:
                verifier_of(parameters.authorities).verify(self._chain, self._requested_name, at)
            if parameters.verifier is not None:
                parameters.verifier.verify(self._chain, self._requested_name, at)
        except ServerCertificateError as error:
            raise TlsAlert(FAULT_ALERTS[error.fault], str(error)) from error

    def _present(self) -> bytes:
        """Show our certificate, or that there is none which the server can verify."""
        chain = self._parameters.certificate
        schedule = self._schedule
        asked = self._requested or ()
        fitting = [scheme for scheme in chain.schemes if scheme in asked] if chain else []
        if chain is None or not fitting:
            none = certificate_message([])
            schedule.update(none)
            return none
        schedule.update(chain.message)
        signature = sign(chain, fitting[0], CLIENT_CONTENT + schedule.transcript())
        proof = handshake_message(
            MessageType.CERTIFICATE_VERIFY, fitting[0].to_bytes(2, "big") + opaque(signature, 2)
        )
        schedule.update(proof)
        return chain.message + proof

    # --- tickets --------------------------------------------------------------------------------

    def _keep_ticket(
        self, lifetime: int, age_add: int, nonce: bytes, ticket: bytes, early_data: bool
    ) -> None:
        on_ticket = self._parameters.on_ticket
        if on_ticket is None or not lifetime or len(ticket) > TICKET_MAX:
            # Zero says that it is to be let go of at once; and it has to fit a hello.
            return
        now = self._now()
        kept = SessionTicket(
            age_add=age_add,
            cipher_suite=CipherSuite(self._schedule.cipher_suite),
            not_valid_after=now + min(datetime.timedelta(seconds=lifetime), TICKET_DAYS_MAX),
            not_valid_before=now,
            resumption_secret=self._schedule.resumption_secret(nonce),
            server_name=self._requested_name,
            ticket=ticket,
            max_early_data_size=EARLY_DATA_SIZE if early_data else None,
            other_extensions=[
                (QUIC_TRANSPORT_PARAMETERS, self._peer_parameters or b""),
                (Extension.ALPN, self.alpn.encode()),
            ],
        )
        on_ticket(kept)

    def _now(self) -> datetime.datetime:
        return date_at(self._parameters.wall_clock())


def _promised(ticket: SessionTicket) -> bytes | None:
    """Return the transport parameters that 0-RTT data has to keep to."""
    return dict(ticket.other_extensions).get(QUIC_TRANSPORT_PARAMETERS)


def _hash_of(cipher_suite: int) -> int:
    return KeySchedule(cipher_suite).hash_length


@lru_cache(maxsize=256)
def _offer(
    server_name: str,
    alpn: tuple[str, ...],
    groups: tuple[int, ...],
    resumes: bool,
    cipher_suites: tuple[int, ...],
) -> ClientOffer:
    """Return what all hellos to a server say; they are encoded once.

    Raises:
        ValueError: A group is none of ours.
    """
    if not set(groups) <= set(ALL_GROUPS):
        raise ValueError(f"unknown groups of the key exchange: {set(groups) - set(ALL_GROUPS)}")
    extensions: dict[int, bytes] = {
        Extension.SUPPORTED_GROUPS: opaque(_numbers(groups), 2),
        Extension.SIGNATURE_ALGORITHMS: opaque(_numbers(SCHEMES), 2),
        Extension.ALPN: opaque(b"".join(opaque(each.encode(), 1) for each in alpn), 2),
        Extension.SUPPORTED_VERSIONS: opaque(_numbers((TLS_1_3,)), 1),
    }
    if not _is_address(server_name):
        # One name, of the type that all names have, without its last dot (RFC 6066 section 3).
        name = b"\0" + opaque(server_name.removesuffix(".").encode("ascii"), 2)
        extensions[Extension.SERVER_NAME] = opaque(name, 2)
    if resumes:
        extensions[Extension.PSK_KEY_EXCHANGE_MODES] = opaque(PSK_DHE_KE, 1)
    return ClientOffer(cipher_suites, groups, tuple(HANDSHAKE_SCHEMES), alpn, extensions)


def _numbers(numbers: tuple[int, ...]) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def _is_address(server_name: str) -> bool:
    try:
        ipaddress.ip_address(server_name)
    except ValueError:
        return False
    return True
