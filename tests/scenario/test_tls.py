"""Handshakes: names, certificates of both sides, resumption (RFC 8446, RFC 9001)."""

import dataclasses
import datetime

import pytest
from aioquic.tls import AlertDescription, SessionTicket
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from spooky.protocol.quic.certificates import CertificateSelector, ClientVerifier
from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.session import Close, Handshake
from spooky.protocol.quic.tickets import TicketStore
from tests.certificates import (
    SERVER_AUTH,
    Credentials,
    PrivateKey,
    ca,
    client_leaf,
    expired,
    expired_client,
    leaf,
    now,
    shared_ca,
)
from tests.protocol.quic.support import (
    chain_of,
    identity_of,
    open_stream,
    upload,
)
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import SERVER, Link

CRYPTO_ERROR = 0x100

"""Alerts are QUIC errors from here on (RFC 9001 section 4.8)."""

TRUSTED = shared_ca().certificate_pem

A = leaf(["a.test"], shared_ca())

WILDCARD = leaf(["*.a.test"], shared_ca())

DEFAULT = leaf(["default.test"], shared_ca())

SELECTOR = {"a.test": identity_of(A), "*.a.test": identity_of(WILDCARD)}

CLIENTS = ca("Client root")

CLIENT_INTERMEDIATE = ca("Client intermediate", issuer=CLIENTS)


def shown(pair: Scenario) -> bytes:
    """Return the certificate the client saw."""
    certificate = pair.client._quic.tls._peer_certificate
    assert certificate is not None
    return certificate.fingerprint(hashes.SHA256())


def fingerprint(credentials: Credentials) -> bytes:
    return credentials.certificate.fingerprint(hashes.SHA256())


def refused(pair: Scenario, alert: AlertDescription) -> tuple[Close, Close]:
    """Expect the server to end the handshake with an alert that reaches the client."""
    theirs, ours = pair.closed()
    assert ours.error_code == theirs.error_code == CRYPTO_ERROR + alert
    assert not ours.is_application
    assert not ours.by_peer
    assert theirs.by_peer
    assert pair.server_handler.handshake is None
    return theirs, ours


class TestServerName:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a.test", A),
            ("A.TEST", A),
            ("x.a.test", WILDCARD),
            ("x.y.a.test", DEFAULT),
            ("b.test", DEFAULT),
            ("192.0.2.7", DEFAULT),  # Not sent as a name (RFC 6066 section 3).
        ],
    )
    def test_it_chooses_the_certificate(
        self, engine: Engine, name: str, expected: Credentials
    ) -> None:
        pair = Scenario(
            (AIOQUIC, engine),
            server={"certificates": CertificateSelector(SELECTOR, identity_of(DEFAULT))},
            client={"verify": False},
            server_name=name,
        ).handshake()
        assert shown(pair) == fingerprint(expected)
        handshake = pair.server_handler.handshake
        assert handshake is not None
        assert handshake.server_name == (None if name[0].isdigit() else name.lower())

    @pytest.mark.parametrize(
        ("name", "accepted"), [("x.a.test", True), ("b.test", False), ("192.0.2.7", False)]
    )
    def test_it_may_be_strict(self, engine: Engine, name: str, accepted: bool) -> None:
        """unrecognized_name (RFC 6066 section 3)."""
        selector = CertificateSelector(SELECTOR, identity_of(DEFAULT), strict=True)
        pair = Scenario(
            (AIOQUIC, engine),
            server={"certificates": selector},
            client={"verify": False},
            server_name=name,
        )
        if accepted:
            pair.handshake()
        else:
            refused(pair, AlertDescription.unrecognized_name)

    def test_a_hello_spread_over_many_initials_is_put_together(self, engine: Engine) -> None:
        """Post-quantum hellos do not fit one datagram (mitmproxy#7869)."""
        pair = Scenario(
            (AIOQUIC, engine),
            3,
            link=Link(jitter=0.01),
            server={"certificates": CertificateSelector(SELECTOR, identity_of(DEFAULT))},
            client={"verify": False},
            server_name="a.test",
        )
        quic = pair.client._quic
        serialize = quic._serialize_transport_parameters
        filler = b"\x7f\xff\x48\x00" + bytes(0x800)  # An unknown parameter of 2 KiB.
        quic._serialize_transport_parameters = lambda: serialize() + filler  # type: ignore[method-assign]
        quic._connect(pair.network.now)
        pair.handshake()
        assert shown(pair) == fingerprint(A)


class TestApplicationProtocol:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_mismatch_is_a_clean_alert(self, engine: Engine, seed: int) -> None:
        """RFC 9001 section 8.1."""
        pair = Scenario(
            (AIOQUIC, engine), seed, link=Link(loss=0.1), client={"alpn": ("hq-interop", "h2")}
        )
        refused(pair, AlertDescription.no_application_protocol)

    def test_the_servers_order_counts(self, engine: Engine) -> None:
        pair = Scenario(
            (AIOQUIC, engine),
            server={"alpn": ("h3", "hq-interop")},
            client={"alpn": ("hq-interop", "h3")},
        ).handshake()
        assert pair.client_handler.handshake is not None
        assert pair.client_handler.handshake.alpn == "h3"


class TestServerCertificate:
    """What a client of ours accepts."""

    @pytest.mark.parametrize(
        "served",
        [leaf(["other.test"], shared_ca()), expired(["example.test"], shared_ca())],
        ids=["another name", "expired"],
    )
    def test_it_must_be_right(self, engines: Engines, served: Credentials) -> None:
        selector = CertificateSelector({}, identity_of(served))
        pair = Scenario(
            engines,
            server={"certificates": selector},
            client={"authorities": TRUSTED},
        )
        ours, theirs = pair.closed()
        assert CRYPTO_ERROR <= ours.error_code < CRYPTO_ERROR + 256
        assert not ours.by_peer
        assert theirs.by_peer

    def test_it_must_come_from_a_trusted_authority(self, engines: Engines) -> None:
        ours, _ = Scenario(engines, client={"authorities": TRUSTED}).closed()
        is_aioquic = engines[0] is AIOQUIC
        alert = AlertDescription.bad_certificate if is_aioquic else AlertDescription.unknown_ca
        assert ours.error_code == CRYPTO_ERROR + alert

    def test_a_long_reason_does_not_break_the_close(self, engine: Engine) -> None:
        """aioquic fails on a reason phrase that exceeds its packet; a certificate can cause it."""
        names = [f"{number}.{'x' * 50}.test" for number in range(60)]
        selector = CertificateSelector({}, identity_of(leaf(names, shared_ca())))
        pair = Scenario(
            (AIOQUIC, engine),
            server={"certificates": selector},
            client={"authorities": TRUSTED},
        )
        ours, theirs = pair.closed()
        assert len(ours.phrase) == 256
        assert theirs.phrase == ours.phrase or theirs.phrase == ""

    def test_verification_can_be_waived(self, engines: Engines) -> None:
        selector = CertificateSelector({}, identity_of(leaf(["other.test"], None)))
        Scenario(engines, server={"certificates": selector}, client={"verify": False}).handshake()

    def test_a_large_chain_waits_for_the_clients_address(self, engines: Engines) -> None:
        """Attack 15: three times what came, until the address is proven (RFC 9000 section 8.1)."""
        large = leaf(["example.test"], shared_ca(), padding=12_000)
        pair = Scenario(
            engines,
            server={"certificates": CertificateSelector({}, identity_of(large))},
            client={"authorities": TRUSTED},
        )
        pair.network.drop = lambda source, payload: source == SERVER
        pair.run(seconds=5)
        from_client = sum(len(p) for _, source, _, p in pair.network.sent if source != SERVER)
        from_server = sum(len(p) for _, source, _, p in pair.network.sent if source == SERVER)
        assert 2 * from_client < from_server <= 3 * from_client
        pair.network.drop = lambda source, payload: False
        pair.handshake()


class TestClientCertificate:
    REQUIRED = ClientVerifier([CLIENTS.certificate], required=True)

    OPTIONAL = ClientVerifier([CLIENTS.certificate], required=False)

    def pair(
        self, engine: Engine, verifier: ClientVerifier, client: Credentials | None
    ) -> Scenario:
        return Scenario(
            (AIOQUIC, engine),
            server={"client_verifier": verifier},
            client={"certificate": chain_of(client) if client else None},
        )

    @pytest.mark.parametrize("issuer", [CLIENTS, CLIENT_INTERMEDIATE], ids=["root", "intermediate"])
    @pytest.mark.parametrize("verifier", [REQUIRED, OPTIONAL], ids=["required", "optional"])
    def test_a_good_one_is_accepted_and_reported(
        self, engine: Engine, verifier: ClientVerifier, issuer: Credentials
    ) -> None:
        client = client_leaf("alice", issuer)
        pair = self.pair(engine, verifier, client).handshake()
        assert pair.server_handler.handshake is not None
        assert pair.server_handler.handshake.client_certificate == client.der

    @pytest.mark.parametrize("verifier", [REQUIRED, OPTIONAL], ids=["required", "optional"])
    @pytest.mark.parametrize(
        ("client", "alert"),
        [
            (client_leaf("mallory", ca("Other root")), AlertDescription.unknown_ca),
            (client_leaf("mallory", ca("Client root")), AlertDescription.unknown_ca),
            (client_leaf("mallory", None), AlertDescription.unknown_ca),
            (expired_client("alice", CLIENTS), AlertDescription.certificate_expired),
            (
                client_leaf("server", CLIENTS, purposes=(SERVER_AUTH,)),
                AlertDescription.unsupported_certificate,
            ),
        ],
        ids=["wrong authority", "namesake authority", "self-signed", "expired", "serverAuth only"],
    )
    def test_a_bad_one_is_refused(
        self, engine: Engine, verifier: ClientVerifier, client: Credentials, alert: AlertDescription
    ) -> None:
        refused(self.pair(engine, verifier, client), alert)

    def test_a_missing_one_is_refused_if_required(self, engine: Engine) -> None:
        """certificate_required (RFC 8446 section 4.4.2.4)."""
        refused(self.pair(engine, self.REQUIRED, None), AlertDescription.certificate_required)

    def test_a_missing_one_is_nobody_if_optional(self, engine: Engine) -> None:
        pair = self.pair(engine, self.OPTIONAL, None).handshake()
        assert pair.server_handler.handshake is not None
        assert pair.server_handler.handshake.client_certificate is None

    def test_one_without_its_key_is_refused(self, engine: Engine) -> None:
        """decrypt_error (RFC 8446 section 4.4.3): the certificate alone is public."""
        alice = client_leaf("alice", CLIENTS)
        pair = self.pair(engine, self.REQUIRED, alice)
        pair.client._quic.tls.certificate_private_key = client_leaf("mallory", CLIENTS).key  # type: ignore[assignment]
        refused(pair, AlertDescription.decrypt_error)

    def test_one_nobody_asked_for_is_not_sent(self, engine: Engine) -> None:
        alice = chain_of(client_leaf("alice", CLIENTS))
        pair = Scenario((AIOQUIC, engine), client={"certificate": alice}).handshake()
        assert pair.server_handler.handshake is not None
        assert pair.server_handler.handshake.client_certificate is None

    def test_dates_are_those_of_the_wall_clock_given(self, engine: Engine) -> None:
        late = now() + datetime.timedelta(days=40)
        pair = Scenario(
            (AIOQUIC, engine),
            server={"client_verifier": self.REQUIRED, "wall_clock": lambda: late.timestamp()},
            client={"certificate": chain_of(client_leaf("alice", CLIENTS))},
        )
        refused(pair, AlertDescription.certificate_expired)


class TestResumption:
    """RFC 8446 section 2.2, with tickets that work once, and never 0-RTT (attack 23)."""

    REQUIRED = TestClientCertificate.REQUIRED

    def ticket(
        self, engine: Engine, store: TicketStore, name: str = "example.test", **more: object
    ) -> SessionTicket:
        """Shake hands once and return the ticket the client got."""
        tickets: list[SessionTicket] = []
        certificate = more.pop("certificate", None)
        pair = Scenario(
            (AIOQUIC, engine),
            server=dict(tickets=store, **more),
            client={"on_ticket": tickets.append, "certificate": certificate},
            server_name=name,
        ).handshake()
        assert pair.server_handler.handshake is not None
        assert not pair.server_handler.handshake.resumed
        assert len(tickets) == 1
        return tickets[0]

    def resume(
        self,
        engine: Engine,
        store: TicketStore,
        ticket: SessionTicket,
        name: str = "example.test",
        **more: object,
    ) -> Handshake:
        certificate = more.pop("certificate", None)
        pair = Scenario(
            (AIOQUIC, engine),
            server=dict(tickets=store, **more),
            client={"ticket": ticket, "certificate": certificate},
            server_name=name,
        ).handshake()
        ours, theirs = pair.client_handler.handshake, pair.server_handler.handshake
        assert ours is not None
        assert theirs is not None
        assert ours.resumed is theirs.resumed
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, b"works")
        assert pair.run(lambda: stream in pair.server_handler.ended)
        return theirs

    @pytest.mark.needs(Feature.ONE_TIME_TICKETS)
    def test_a_ticket_resumes_once(self, engine: Engine) -> None:
        store = TicketStore()
        ticket = self.ticket(engine, store)
        assert self.resume(engine, store, ticket).resumed
        assert not self.resume(engine, store, ticket).resumed

    def test_no_store_means_no_tickets(self, engine: Engine) -> None:
        tickets: list[SessionTicket] = []
        Scenario((AIOQUIC, engine), client={"on_ticket": tickets.append}).handshake()
        assert tickets == []

    def test_a_ticket_serves_for_its_server_name_only(self, engine: Engine) -> None:
        """Attack 32 (CVE-2025-23419): an identity must not cross to another host."""
        store = TicketStore()
        ticket = self.ticket(engine, store, "x.example.test")
        moved = dataclasses.replace(ticket, server_name="y.example.test")
        assert not self.resume(engine, store, moved, "y.example.test").resumed
        assert self.resume(
            engine, store, self.ticket(engine, store, "x.example.test"), "x.example.test"
        ).resumed

    def test_early_data_is_neither_allowed_nor_taken(self, engine: Engine) -> None:
        store = TicketStore()
        ticket = self.ticket(engine, store)
        assert ticket.max_early_data_size is None
        pair = Scenario((AIOQUIC, engine), server={"tickets": store}, client={})
        # A client that offers early data all the same; aioquic would take it.
        bold = dataclasses.replace(ticket, max_early_data_size=0xFFFFFFFF)
        pair.client._quic._configuration.session_ticket = bold
        pair.client._quic._connect(pair.network.now)
        pair.handshake()
        assert not pair.client._quic.tls.early_data_accepted

    def test_our_client_offers_none_even_if_it_may(self, engine: Engine) -> None:
        store = TicketStore()
        bold = dataclasses.replace(self.ticket(engine, store), max_early_data_size=0xFFFFFFFF)
        assert self.resume(engine, store, bold).resumed

    def test_a_verified_client_is_who_it_was(self, engine: Engine) -> None:
        store = TicketStore()
        alice = client_leaf("alice", CLIENTS)
        more = {"client_verifier": self.REQUIRED}
        ticket = self.ticket(engine, store, certificate=chain_of(alice), **more)
        handshake = self.resume(engine, store, ticket, **more)
        assert handshake.resumed
        assert handshake.client_certificate == alice.der

    def test_its_next_ticket_inherits_who_it_is(self, engine: Engine) -> None:
        store, tickets = TicketStore(), list[SessionTicket]()
        alice = client_leaf("alice", CLIENTS)
        more = {"client_verifier": self.REQUIRED}
        first = self.ticket(engine, store, certificate=chain_of(alice), **more)
        Scenario(
            (AIOQUIC, engine),
            server=dict(tickets=store, **more),
            client={"ticket": first, "on_ticket": tickets.append},
        ).handshake()
        handshake = self.resume(engine, store, tickets[0], **more)
        assert handshake.resumed
        assert handshake.client_certificate == alice.der

    def test_a_client_without_certificate_cannot_resume_where_one_is_required(
        self, engine: Engine
    ) -> None:
        store = TicketStore()
        anonymous = self.ticket(engine, store)
        pair = Scenario(
            (AIOQUIC, engine),
            server={"tickets": store, "client_verifier": self.REQUIRED},
            client={"ticket": anonymous},
        )
        refused(pair, AlertDescription.certificate_required)

    def test_an_anonymous_client_resumes_where_one_is_optional(self, engine: Engine) -> None:
        store = TicketStore()
        more = {"client_verifier": TestClientCertificate.OPTIONAL}
        handshake = self.resume(engine, store, self.ticket(engine, store, **more), **more)
        assert handshake.resumed
        assert handshake.client_certificate is None

    @pytest.mark.parametrize(
        "later",
        [
            {"client_verifier": ClientVerifier([ca("New root").certificate], required=True)},
            {
                "client_verifier": REQUIRED,
                "wall_clock": lambda: (now() + datetime.timedelta(days=40)).timestamp(),
            },
        ],
        ids=["authority changed", "certificate expired"],
    )
    def test_a_client_is_verified_again(self, engine: Engine, later: dict[str, object]) -> None:
        store = TicketStore()
        alice = chain_of(client_leaf("alice", CLIENTS))
        ticket = self.ticket(engine, store, certificate=alice, client_verifier=self.REQUIRED)
        pair = Scenario(
            (AIOQUIC, engine),
            server=dict(tickets=store, **later),
            client={"ticket": ticket},
        )
        refused(pair, AlertDescription.certificate_required)

    def test_a_ticket_serves_for_what_its_client_was_asked_only(self, engine: Engine) -> None:
        """Attack 32: nor does one that had none to show go on where it could show one."""
        store = TicketStore()
        alice = chain_of(client_leaf("alice", CLIENTS))
        ticket = self.ticket(engine, store, certificate=alice, client_verifier=self.REQUIRED)
        handshake = self.resume(engine, store, ticket)
        assert not handshake.resumed
        assert handshake.client_certificate is None
        more = {"client_verifier": TestClientCertificate.OPTIONAL}
        assert not self.resume(engine, store, self.ticket(engine, store), **more).resumed

    def test_a_forged_binder_is_refused(self, engine: Engine) -> None:
        store = TicketStore()
        ticket = self.ticket(engine, store)
        forged = dataclasses.replace(ticket, resumption_secret=bytes(48))
        pair = Scenario((AIOQUIC, engine), server={"tickets": store}, client={"ticket": forged})
        # RFC 8446 section 6.2 names binders; aioquic answers what it does to all it cannot take.
        is_aioquic = engine is AIOQUIC
        refused(
            pair,
            AlertDescription.handshake_failure if is_aioquic else AlertDescription.decrypt_error,
        )

    @pytest.mark.needs(Feature.ONE_TIME_TICKETS)
    def test_the_store_forgets_the_oldest(self, engine: Engine) -> None:
        store = TicketStore(capacity=2)
        tickets = [self.ticket(engine, store) for _ in range(3)]
        assert len(store) == 2
        assert not self.resume(engine, store, tickets[0]).resumed
        assert self.resume(engine, store, tickets[2]).resumed


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "Ed25519", "RSA"],
)
def test_certificates_of_every_usual_key_type_work(engine: Engine, key: PrivateKey) -> None:
    served = leaf(["example.test"], shared_ca(), key=key)
    client = client_leaf("alice", CLIENTS)
    pair = Scenario(
        (AIOQUIC, engine),
        server={
            "certificates": CertificateSelector(
                {}, identity_of(served, TestClientCertificate.REQUIRED)
            ),
        },
        client={"authorities": TRUSTED, "certificate": chain_of(client)},
    ).handshake()
    assert shown(pair) == fingerprint(served)
