"""A client without QUIC and a server of tests: hellos, second hellos, certificates, tickets."""

import dataclasses
import datetime
from typing import Any

import pytest
from aioquic import tls
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky.protocol.quic.tls_endpoint import APPLICATION, EARLY, INITIAL
from tests.certificates import ca, client_leaf, now
from tests.protocol.quic.forged_server import (
    ALPN,
    COOKIE,
    EARLY_DATA,
    GREASE,
    H3,
    KEY_SHARE,
    P256,
    P384,
    PARAMETERS,
    PRE_SHARED_KEY,
    SIGNATURE_ALGORITHMS,
    X448,
    X25519,
    ForgedServer,
    asks_for,
    certificate,
    encoded,
    message,
    proof,
    request,
    retry,
    session_of,
    ticket,
    vector,
)
from tests.protocol.quic.retried_hello import read_extensions
from tests.protocol.quic.support import chain_of, client_parameters
from tests.protocol.quic.tls_support import (
    SERVER_PARAMETERS,
    Native,
    mirrored,
    native_client,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

SUITES = [0x1301, 0x1302, 0x1303]

ALLOWED: dict[str, Any] = {"max_early_data_size": 0xFFFFFFFF}
"""What a session of 0-RTT data is like."""

TAKES_EARLY_DATA = {
    "extensions": lambda said: message(
        8, encoded([(ALPN, H3), (PARAMETERS, SERVER_PARAMETERS), (EARLY_DATA, b"")])
    )
}


def a_client(**changes: Any) -> Native:
    return native_client(client_parameters(**changes))


def meet(client: Native, **server: Any) -> ForgedServer:
    """Make a client shake hands, and check that both sides have the same secrets."""
    met = ForgedServer(client, **server).greet().flight().complete()
    assert client.completed == 1
    told = [secret for secret in client.secrets if secret[1] != EARLY]
    assert {*told} == mirrored(met.secrets)
    assert client.peer_parameters == SERVER_PARAMETERS
    return met


class TestHello:
    @settings(max_examples=60, deadline=None)
    @given(
        name=st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20}){0,3}", fullmatch=True),
        alpn=st.lists(st.sampled_from(["h3", "h3-29", "hq-interop"]), min_size=1, unique=True),
        groups=st.lists(st.sampled_from([X25519, P256, P384, X448]), min_size=1, unique=True),
        own=st.binary(max_size=300),
        resumes=st.booleans(),
    )
    def test_it_says_what_aioquic_reads(
        self, name: str, alpn: list[str], groups: list[int], own: bytes, resumes: bool
    ) -> None:
        from spooky.protocol.quic.native_tls import client_tls

        parameters = client_parameters(
            alpn=tuple(alpn),
            groups=tuple(groups),
            on_ticket=(lambda ticket: None) if resumes else None,
        )
        client = Native(lambda side: client_tls(parameters, name, side), None)
        client.tls.start(own)
        said = ForgedServer(client).offer
        assert said.legacy_session_id == b""
        assert said.legacy_compression_methods == [0]
        assert said.cipher_suites == SUITES
        assert said.supported_versions == [0x0304]
        assert (said.server_name, said.alpn_protocols) == (name, alpn)
        assert said.supported_groups == groups
        assert [group for group, _ in said.key_share or ()] == groups[:1]
        assert said.psk_key_exchange_modes == ([1] if resumes else None)
        assert said.signature_algorithms == [
            0x0403, 0x0503, 0x0807, 0x0808, 0x0804, 0x0805, 0x0401, 0x0501,
        ]  # fmt: skip
        assert said.other_extensions == [(PARAMETERS, own)]
        assert not said.early_data
        assert said.pre_shared_key is None

    def test_a_name_is_said_without_its_last_dot(self) -> None:
        """RFC 6066 section 3; servers refuse it with one."""
        client = native_client(client_parameters(), "example.test.")
        assert meet(client).offer.server_name == "example.test"

    def test_every_one_has_a_random_and_a_key_of_its_own(self) -> None:
        offers = [ForgedServer(a_client()).offer for _ in range(5)]
        assert len({offer.random for offer in offers}) == 5
        assert len({(offer.key_share or [])[0] for offer in offers}) == 5

    def test_a_group_nobody_here_knows_is_refused_here(self) -> None:
        with pytest.raises(ValueError, match="unknown groups"):
            a_client(groups=(X25519, 0x19))

    def test_parameters_too_long_for_it_are_refused_here(self) -> None:
        from spooky.protocol.quic.native_tls import client_tls

        client = Native(lambda side: client_tls(client_parameters(), "example.test", side), None)
        with pytest.raises(OverflowError):
            client.tls.start(bytes(0x10000))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("group", [X25519, P256, P384, X448])
def test_secrets_are_those_of_aioquics_key_schedule(group: int, suite: int) -> None:
    meet(a_client(groups=(group,)), suite=suite)


def test_nothing_is_kept_that_is_not_needed_any_more() -> None:
    """A connection has its endpoint to the end."""
    client = a_client(certificate=chain_of(client_leaf("alice", ca("Clients"))))
    meet(client, asks=request())
    endpoint: Any = client.tls
    for name in ("_schedule", "_parameters", "_offer", "_ticket", "_own_parameters", "_requested"):
        assert getattr(endpoint, name) is None, name
    assert endpoint._chain == ()


class TestSecondHello:
    @pytest.mark.parametrize("suite", SUITES)
    @pytest.mark.parametrize("group", [P256, P384, X448])
    def test_a_share_is_brought_of_the_group_asked_for(self, group: int, suite: int) -> None:
        client = a_client()
        server = ForgedServer(client, suite=suite)
        server.ask_again(retry(suite, [asks_for(group)]))
        assert [each for each, _ in server.offer.key_share or ()] == [group]
        server.greet().flight().complete()
        assert {*client.secrets} == mirrored(server.secrets)
        assert client.completed == 1

    @pytest.mark.parametrize("asked", [[], [asks_for(P256)]], ids=["cookie", "cookie and group"])
    def test_it_says_the_same_but_for_what_was_asked(self, asked: list[tuple[int, bytes]]) -> None:
        """RFC 8446 section 4.1.2."""
        client = a_client()
        server = ForgedServer(client)
        first = read_extensions(server.heard)
        head = server.heard[6:50]
        server.ask_again(retry(0x1301, [*asked, (COOKIE, vector(b"crumbs", 2))]))
        second = read_extensions(server.heard)
        assert server.heard[6:50] == head
        assert second.pop(COOKIE) == vector(b"crumbs", 2)
        if asked:
            assert second.pop(KEY_SHARE) != first.pop(KEY_SHARE)
        assert second == first
        server.greet().flight().complete()
        assert client.completed == 1

    @pytest.mark.parametrize("suite", SUITES)
    def test_a_ticket_is_bound_to_both(self, suite: int) -> None:
        """RFC 8446 section 4.2.11.2; the server of the test checks it."""
        secret = bytes(range(48 if suite == 0x1302 else 32))
        session = session_of(secret, cipher_suite=tls.CipherSuite(suite))
        client = a_client(ticket=session)
        server = ForgedServer(client, suite=suite, session=session)
        server.ask_again(retry(suite, [asks_for(P256)])).greet().flight().complete()
        assert client.tls.resumed
        assert client.completed == 1

    def test_a_ticket_of_another_hash_is_not_offered_again(self) -> None:
        client = a_client(ticket=session_of())
        server = ForgedServer(client, suite=0x1302)
        assert server.offer.pre_shared_key is not None
        server.ask_again(retry(0x1302, [asks_for(P256)]))
        assert PRE_SHARED_KEY not in read_extensions(server.heard)
        server.greet().flight().complete()
        assert client.completed == 1
        assert not client.tls.resumed

    def test_early_data_is_not_offered_again(self) -> None:
        session = session_of(max_early_data_size=0xFFFFFFFF)
        client = a_client(ticket=session, early_data=True)
        server = ForgedServer(client, session=session)
        assert server.offer.early_data
        server.ask_again(retry(0x1301, [asks_for(P256)]))
        assert client.early_data_refused == 1
        assert not server.offer.early_data
        server.greet().flight().complete()
        assert client.tls.early_data is False


class TestOwnCertificate:
    ALICE = client_leaf("alice", ca("Clients"))

    def test_it_is_shown_with_a_proof_to_who_asks(self) -> None:
        client = a_client(certificate=chain_of(self.ALICE))
        server = ForgedServer(client, asks=request()).greet().flight()
        content = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"
        schedule = tls.KeySchedule(tls.CipherSuite(0x1301))
        schedule.hash = server.schedule.hash.copy()
        server.complete()
        shown = certificate([self.ALICE.der])
        assert server.said.startswith(shown)
        schedule.update_hash(shown)
        signature = server.said[len(shown) + 8 :]
        assert server.said[len(shown) :] == proof(0x0403, signature)
        key = self.ALICE.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, content + schedule.hash.finalize(), ec.ECDSA(SHA256()))
        assert client.completed == 1

    @pytest.mark.parametrize("has_one", [False, True])
    def test_without_one_that_fits_it_is_an_empty_list(self, has_one: bool) -> None:
        """RFC 8446 section 4.4.2."""
        client = a_client(certificate=chain_of(self.ALICE) if has_one else None)
        asks = request(
            [(SIGNATURE_ALGORITHMS, vector(b"\x08\x07", 2)), (47, b"\0\0"), (GREASE, b"")]
        )
        assert meet(client, asks=asks if has_one else request()).said == certificate([])

    def test_it_is_not_shown_to_who_does_not_ask(self) -> None:
        assert meet(a_client(certificate=chain_of(self.ALICE))).said == b""


class TestTickets:
    @pytest.mark.parametrize("suite", SUITES)
    def test_it_is_kept_with_what_the_session_was(self, suite: int) -> None:
        kept: list[tls.SessionTicket] = []
        client = a_client(on_ticket=kept.append, wall_clock=lambda: 1e9)
        server = meet(client, suite=suite)
        extensions = [(EARLY_DATA, b"\xff" * 4), (GREASE, b"x")]
        client.receive(APPLICATION, ticket(nonce=b"one", extensions=extensions))
        client.receive(APPLICATION, ticket(nonce=b"two", lifetime=60))
        first, second = kept
        begun = datetime.datetime.fromtimestamp(1e9, datetime.UTC)
        assert first == tls.SessionTicket(
            age_add=5,
            cipher_suite=tls.CipherSuite(suite),
            not_valid_after=begun + datetime.timedelta(hours=1),
            not_valid_before=begun,
            resumption_secret=server.resumption_secret(b"one"),
            server_name="example.test",
            ticket=b"ticket",
            max_early_data_size=0xFFFFFFFF,
            other_extensions=[(PARAMETERS, SERVER_PARAMETERS), (ALPN, b"h3")],
        )
        assert second.resumption_secret == server.resumption_secret(b"two")
        assert second.max_early_data_size is None
        assert second.not_valid_after == begun + datetime.timedelta(minutes=1)

    def test_one_of_a_long_life_is_kept_for_a_week(self) -> None:
        """RFC 8446 section 4.6.1."""
        kept: list[tls.SessionTicket] = []
        client = a_client(on_ticket=kept.append)
        meet(client)
        client.receive(APPLICATION, ticket(lifetime=0xFFFFFFFF))
        (one,) = kept
        assert one.not_valid_after - one.not_valid_before == datetime.timedelta(days=7)

    @pytest.mark.parametrize("given", [{"lifetime": 0}, {"value": bytes(65_000)}])
    def test_one_of_no_life_or_that_fits_no_hello_is_not_kept(self, given: dict[str, Any]) -> None:
        kept: list[tls.SessionTicket] = []
        client = a_client(on_ticket=kept.append)
        meet(client)
        client.receive(APPLICATION, ticket(**given))
        assert kept == []

    def test_who_wants_none_passes_over_them(self) -> None:
        client = a_client()
        meet(client)
        client.receive(APPLICATION, ticket())

    @pytest.mark.parametrize("suite", SUITES)
    def test_it_resumes(self, suite: int) -> None:
        kept: list[tls.SessionTicket] = []
        first = a_client(on_ticket=kept.append)
        meet(first, suite=suite)
        first.receive(APPLICATION, ticket())
        client = a_client(ticket=kept[0])
        server = meet(client, suite=suite, session=kept[0])
        assert client.tls.resumed
        ((value, age),) = server.offer.pre_shared_key.identities  # type: ignore[union-attr]
        assert value == b"ticket"
        assert 5 <= age < 60_005

    @pytest.mark.parametrize(
        "changes",
        [
            {"server_name": "other.test"},
            {"not_valid_after": now() - datetime.timedelta(seconds=1)},
            {"not_valid_before": now() + datetime.timedelta(days=1)},
        ],
        ids=["another name", "ended", "not begun"],
    )
    def test_one_that_is_not_for_here_and_now_is_not_offered(self, changes: dict[str, Any]) -> None:
        """Attack 32 (CVE-2025-23419): a session must not cross to another host."""
        client = a_client(ticket=session_of(**changes))
        assert meet(client).offer.pre_shared_key is None
        assert not client.tls.resumed

    def test_a_server_need_not_take_it(self) -> None:
        client = a_client(ticket=session_of())
        meet(client, suite=0x1302)
        assert not client.tls.resumed


def test_parameters_of_who_resumes_are_the_same_but_for_the_ticket() -> None:
    """What all connections say of themselves is encoded once for all of them."""
    plain = client_parameters(idle_timeout=7.0)
    session = session_of()
    other = plain.resuming(session)
    assert other == dataclasses.replace(plain, ticket=session)
    assert other.encoded is plain.encoded
    assert plain.ticket is None


class TestEarlyData:
    def test_it_is_offered_and_taken(self) -> None:
        session = session_of(**ALLOWED)
        client = a_client(ticket=session, early_data=True)
        assert client.remembered == SERVER_PARAMETERS
        server = meet(client, session=session, changes=TAKES_EARLY_DATA)
        assert client.secrets[0] == (True, EARLY, 0x1301, server.early_secret)
        assert client.tls.early_data is True

    def test_a_server_need_not_take_it(self) -> None:
        session = session_of(**ALLOWED)
        client = a_client(ticket=session, early_data=True)
        meet(client, session=session)
        assert client.tls.early_data is False

    @pytest.mark.parametrize(
        ("wanted", "changes"),
        [
            (False, ALLOWED),
            (True, {}),
            (True, ALLOWED | {"other_extensions": []}),
            (True, ALLOWED | {"server_name": "other.test"}),
        ],
        ids=["nobody wants it", "not allowed", "without limits", "of another"],
    )
    def test_it_is_not_offered_otherwise(self, wanted: bool, changes: dict[str, Any]) -> None:
        client = a_client(ticket=session_of(**changes), early_data=wanted)
        server = ForgedServer(client)
        assert not server.offer.early_data
        assert client.secrets == []
        assert client.remembered is None
        assert client.tls.early_data is None


def test_the_flight_may_come_in_any_pieces() -> None:
    client = a_client()
    server = ForgedServer(client)
    said: list[tuple[int, bytes]] = []
    real = client.receive
    client.receive = lambda level, data: said.append((level, data))  # type: ignore[method-assign]
    server.greet().flight()
    for level, data in said:
        for at in range(len(data)):
            real(level, data[at : at + 1])
    server.complete()
    assert client.completed == 1
    assert {*client.secrets} == mirrored(server.secrets)
    assert client.take_output(INITIAL) == b""
