"""Resumption with sealed tickets (RFC 8446 section 2.2): good at every worker, for who got it."""

import dataclasses
import datetime
from typing import Any

import pytest
from aioquic import tls
from aioquic.tls import SessionTicket

from spooky import _core
from spooky._core.quic.errors import TlsAlert
from spooky.protocol.quic.certificates import CertificateSelector, ClientVerifier
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.packet import VERSION_2
from spooky.protocol.quic.sealed_tickets import (
    TICKET_MAX,
    TICKET_SECONDS,
    Session,
    TicketSealer,
    ticket_sealer,
)
from spooky.protocol.quic.tickets import TicketStore
from tests.certificates import ca, client_leaf, leaf, now, shared_ca
from tests.protocol.quic.support import (
    chain_of,
    client_parameters,
    identity_of,
    server_parameters,
)
from tests.protocol.quic.tls_support import (
    Native,
    exchange,
    mirrored,
    native_client,
    native_server,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

KEYS = Keys(1, bytes(range(32)), (), bytes(32))
CLIENTS = ca("Client root")
REQUIRED = ClientVerifier([CLIENTS.certificate], required=True)
OPTIONAL = ClientVerifier([CLIENTS.certificate], required=False)
SESSION = Session(
    1,
    0x1301,
    bytes(32),
    1000.5,
    7,
    "example.test",
    "h3",
    bytes(range(16)),
    (b"leaf", b"issuer"),
    register_id=2**64 - 1,
    limits=(0, 128, 2**62 - 1),
)


def shake_hands(
    server: dict[str, Any], client: dict[str, Any], name: str = "example.test"
) -> tuple[Native, Native]:
    """Make a client and a server that gives tickets shake hands."""
    sides = (
        native_client(client_parameters(**client), name),
        native_server(server_parameters(**{"tickets": TicketStore(), "keys": KEYS} | server)),
    )
    exchange(*sides)
    assert sides[0].completed == sides[1].completed == 1
    assert mirrored(sides[0].secrets) == {*sides[1].secrets}
    assert sides[0].tls.resumed is sides[1].tls.resumed
    return sides


def ticket_of(name: str = "example.test", certificate: Any = None, **server: Any) -> SessionTicket:
    tickets: list[SessionTicket] = []
    client = {"on_ticket": tickets.append, "certificate": certificate}
    _, side = shake_hands(server, client, name)
    assert not side.tls.resumed
    (ticket,) = tickets
    return ticket


def resumes(ticket: SessionTicket, name: str = "example.test", **server: Any) -> bool:
    ticket = dataclasses.replace(ticket, server_name=name)
    return shake_hands(server, {"ticket": ticket}, name)[1].tls.resumed


class TestResumption:
    def test_another_worker_resumes(self) -> None:
        """It shares the keys, and nothing else."""
        ticket = ticket_of()
        ticket_sealer.cache_clear()
        assert resumes(ticket, keys=dataclasses.replace(KEYS))

    def test_a_resumed_handshake_gives_the_next_ticket(self) -> None:
        tickets: list[SessionTicket] = []
        shake_hands({}, {"ticket": ticket_of(), "on_ticket": tickets.append})
        assert resumes(tickets[0])

    @pytest.mark.parametrize("suite", [*tls.CIPHER_SUITES])
    def test_every_cipher_suite_resumes(self, suite: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spooky._core.quic.negotiation.CIPHER_SUITES", (suite,))
        ticket = ticket_of()
        assert ticket.cipher_suite == suite
        assert resumes(ticket)

    def test_a_session_of_another_cipher_suite_is_not_resumed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticket = ticket_of()
        monkeypatch.setattr("spooky._core.quic.negotiation.CIPHER_SUITES", (0x1302,))
        assert not resumes(ticket)

    def test_no_ticket_is_given_where_none_is_allowed(self) -> None:
        tickets: list[SessionTicket] = []
        shake_hands({"tickets": None}, {"on_ticket": tickets.append})
        assert tickets == []

    def test_a_ticket_is_not_resumed_where_none_is_allowed(self) -> None:
        assert not resumes(ticket_of(), tickets=None)

    def test_a_client_that_cannot_use_one_gets_none(self) -> None:
        """It has to name a key exchange mode (RFC 8446 section 4.2.9)."""
        _, server = shake_hands({}, {})
        assert server.take_output(2) == b""

    def test_keys_of_ones_own_do_where_none_are_shared(self) -> None:
        assert resumes(ticket_of(keys=None), keys=None)


class TestRotation:
    def test_the_previous_keys_still_open(self) -> None:
        assert resumes(ticket_of(), keys=KEYS.rotated(bytes([1]) * 32))

    def test_those_before_do_not(self) -> None:
        rotated = KEYS.rotated(bytes([1]) * 32).rotated(bytes([2]) * 32)
        assert not resumes(ticket_of(), keys=rotated)

    def test_the_new_keys_seal(self) -> None:
        rotated = KEYS.rotated(bytes([1]) * 32)
        ticket = ticket_of(keys=rotated)
        assert not resumes(ticket, keys=KEYS)
        assert resumes(ticket, keys=rotated.rotated(bytes([2]) * 32))

    @pytest.mark.parametrize(("age", "resumed"), [(-1, False), (0, True), (1, False)])
    def test_a_ticket_is_good_for_its_lifetime(self, age: int, resumed: bool) -> None:
        """One second before it was issued, at its end, and one second after that."""
        issued = now()
        ticket = ticket_of(wall_clock=lambda: issued.timestamp())
        seconds = -1 if age < 0 else TICKET_SECONDS + age
        later = issued + datetime.timedelta(seconds=seconds)
        assert resumes(ticket, wall_clock=lambda: later.timestamp()) is resumed


class TestBinding:
    def test_a_ticket_serves_at_its_listener_only(self) -> None:
        ticket = ticket_of(listener="one")
        assert resumes(ticket, listener="one")
        assert not resumes(ticket, listener="two")

    def test_a_ticket_serves_for_its_server_name_only(self) -> None:
        """Attack 32 (CVE-2025-23419): an identity must not cross to another host."""
        ticket = ticket_of("x.example.test")
        assert resumes(ticket, "x.example.test")
        assert not resumes(ticket, "y.example.test")

    def test_a_ticket_without_a_name_serves_for_none_only(self) -> None:
        identity = identity_of(leaf(["192.0.2.7", "example.test"], shared_ca()))
        more = {"certificates": CertificateSelector({}, identity)}
        trusting = {"authorities": shared_ca().certificate_pem}
        tickets: list[SessionTicket] = []
        shake_hands(more, trusting | {"on_ticket": tickets.append}, "192.0.2.7")
        named = dataclasses.replace(tickets[0], server_name="example.test")
        assert not shake_hands(more, trusting | {"ticket": named})[1].tls.resumed
        assert shake_hands(more, {"ticket": tickets[0]}, "192.0.2.7")[1].tls.resumed

    def test_a_ticket_serves_for_its_protocol_only(self) -> None:
        ticket = ticket_of()
        client = {"ticket": ticket, "alpn": ("hq-interop",)}
        _, server = shake_hands({"alpn": ("h3", "hq-interop")}, client)
        assert not server.tls.resumed

    def test_a_ticket_serves_in_its_version_of_quic_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9369 section 5."""
        ticket = ticket_of()
        assert resumes(ticket)
        monkeypatch.setattr(Native, "version", VERSION_2)
        assert not resumes(ticket)

    def test_a_client_offers_a_ticket_to_its_server_only(self) -> None:
        """RFC 8446 section 4.6.1."""
        client = {"ticket": ticket_of("x.example.test")}
        assert not shake_hands({}, client, "y.example.test")[1].tls.resumed

    def test_a_forged_binder_is_refused(self) -> None:
        """The ticket alone could have been seen."""
        forged = dataclasses.replace(ticket_of(), resumption_secret=bytes(32))
        with pytest.raises(TlsAlert) as caught:
            resumes(forged)
        assert caught.value.alert == tls.AlertDescription.decrypt_error

    @pytest.mark.parametrize("at", [0, 12, 40, -1])
    def test_a_changed_ticket_resumes_nothing(self, at: int) -> None:
        ticket = ticket_of()
        changed = bytearray(ticket.ticket)
        changed[at] ^= 1
        assert not resumes(dataclasses.replace(ticket, ticket=bytes(changed)))


class TestClientIdentity:
    def test_a_verified_client_is_who_it_was(self) -> None:
        alice = client_leaf("alice", ca("Client intermediate", issuer=CLIENTS))
        ticket = ticket_of(certificate=chain_of(alice), client_verifier=REQUIRED)
        for _ in range(2):
            tickets: list[SessionTicket] = []
            client = {"ticket": ticket, "on_ticket": tickets.append}
            _, server = shake_hands({"client_verifier": REQUIRED}, client)
            assert server.tls.resumed
            assert server.tls.client_certificate == alice.der
            ticket = tickets[0]

    @pytest.mark.parametrize(
        "later",
        [
            {"client_verifier": ClientVerifier([ca("New root").certificate], required=False)},
            {
                "client_verifier": OPTIONAL,
                "wall_clock": lambda: (now() + datetime.timedelta(hours=23)).timestamp(),
            },
        ],
        ids=["authority changed", "certificate expired"],
    )
    def test_a_client_is_verified_again(self, later: dict[str, Any]) -> None:
        soon = now() + datetime.timedelta(hours=22)
        alice = chain_of(client_leaf("alice", CLIENTS, not_after=soon))
        ticket = ticket_of(certificate=alice, client_verifier=OPTIONAL)
        assert resumes(ticket, client_verifier=OPTIONAL)
        assert not resumes(ticket, **later)

    def test_a_client_nobody_verified_cannot_resume_where_one_is_required(self) -> None:
        with pytest.raises(TlsAlert) as caught:
            resumes(ticket_of(), client_verifier=REQUIRED)
        assert caught.value.alert == tls.AlertDescription.certificate_required

    def test_an_anonymous_client_resumes_where_one_is_optional(self) -> None:
        ticket = ticket_of(client_verifier=OPTIONAL)
        _, server = shake_hands({"client_verifier": OPTIONAL}, {"ticket": ticket})
        assert server.tls.resumed
        assert server.tls.client_certificate is None

    @pytest.mark.parametrize("later", [None, ClientVerifier([CLIENTS.certificate], required=False)])
    def test_a_ticket_serves_for_what_its_client_was_asked_only(
        self, later: ClientVerifier | None
    ) -> None:
        """Attack 32: nor does one that had none to show go on where it could show one."""
        alice = chain_of(client_leaf("alice", CLIENTS))
        ticket = ticket_of(certificate=alice, client_verifier=REQUIRED)
        assert resumes(ticket, client_verifier=REQUIRED)
        _, server = shake_hands({"client_verifier": later}, {"ticket": ticket})
        assert not server.tls.resumed
        assert server.tls.client_certificate is None
        assert not resumes(ticket_of(), client_verifier=OPTIONAL)


class TestSealer:
    def test_what_is_sealed_is_opened(self) -> None:
        ticket = TicketSealer(KEYS, "one").seal(SESSION)
        assert ticket is not None
        assert TicketSealer(KEYS, "one").open(ticket) == SESSION
        nameless = dataclasses.replace(SESSION, server_name=None, client_chain=())
        ticket = TicketSealer(KEYS, "one").seal(nameless)
        assert ticket is not None
        assert TicketSealer(KEYS, "one").open(ticket) == nameless

    def test_who_knows_what_is_kept_on_disk_cannot_be_a_client_that_showed_a_certificate(
        self,
    ) -> None:
        """Nor is such a session resumed after a restart, which has other keys for it."""
        restarted = dataclasses.replace(KEYS, unkept=bytes(32))
        ticket = TicketSealer(KEYS, "one").seal(SESSION)
        assert ticket is not None
        assert TicketSealer(restarted, "one").open(ticket) is None
        forger = TicketSealer(restarted, "one")
        forger._sealers_of_known = forger._sealers
        forged = forger.seal(SESSION)
        assert forged is not None
        assert TicketSealer(KEYS, "one").open(forged) is None
        nameless = dataclasses.replace(SESSION, client_chain=())
        ticket = TicketSealer(KEYS, "one").seal(nameless)
        assert ticket is not None
        assert TicketSealer(restarted, "one").open(ticket) == nameless

    def test_the_secret_is_not_to_be_seen(self) -> None:
        secret = bytes(range(32))
        ticket = TicketSealer(KEYS, "").seal(dataclasses.replace(SESSION, secret=secret))
        assert ticket is not None
        assert secret[:8] not in ticket
        assert b"example" not in ticket

    @pytest.mark.parametrize("length", [0, 1, 11, 12, 28, 64])
    def test_what_is_none_opens_as_none(self, length: int) -> None:
        assert TicketSealer(KEYS, "").open(bytes(length)) is None

    def test_a_client_with_too_large_a_chain_gets_none(self) -> None:
        """It would come back in every first flight."""
        large = dataclasses.replace(SESSION, client_chain=(bytes(TICKET_MAX),))
        assert TicketSealer(KEYS, "").seal(large) is None

    def test_a_ticket_of_another_format_opens_as_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sealer = TicketSealer(KEYS, "")
        monkeypatch.setattr("spooky.protocol.quic.sealed_tickets.FORMAT", 2)
        ticket = sealer.seal(SESSION)
        monkeypatch.undo()
        assert ticket is not None
        assert sealer.open(ticket) is None
