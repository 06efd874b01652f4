"""What either side of a TLS handshake costs: of ours, and of aioquic's context as its twin.

A full handshake has a certificate for P-256 and keys of X25519, as with nearly every client. What
answers the hello is timed apart from what answers the client's Finished; a client's hello apart
from what reads the answer, of which it believes everything.
"""

from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls
from pytest_benchmark.fixture import BenchmarkFixture

from spooky import _core
from spooky.protocol.quic.certificates import CertificateSelector, ServerIdentity
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.tls_endpoint import HANDSHAKE, INITIAL
from tests.certificates import shared_server
from tests.protocol.quic.support import chain_of, client_parameters, server_parameters
from tests.protocol.quic.tls_support import (
    CLIENT_PARAMETERS,
    SERVER_PARAMETERS,
    Bare,
    Native,
    exchange,
    native_client,
    native_server,
)

ROUNDS = 400

COMPILED_ONLY = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

SIDES = pytest.mark.parametrize("side", [pytest.param("compiled", marks=COMPILED_ONLY), "pure"])
KINDS = pytest.mark.parametrize("kind", ["full", "resumed"])

Server = Native | Bare
Client = Native | Bare


def server_maker(side: str) -> Callable[[], Server]:
    """Return what makes servers of one listener."""
    chain = chain_of(shared_server())
    if side == "compiled":
        parameters = server_parameters(
            certificates=CertificateSelector({}, ServerIdentity(chain)), tickets=TicketStore()
        )
        return lambda: native_server(parameters)
    sessions: dict[bytes, tls.SessionTicket] = {}

    def make() -> Bare:
        context = tls.Context(is_client=False, alpn_protocols=["h3"])
        context.certificate = chain.certificate
        context.certificate_private_key = chain.key
        context.get_session_ticket_cb = lambda ticket: sessions.pop(ticket, None)
        context.new_session_ticket_cb = lambda session: sessions.update({session.ticket: session})
        return Bare(context, SERVER_PARAMETERS)

    return make


def client(on_ticket: Callable[[Any], None], ticket: Any = None) -> Bare:
    """Return a client that offers what browsers do."""
    context = tls.Context(
        is_client=True,
        alpn_protocols=["h3"],
        cipher_suites=[
            tls.CipherSuite.AES_128_GCM_SHA256,
            tls.CipherSuite.AES_256_GCM_SHA384,
            tls.CipherSuite.CHACHA20_POLY1305_SHA256,
        ],
        server_name="example.test",
        verify_mode=0,
    )
    context._supported_groups = [tls.Group.X25519]
    context.session_ticket = ticket
    context.new_session_ticket_cb = on_ticket
    return Bare(context, CLIENT_PARAMETERS).start()


class Handshakes:
    """Makes one handshake after the other, up to a message from the client, and completes it."""

    def __init__(self, side: str, kind: str) -> None:
        self.make = server_maker(side)
        self._resuming = kind == "resumed"
        self._tickets: list[Any] = []
        self._client: Bare | None = None
        self._server: Server | None = None
        if self._resuming:
            exchange(client(self._tickets.append), self.make())

    def hello(self) -> bytes:
        """Complete the last handshake, and return the hello of the next."""
        if self._client is not None and self._server is not None:
            exchange(self._client, self._server)
            assert self._client.context.state is tls.State.CLIENT_POST_HANDSHAKE
            assert self._client.context.session_resumed is self._resuming
        ticket = self._tickets.pop() if self._resuming else None
        self._client = client(self._tickets.append, ticket)
        return self._client.take_output(INITIAL)

    def answer_hello(self, hello: bytes) -> None:
        """Let a new server answer the hello."""
        self._server = self.make()
        self._server.receive(INITIAL, hello)

    def finished(self) -> bytes:
        """Return what the client says to the answer."""
        assert self._client is not None
        assert self._server is not None
        for level in (INITIAL, HANDSHAKE):
            self._client.receive(level, self._server.take_output(level))
        return self._client.take_output(HANDSHAKE)

    def answer_finished(self, finished: bytes) -> None:
        """Let the server complete the handshake."""
        assert self._server is not None
        self._server.receive(HANDSHAKE, finished)


@SIDES
@KINDS
def test_answer_a_hello(benchmark: BenchmarkFixture, side: str, kind: str) -> None:
    benchmark.group = f"the answer to a hello: {kind}"
    handshakes = Handshakes(side, kind)

    def setup() -> tuple[tuple[bytes], dict[str, Any]]:
        return (handshakes.hello(),), {}

    benchmark.pedantic(handshakes.answer_hello, setup=setup, rounds=ROUNDS)


@SIDES
@KINDS
def test_answer_a_finished(benchmark: BenchmarkFixture, side: str, kind: str) -> None:
    benchmark.group = f"the answer to Finished: {kind}"
    handshakes = Handshakes(side, kind)

    def setup() -> tuple[tuple[bytes], dict[str, Any]]:
        handshakes.answer_hello(handshakes.hello())
        return (handshakes.finished(),), {}

    benchmark.pedantic(handshakes.answer_finished, setup=setup, rounds=ROUNDS)


class Clients:
    """Makes clients of one kind, and servers of ours that answer them."""

    def __init__(self, side: str, kind: str) -> None:
        self._side = side
        self._server = server_maker("compiled" if _core.COMPILED else "pure")
        self._tickets: list[Any] = []
        self._resuming = kind == "resumed"
        if self._resuming:
            exchange(client(self._tickets.append), self._server())

    def begin(self) -> Client:
        """Return a client that has said its hello."""
        ticket = self._tickets[0] if self._resuming else None
        if self._side == "pure":
            return client(lambda ticket: None, ticket)
        parameters = client_parameters(
            verify=False, groups=(tls.Group.X25519,), ticket=ticket, on_ticket=lambda ticket: None
        )
        return native_client(parameters)

    def answered(self) -> tuple[Client, list[tuple[int, bytes]]]:
        """Return one, and what it is answered."""
        begun, server = self.begin(), self._server()
        server.receive(INITIAL, begun.take_output(INITIAL))
        return begun, [(level, server.take_output(level)) for level in (INITIAL, HANDSHAKE)]


def read_answer(begun: Client, answer: list[tuple[int, bytes]]) -> None:
    """Let a client read the server's flight, and say its Finished."""
    for level, said in answer:
        begun.receive(level, said)
    assert begun.take_output(HANDSHAKE)


@SIDES
@KINDS
def test_say_a_hello(benchmark: BenchmarkFixture, side: str, kind: str) -> None:
    benchmark.group = f"a client's hello: {kind}"
    benchmark.pedantic(Clients(side, kind).begin, rounds=ROUNDS)


@SIDES
@KINDS
def test_read_the_answer(benchmark: BenchmarkFixture, side: str, kind: str) -> None:
    benchmark.group = f"reading the answer: {kind}"
    clients = Clients(side, kind)
    benchmark.pedantic(read_answer, setup=lambda: (clients.answered(), {}), rounds=ROUNDS)
