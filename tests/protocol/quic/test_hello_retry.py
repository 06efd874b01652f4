"""A server asks a client for a key share that it can use (RFC 8446 sections 4.1.2 and 4.1.4)."""

from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls

from spooky import _core
from spooky._core.quic.errors import TlsAlert
from spooky.observe.segment import private_segment
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.tls_endpoint import INITIAL
from tests.protocol.quic.retried_hello import (
    KEY_SHARE,
    RETRY_RANDOM,
    SUPPORTED_GROUPS,
    RetriedClient,
    key_shares,
    read_extensions,
    with_extensions,
)
from tests.protocol.quic.support import server_parameters
from tests.protocol.quic.tls_support import CLIENT_PARAMETERS, exchange, mirrored, native_server

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

X25519, P256, P384, P521, X448 = 0x1D, 0x17, 0x18, 0x19, 0x1E
ALERT = tls.AlertDescription


def begin(**client: Any) -> tuple[RetriedClient, Any]:
    return RetriedClient(**client), native_server(server_parameters())


def refused(client: RetriedClient, server: Any) -> int:
    with pytest.raises(TlsAlert) as caught:
        exchange(client, server)
    assert not server.completed
    assert server.peer_parameters is None
    return caught.value.alert


@pytest.mark.parametrize("suite", [*tls.CIPHER_SUITES])
@pytest.mark.parametrize("group", [X25519, P256, P384, X448])
def test_a_client_that_brings_no_share_of_ours_is_asked_for_one(
    group: int, suite: tls.CipherSuite
) -> None:
    client, server = begin(group=group, suites=[suite])
    exchange(client, server)
    assert server.completed == 1
    assert server.peer_parameters == CLIENT_PARAMETERS
    assert mirrored(client.secrets) == {*server.secrets}
    assert client.hello.asked == [group]


def test_the_group_asked_for_is_the_one_preferred_of_those_the_client_speaks() -> None:
    client, server = begin(group=X25519, groups=[P521, X448, P384, P256, X25519])
    exchange(client, server)
    assert client.hello.asked == [X25519]
    assert server.completed == 1


def test_a_client_without_any_share_is_asked_for_one() -> None:
    """It asks for that itself (RFC 8446 section 4.2.8)."""
    client, server = begin(first_shares=b"")
    exchange(client, server)
    assert server.completed == 1


def test_a_client_with_a_share_that_is_not_preferred_is_not_asked() -> None:
    client, server = begin(group=P256, groups=[X25519, P256], first_shares=None)
    exchange(client, server)
    assert client.hello.asked == []
    assert server.completed == 1


def test_the_request_is_what_the_rfc_says() -> None:
    client, server = begin(group=P256)
    server.receive(INITIAL, client.take_output(INITIAL))
    said = server.take_output(INITIAL)
    assert said[:4] == b"\x02" + (len(said) - 4).to_bytes(3, "big")
    # Version, random, no session ID, cipher suite, no compression.
    assert said[4:42] == b"\x03\x03" + RETRY_RANDOM + b"\0" + b"\x13\x01\0"
    assert read_extensions(said) == {43: b"\x03\x04", KEY_SHARE: b"\0\x17"}
    assert server.secrets == []


def test_a_client_that_speaks_no_group_of_ours_is_refused() -> None:
    client, server = begin(groups=[P521])
    assert refused(client, server) == ALERT.handshake_failure


SECOND_HELLOS: dict[str, Callable[[bytes], bytes]] = {
    "the share of before": lambda hello: with_extensions(hello, {KEY_SHARE: key_shares(P521)}),
    "another group of ours": lambda hello: with_extensions(hello, {KEY_SHARE: key_shares(P256)}),
    "one more share": lambda hello: with_extensions(hello, {KEY_SHARE: key_shares(X25519, P256)}),
    "no share": lambda hello: with_extensions(hello, {KEY_SHARE: b"\0\0"}),
    "early data": lambda hello: with_extensions(hello, {42: b""}),
    "other groups": lambda hello: with_extensions(hello, {SUPPORTED_GROUPS: b"\0\x02\0\x1d"}),
    "another name": lambda hello: hello.replace(b"example.test", b"exampel.test"),
    "other parameters": lambda hello: with_extensions(hello, {57: b"\x01\x02\x40\x66"}),
    "other signatures": lambda hello: with_extensions(hello, {13: b"\0\x02\x04\x03"}),
    "other protocols": lambda hello: with_extensions(hello, {16: b"\0\x06\x02h3\x02h2"}),
    "another random": lambda hello: hello[:6] + bytes(32) + hello[38:],
    "other cipher suites": lambda hello: hello.replace(
        b"\x13\x02\x13\x01\x13\x03", b"\x13\x02\x13\x03\x13\x01"
    ),
}


@pytest.mark.parametrize("change", SECOND_HELLOS)
def test_a_second_hello_with_something_else_is_refused(change: str) -> None:
    """There is no third."""
    client, server = begin(change_second=SECOND_HELLOS[change])
    assert refused(client, server) == ALERT.illegal_parameter
    assert server.take_output(INITIAL) == b""


def test_a_second_hello_may_fill_itself_up() -> None:
    """RFC 8446 section 4.1.2 lets padding and a cookie come and go."""
    client, server = begin(change_second=lambda hello: with_extensions(hello, {21: bytes(40)}))
    exchange(client, server)
    assert server.completed == 1


def test_what_is_kept_of_a_first_hello_is_small() -> None:
    """However large it was: nothing proves yet that anybody is there."""
    client, server = begin(change_first=lambda h: with_extensions(h, {21: bytes(60_000)}))
    server.receive(INITIAL, client.take_output(INITIAL))
    assert 0 < len(server.tls._retried) < 200


class TestTickets:
    """A ticket works after a request, and its early data does not."""

    def ticket(self, **server: Any) -> tuple[tls.SessionTicket, Any]:
        parameters = server_parameters(tickets=TicketStore(), **server)
        client = RetriedClient(first_shares=None)
        exchange(client, native_server(parameters))
        return client.tickets[0], parameters

    @pytest.mark.parametrize("suite", [*tls.CIPHER_SUITES])
    def test_a_session_is_resumed(self, suite: tls.CipherSuite) -> None:
        parameters = server_parameters(tickets=TicketStore())
        first = RetriedClient(first_shares=None, suites=[suite])
        exchange(first, native_server(parameters))
        client = RetriedClient(ticket=first.tickets[0], suites=[suite])
        server = native_server(parameters)
        exchange(client, server)
        assert client.hello.asked == [X25519]
        assert server.tls.resumed
        assert server.completed == 1
        assert mirrored(client.secrets) == {*server.secrets}

    def test_a_binder_that_leaves_the_first_hello_out_is_refused(self) -> None:
        """It is over the whole transcript (RFC 8446 section 4.2.11.2)."""
        ticket, parameters = self.ticket()
        client = RetriedClient(ticket=ticket, binds_the_first=False)
        assert refused_by(client, native_server(parameters)) == ALERT.decrypt_error

    def test_early_data_is_refused(self) -> None:
        early = EarlyData(private_segment(), ())
        ticket, parameters = self.ticket(early_data=early)
        assert ticket.max_early_data_size
        client = RetriedClient(ticket=ticket)
        server = native_server(parameters)
        exchange(client, server)
        assert client.hello.offered_early_data
        assert server.tls.resumed
        assert server.tls.early_data is False
        assert not client.context.early_data_accepted
        assert server.completed == 1


def refused_by(client: RetriedClient, server: Any) -> int:
    with pytest.raises(TlsAlert) as caught:
        exchange(client, server)
    return caught.value.alert
