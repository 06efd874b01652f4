"""qh3, QUIC and TLS in Rust: as a client of our server, and as a server of our client."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.asyncio.server import serve
from qh3.h3.connection import H3_ALPN, H3Connection
from qh3.h3.events import DataReceived, HeadersReceived
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.events import HandshakeCompleted, QuicEvent

from spooky.protocol.quic.engines import ENGINES, Feature, chosen_engine
from spooky.protocol.quic.packet import VERSION_1, VERSION_2
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.stream import Field
from spooky.runtime import Runtime
from spooky.upstream.http3 import Http3Connection
from tests.certificates import ca, leaf, write
from tests.edge.test_early_data import allow
from tests.edge.test_ingress import run_with
from tests.support.client import Response, request_head
from tests.support.origin import pattern
from tests.support.ports import free_port
from tests.support.proxy import Setup, run

LARGE = 8 * 1024 * 1024
UPLOAD = 2 * 1024 * 1024


class Client(QuicConnectionProtocol):
    """qh3's client, with its HTTP/3 on top."""

    http: H3Connection
    handshake: HandshakeCompleted

    def begin(self) -> None:
        """Open HTTP/3's own streams, unless that was done."""
        if not hasattr(self, "http"):
            self.http = H3Connection(self._quic)
            self._responses: dict[int, tuple[Response, asyncio.Event]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        self.begin()
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
        for http_event in self.http.handle_event(event):
            response, ended = self._responses[http_event.stream_id]
            if isinstance(http_event, HeadersReceived):
                response.status = int(dict(http_event.headers)[b":status"])
            elif isinstance(http_event, DataReceived):
                response.body += http_event.data
            if http_event.stream_ended:
                ended.set()

    async def fetch(self, method: str, path: str, body: bytes = b"") -> Response:
        """Make a request and return its response."""
        self.begin()
        stream_id = self._quic.get_next_available_stream_id()
        response, ended = self._responses[stream_id] = Response(), asyncio.Event()
        fields = [(b"content-length", b"%d" % len(body))] if body else []
        self.http.send_headers(stream_id, request_head(method, path, fields), not body)
        if body:
            self.http.send_data(stream_id, body, True)
        self.transmit()
        await ended.wait()
        return response


@contextlib.asynccontextmanager
async def connected(
    port: int, tickets: list[Any], wait: bool = True, **changes: Any
) -> AsyncIterator[Client]:
    """Connect qh3 to a proxy, and keep the tickets it is given.

    Without ``wait``, requests go out at once: in 0-RTT data, if a ticket allows that.
    """
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost", **changes
    )
    async with connect(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=Client,
        session_ticket_handler=tickets.append,
        wait_connected=wait,
    ) as client:
        yield client


@pytest.mark.parametrize("engine", ENGINES)
def test_qh3_as_a_client(tmp_path: Path, engine: str) -> None:
    """Handshake, requests, a large download, an upload, a key update, and a resumed session."""

    async def scenario(setup: Setup) -> None:
        tickets: list[Any] = []
        async with connected(setup.proxy.port, tickets) as client:
            assert not client.handshake.session_resumed
            small = await asyncio.gather(*(client.fetch("GET", "/size/1000") for _ in range(20)))
            assert {(each.status, bytes(each.body)) for each in small} == {(200, pattern(1000))}
            assert (await client.fetch("GET", f"/size/{LARGE}")).body == pattern(LARGE)
            uploaded = await client.fetch("POST", "/count", b"x" * UPLOAD)
            assert b"%d" % UPLOAD in uploaded.body
            client.request_key_update()
            assert (await client.fetch("GET", "/size/300000")).body == pattern(300_000)
            assert client._quic._core.send_key_phase == client._quic._core.receive_key_phase == 1
        async with connected(setup.proxy.port, tickets, session_ticket=tickets[0]) as client:
            assert client.handshake.session_resumed
            assert (await client.fetch("GET", "/size/1000")).status == 200

    run_with(tmp_path, scenario, quic_engine=engine)


@pytest.mark.skipif("native" not in ENGINES, reason="the kernels are not compiled")
def test_qh3_sends_requests_in_0_rtt_data(tmp_path: Path) -> None:
    """Taken once; when it is refused, qh3 sends them again (RFC 9001 section 4.6.2)."""

    async def scenario(setup: Setup) -> None:
        tickets: list[Any] = []
        async with connected(setup.proxy.port, tickets) as client:
            assert (await client.fetch("GET", "/size/1000")).status == 200
        found = []
        for _ in range(2):
            async with connected(
                setup.proxy.port, [], wait=False, session_ticket=tickets[0]
            ) as client:
                safe, unsafe = await asyncio.gather(
                    client.fetch("GET", "/inspect"), client.fetch("POST", "/count")
                )
                await client.wait_connected()
                taken = client.handshake.early_data_accepted
                found.append((taken, safe.body.count(b'"early-data"'), unsafe.status))
        assert found == [(True, 1, 425), (False, 0, 200)]

    run_with(tmp_path, scenario, change=allow())


class Server(QuicConnectionProtocol):
    """qh3's server: ``/size/N`` downloads, and anything else tells how much was uploaded."""

    http: H3Connection

    def quic_event_received(self, event: QuicEvent) -> None:
        if not hasattr(self, "http"):
            self.http = H3Connection(self._quic)
            self._paths: dict[int, bytes] = {}
            self._received: dict[int, int] = {}
        for http_event in self.http.handle_event(event):
            stream_id = http_event.stream_id
            if isinstance(http_event, HeadersReceived):
                self._paths[stream_id] = dict(http_event.headers)[b":path"]
                self._received[stream_id] = 0
            elif isinstance(http_event, DataReceived):
                self._received[stream_id] += len(http_event.data)
            if http_event.stream_ended:
                self._answer(stream_id)

    def _answer(self, stream_id: int) -> None:
        kind, _, size = self._paths[stream_id][1:].partition(b"/")
        body = pattern(int(size)) if kind == b"size" else b"%d" % self._received[stream_id]
        length = (b"content-length", b"%d" % len(body))
        self.http.send_headers(stream_id, [(b":status", b"200"), length])
        self.http.send_data(stream_id, body, True)
        self.transmit()


class Answer:
    """Takes a response from our client's stream."""

    def __init__(self) -> None:
        self.response = Response()
        self.ended = asyncio.Event()
        self.stream: Any
        self.unsent = b""

    def on_head(self, fields: list[Field], end: bool) -> None:
        self.response.status = int(dict(fields)[b":status"])

    def on_data(self, data: bytes, end: bool) -> None:
        self.response.body += data
        self.stream.consume(len(data))
        if end:
            self.ended.set()

    def on_reset(self, reason: Any) -> None:
        raise AssertionError(reason)

    def on_stopped(self) -> None:
        raise AssertionError("the server does not want the body")

    def on_writable(self) -> None:
        """The body was handed over whole."""


async def fetch(connection: Http3Connection, method: str, path: str, body: bytes = b"") -> Response:
    """Make a request with our client."""
    answer = Answer()
    stream = answer.stream = connection.http3.open(answer)
    fields = [(b"content-length", b"%d" % len(body))] if body else []
    stream.send_head(request_head(method, path, fields), end=not body)
    if body:
        stream.send_data(body, end=True)
    await answer.ended.wait()
    return answer.response


@contextlib.asynccontextmanager
async def our_client(port: int, parameters: ClientParameters) -> AsyncIterator[Http3Connection]:
    runtime = Runtime(asyncio.get_running_loop())
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.connect(("127.0.0.1", port))
    connection = Http3Connection(runtime, udp, parameters, "localhost")
    try:
        yield connection
    finally:
        connection.shutdown()
        connection.flush()
        connection.close()
        await runtime.close()


@pytest.mark.parametrize(
    ("version", "retry"),
    [(VERSION_1, False), (VERSION_1, True), (VERSION_2, False)],
    ids=["v1", "v1-retry", "v2"],
)
def test_qh3_as_a_server(tmp_path: Path, version: int, retry: bool) -> None:
    """The same the other way around, with its certificate verified, and with its Retry."""
    authority = ca()
    certificate, key = write(leaf(["localhost"], authority), tmp_path)
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=False, supported_versions=[version]
    )
    configuration.load_cert_chain(certificate, key)
    sessions: dict[bytes, Any] = {}
    tickets: list[Any] = []
    parameters = ClientParameters(
        authorities=authority.certificate_pem, versions=(version,), on_ticket=tickets.append
    )

    async def scenario() -> None:
        port = free_port()
        server = await serve(
            "127.0.0.1",
            port,
            configuration=configuration,
            create_protocol=Server,
            session_ticket_handler=lambda ticket: sessions.update({ticket.ticket: ticket}),
            session_ticket_fetcher=sessions.get,
            retry=retry,
        )
        async with our_client(port, parameters) as client:
            handshake = await client.established
            assert (handshake.version, handshake.resumed) == (version, False)
            small = await asyncio.gather(*(fetch(client, "GET", "/size/1000") for _ in range(20)))
            assert {(each.status, bytes(each.body)) for each in small} == {(200, pattern(1000))}
            assert (await fetch(client, "GET", f"/size/{LARGE}")).body == pattern(LARGE)
            uploaded = await fetch(client, "POST", "/count", b"x" * UPLOAD)
            assert uploaded.body == b"%d" % UPLOAD
            # In version 2, qh3 2.1 cannot read what updated keys protect: aioquic's neither.
            if version == VERSION_1 and Feature.KEY_UPDATE not in chosen_engine(None).lacks:
                client.quic.request_key_update()
            assert (await fetch(client, "GET", "/size/300000")).body == pattern(300_000)
        async with our_client(port, replace(parameters, ticket=tickets[0])) as client:
            assert (await client.established).resumed
            assert (await fetch(client, "GET", "/size/1000")).status == 200
        server.close()

    run(scenario)
