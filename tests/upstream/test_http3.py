"""Connections to HTTP/3 backends: dialled, shared, retired, and found to be dead."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import encode_frame
from aioquic.quic.configuration import QuicConfiguration

import spooky
from spooky import config
from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.config.health import HealthCheck
from spooky.control.health_checks import _wanted
from spooky.generation.materials import Materials
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import ENGINES
from spooky.protocol.stream import Field, Stream
from spooky.runtime import Runtime
from spooky.upstream import quic
from spooky.upstream.dial import DialSettings, UpstreamTls
from spooky.upstream.origin import Origin as Address
from spooky.upstream.pool import Pool, PoolSettings
from spooky.upstream.probe import CheckError, probe
from spooky.upstream.quic import Http3Settings
from tests.certificates import ca, client_leaf, shared_ca, shared_server, write
from tests.support.origin import PIECE, Origin
from tests.support.origin_h3 import Http3Origin, Http3Server
from tests.support.proxy import configuration, connect, run, server_context
from tests.support.waiting import until

HTTP3 = Http3Settings()
TLS = UpstreamTls(ca_pem=shared_ca().certificate_pem)
GOAWAY = 0x7


class Asked:
    """A request, and what becomes of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stream: Stream | None = None
        self.reused = False
        self.status = 0
        self.body = b""
        self.head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self.detail = ""

    def on_connected(self, stream: Stream, reused: bool) -> None:
        self.stream, self.reused = stream, reused
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost")]
        stream.send_head([*head, (b":path", self.path.encode())], True)

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        self.detail = detail
        self._end(reason)

    def on_informational(self, fields: list[Field]) -> None: ...

    def on_head(self, fields: list[Field], end: bool) -> None:
        self.status = int(dict(fields)[b":status"])
        self.head.set_result(None)
        if end:
            self._end(reasons.COMPLETED)

    def on_data(self, data: bytes, end: bool) -> None:
        self.body += data
        assert self.stream is not None
        self.stream.consume(len(data))
        if end:
            self._end(reasons.COMPLETED)

    def on_trailers(self, fields: list[Field]) -> None:
        self._end(reasons.COMPLETED)

    def on_reset(self, reason: Reason) -> None:
        self._end(reason)

    def on_stopped(self) -> None: ...

    def on_writable(self) -> None: ...

    def _end(self, reason: Reason) -> None:
        self.ended.set_result(reason)


class Room:
    """A pool and its backend."""

    def __init__(self, pool: Pool, origin: Http3Origin) -> None:
        self.pool = pool
        self.origin = origin

    def ask(self, path: str) -> Asked:
        asked = Asked(path)
        self.pool.request(asked)
        return asked

    async def fetch(self, path: str) -> Asked:
        """Ask, and wait for the end."""
        asked = self.ask(path)
        await asyncio.wait_for(asked.ended, 20)
        return asked

    @property
    def server(self) -> Http3Server:
        return self.origin.servers[-1]


def pool_to(
    runtime: Runtime,
    port: int,
    tls: UpstreamTls = TLS,
    http3: Http3Settings = HTTP3,
    host: str = "127.0.0.1",
    **settings: Any,
) -> Pool:
    async def resolve(name: str, _: int) -> list[str]:
        return ["127.0.0.1"]

    given = {"max_idle": 10, "idle_timeout": 60.0, "connect_timeout": 10.0, **settings}
    return Pool(
        runtime,
        DialSettings.of(Address("https", host, port), "http3", tls),
        PoolSettings(**given, http1=Http1Limits(), http2=Http2Limits(), http3=http3),
        resolve,
    )


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Runtime]:
    runtime = Runtime(asyncio.get_running_loop())
    try:
        yield runtime
    finally:
        await runtime.close()


@contextlib.asynccontextmanager
async def room(
    folder: Path,
    change: Callable[[QuicConfiguration], None] = lambda _: None,
    streams_max: int = 128,
    **options: Any,
) -> AsyncIterator[Room]:
    """Run a backend and a pool."""
    origin = Http3Origin(*write(shared_server(), folder, "origin"))
    origin.streams_max = streams_max
    change(origin.configuration)
    async with running() as runtime, origin:
        pool = pool_to(runtime, origin.port, **options)
        yield Room(pool, origin)
        assert origin.errors == []


def in_room(
    folder: Path, scenario: Callable[[Room], Awaitable[None]], *arguments: Any, **options: Any
) -> None:
    async def with_room() -> None:
        async with room(folder, *arguments, **options) as own:
            await scenario(own)

    run(with_room)


# --- dialling ---------------------------------------------------------------------------------
async def failure(pool: Pool) -> tuple[Reason, str]:
    asked = Asked("/echo")
    pool.request(asked)  # type: ignore[arg-type]
    return await asyncio.wait_for(asked.ended, 20), asked.detail


def test_nobody_listens(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        async with running() as runtime:
            reason, detail = await failure(pool_to(runtime, port))
            assert reason is reasons.CONNECT_REFUSED
            assert detail == f"https://127.0.0.1:{port} at 127.0.0.1 refused"

    run(scenario)


def test_nobody_answers(tmp_path: Path) -> None:
    """The connect timeout covers the handshake."""

    async def scenario() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            async with running() as runtime:
                reason, detail = await failure(pool_to(runtime, port, connect_timeout=0.2))
                assert reason is reasons.CONNECT_TIMEOUT
                assert "did not accept within 200 ms" in detail

    run(scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_certificate_that_is_not_trusted(tmp_path: Path, engine: str) -> None:
    async def scenario(own: Room) -> None:
        asked = await own.fetch("/echo")
        assert await asked.ended is reasons.UPSTREAM_CERTIFICATE_INVALID
        assert "not issued by a trusted authority" in asked.detail

    other = UpstreamTls(ca_pem=ca("Other").certificate_pem)
    in_room(tmp_path, scenario, tls=other, http3=replace(HTTP3, engine=engine))


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        asked = await own.fetch("/echo")
        assert await asked.ended is reasons.UPSTREAM_CERTIFICATE_INVALID
        assert "not for this server: elsewhere.test" in asked.detail

    in_room(tmp_path, scenario, host="elsewhere.test")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_backend_without_http3(tmp_path: Path, engine: str) -> None:
    async def scenario(own: Room) -> None:
        asked = await own.fetch("/echo")
        assert await asked.ended is reasons.UPSTREAM_ALPN_MISMATCH

    def speaks_otherwise(configuration: QuicConfiguration) -> None:
        configuration.alpn_protocols = ["hq-interop"]

    in_room(tmp_path, scenario, speaks_otherwise, http3=replace(HTTP3, engine=engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_serves_by_either_engine_and_keeps_its_connection(tmp_path: Path, engine: str) -> None:
    async def scenario(own: Room) -> None:
        first, second = await own.fetch("/size/100000"), await own.fetch("/size/5")
        assert (first.status, len(first.body), first.reused) == (200, 100_000, False)
        assert (second.status, len(second.body), second.reused) == (200, 5, True)
        assert own.origin.connections == 1

    in_room(tmp_path, scenario, http3=replace(HTTP3, engine=engine))


@pytest.mark.parametrize("shows", [True, False], ids=["shown", "missing"])
def test_a_backend_that_asks_for_a_certificate(tmp_path: Path, shows: bool) -> None:
    """It is Spooky itself, which verifies it."""
    authority = ca("Clients")
    own = client_leaf("edge", authority)

    async def scenario() -> None:
        async with Origin("h1") as origin:
            settings = configuration(tmp_path, origin.address)
            (tmp_path / "clients.pem").write_bytes(authority.certificate_pem)
            settings["listen"]["tls"]["client_auth"] = {
                "enabled": True, "require_client_cert": True,
                "ca_file": str(tmp_path / "clients.pem"),
            }  # fmt: skip
            async with spooky.Proxy(settings) as behind:
                address = f"https://localhost:{behind.port}"
                front = configuration(tmp_path, address, protocol="http3")
                if shows:
                    chain, key = write(own, tmp_path, "edge")
                    front["upstream"]["backend"]["tls"] |= {
                        "client_certificate": str(chain), "client_key": str(key)
                    }  # fmt: skip
                async with spooky.Proxy(front) as proxy:
                    client = await connect("h2", proxy.port)
                    response = await client.fetch("GET", "/size/7")
                    assert response.status == (200 if shows else 502)
                    await client.close()

    run(scenario)


def test_it_is_checked_over_http3(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        runtime, settings = own.pool.runtime, own.pool.dial_settings

        def check(**options: Any) -> Awaitable[None]:
            asked = HealthCheck(timeout_ms=20_000, **options)
            return probe(asked, settings, runtime, own.pool._resolve, HTTP3)

        await check(path="/size/1")
        with pytest.raises(CheckError, match="status 500"):
            await check(path="/status/500")
        # gRPC's question, by its own protocol's rules.
        with pytest.raises(CheckError, match="status 404"):
            await check(type="grpc")
        assert own.origin.connections == 3
        own.origin.vanish()
        with pytest.raises(CheckError, match="refused"):
            await check(path="/size/1")

    in_room(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "protocol", "asked"),
    [("grpc", "auto", "http2"), ("grpc", "http3", "http3"), ("http", "http3", "http3")],
)
def test_checks_ask_by_the_protocol_of_the_upstream(
    tmp_path: Path, kind: str, protocol: str, asked: str
) -> None:
    settings = configuration(tmp_path, "https://127.0.0.1:1", protocol=protocol)
    settings["upstream"]["backend"]["backends"][0]["health_check"] = {"type": kind}
    ((identity, how),) = _wanted(config.from_mapping(settings), Materials({}, b""))
    assert (identity.pool.protocol, how.protocol) == (asked, asked)
    assert (how.quic is not None) is (asked == "http3")


# --- sharing ----------------------------------------------------------------------------------
def test_requests_beyond_the_backends_limit_of_streams_go_over_other_connections(
    tmp_path: Path,
) -> None:
    async def scenario(own: Room) -> None:
        await own.fetch("/size/1")
        waiting = [own.ask("/wait") for _ in range(5)]
        await until(lambda: own.origin.gate.requests["/wait"] == 5)
        assert own.origin.connections == 3
        own.origin.gate.opened.set()
        for asked in waiting:
            assert await asked.ended is reasons.COMPLETED
        # What ended makes room: MAX_STREAMS is heeded, and so is that it was raised.
        for _ in range(5):
            await until(lambda: any(each.session.capacity for each in own.pool._ready))
            assert (await own.fetch("/size/1")).reused
        assert own.origin.connections == 3

    in_room(tmp_path, scenario, streams_max=2)


def test_our_own_limit_of_requests_on_a_connection_is_kept(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        waiting = [own.ask("/wait") for _ in range(5)]
        await until(lambda: own.origin.gate.requests["/wait"] == 5)
        assert own.origin.connections == 3
        own.origin.gate.opened.set()
        for asked in waiting:
            assert await asked.ended is reasons.COMPLETED

    limits = Limits(256, 65_536, max_concurrent_streams=2)
    in_room(tmp_path, scenario, http3=replace(HTTP3, limits=limits))


# --- backends that give no credit -------------------------------------------------------------
def test_a_backend_that_gives_no_credit_is_dialled_once_and_the_caller_told(
    tmp_path: Path,
) -> None:
    async def scenario(own: Room) -> None:
        first = own.ask("/size/1")
        await until(lambda: own.pool._connections)
        second = own.ask("/size/1")
        for asked in (first, second):
            assert await asyncio.wait_for(asked.ended, 20) is reasons.CONNECT_FAILED
        assert "let its connection carry no request" in first.detail
        assert own.origin.connections == 1
        # Of no use, it was ended.
        await asyncio.wait_for(own.server.wait_closed(), 20)
        assert own.pool._connections == set()

    in_room(tmp_path, scenario, streams_max=0, connect_timeout=3.0)


def test_credit_that_comes_late_serves_who_waits(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        waiting = [own.ask("/size/1") for _ in range(3)]
        await until(lambda: own.pool._connections)
        limit: Any = own.server._quic._local_max_streams_bidi  # type: ignore[attr-defined]
        limit.value = 5
        own.server.begin_to_read()
        for asked in waiting:
            assert await asyncio.wait_for(asked.ended, 20) is reasons.COMPLETED
        assert own.origin.connections == 1

    in_room(tmp_path, scenario, streams_max=0)


def test_a_dial_without_credit_that_ends_after_its_pool_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        asked = own.ask("/size/1")
        own.pool.cancel(asked)
        own.pool.close(60.0)
        await until(lambda: own.origin.connections)
        await asyncio.wait_for(own.server.wait_closed(), 20)

    in_room(tmp_path, scenario, streams_max=0)


def test_a_connection_that_has_room_before_its_dial_ends_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is flushed first where something else asked for a flush before, in the same turn."""
    flushed = []

    class Other:
        def flush(self) -> None:
            flushed.append(self)

    established = quic.QuicConnection.on_established

    def later(connection: quic.QuicConnection, handshake: Any) -> None:
        connection.runtime.mark(Other())
        established(connection, handshake)

    monkeypatch.setattr(quic.QuicConnection, "on_established", later)

    async def scenario(own: Room) -> None:
        own.pool.cancel(own.ask("/size/1"))
        await until(lambda: own.pool._ready and not own.pool._dialling)
        assert len(own.pool._ready) == len(own.pool._connections) == 1
        assert flushed
        for _ in range(2):
            await own.fetch("/size/1")
        assert own.origin.connections == 1

    in_room(tmp_path, scenario, max_idle=1)


# --- the end of connections -------------------------------------------------------------------
def goaway(server: Http3Server, first_unserved: int) -> None:
    control = server.http._local_control_stream_id
    assert control is not None
    server._quic.send_stream_data(control, encode_frame(GOAWAY, encode_uint_var(first_unserved)))
    server.transmit()


def test_goaway_retires_a_connection_and_gives_back_what_was_not_served(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        served, unserved = own.ask("/wait"), own.ask("/wait")
        await until(lambda: own.origin.gate.requests["/wait"] == 2)
        first = own.server
        goaway(first, 4)
        assert await asyncio.wait_for(unserved.ended, 20) is reasons.UPSTREAM_GOING_AWAY
        other = await own.fetch("/size/3")
        assert (other.status, other.reused, own.origin.connections) == (200, False, 2)
        own.origin.gate.opened.set()
        assert await served.ended is reasons.COMPLETED
        # Nobody needs it any more.
        await asyncio.wait_for(first.wait_closed(), 20)

    in_room(tmp_path, scenario)


def test_a_connection_is_closed_when_it_was_idle_for_long(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        await own.fetch("/size/3")
        await asyncio.wait_for(own.server.wait_closed(), 20)
        assert (await own.fetch("/size/3")).reused is False

    in_room(tmp_path, scenario, idle_timeout=0.1)


def test_a_closed_pool_serves_what_is_under_way(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        asked = own.ask("/wait")
        await own.origin.gate.reached.wait()
        own.pool.close(10.0)
        own.origin.gate.opened.set()
        assert await asked.ended is reasons.COMPLETED
        await asyncio.wait_for(own.server.wait_closed(), 20)

    in_room(tmp_path, scenario)


def test_a_closed_pool_cuts_what_takes_too_long(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        asked = own.ask("/wait")
        await own.origin.gate.reached.wait()
        own.pool.close(0.05)
        assert await asyncio.wait_for(asked.ended, 20) is reasons.REMOVED
        await asyncio.wait_for(own.server.wait_closed(), 20)

    in_room(tmp_path, scenario)


@pytest.mark.parametrize(("wanted", "seconds"), [(60.0, 5.0), (1.5, 0.5)])
def test_signs_of_life_are_asked_for_within_the_idle_timeout(
    tmp_path: Path, wanted: float, seconds: float
) -> None:
    """The backend's, if that is the shorter one: requests may be silent for long."""

    async def scenario(own: Room) -> None:
        await own.fetch("/size/1")
        (connection,) = own.pool._connections
        assert connection._ping_timer is not None
        left = connection._ping_timer.deadline - own.pool.runtime.now()
        assert left <= seconds

    def patient(configuration: QuicConfiguration) -> None:
        configuration.idle_timeout = wanted

    in_room(tmp_path, scenario, patient)


def test_a_backend_that_fell_silent_is_found_dead(tmp_path: Path) -> None:
    async def scenario(own: Room) -> None:
        asked = own.ask("/wait")
        await own.origin.gate.reached.wait()
        (connection,) = own.pool._connections
        connection.on_ping_due()
        own.server.fall_silent()
        connection.on_ping_due()
        assert not asked.ended.done()
        connection.on_ping_due()
        assert await asyncio.wait_for(asked.ended, 20) is reasons.UPSTREAM_CONNECTION_LOST

    in_room(tmp_path, scenario)


def test_a_backend_whose_port_is_closed_gets_no_more_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed: nothing told us but its host, when it was next spoken to."""
    monkeypatch.setattr(quic, "DOUBT_SECONDS", 0.2)

    async def scenario(own: Room) -> None:
        asked = own.ask("/wait")
        await own.origin.gate.reached.wait()
        (connection,) = own.pool._connections
        own.server.fall_silent()
        own.origin.vanish()
        lost = own.ask("/size/1")
        await until(lambda: connection.session.held_back)
        # In doubt, it is given to nobody, and another one cannot be had.
        assert await (await own.fetch("/size/1")).ended is reasons.CONNECT_REFUSED
        for each in (asked, lost):
            assert await asyncio.wait_for(each.ended, 20) is reasons.UPSTREAM_CONNECTION_LOST

    in_room(tmp_path, scenario)


def test_a_false_word_that_nobody_listens_costs_a_connection_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "DOUBT_SECONDS", 20.0)

    async def scenario(own: Room) -> None:
        asked = own.ask("/wait")
        await own.origin.gate.reached.wait()
        (connection,) = own.pool._connections
        connection.on_unreachable(ConnectionRefusedError())
        assert connection.session.capacity == 0
        await until(lambda: connection.session.capacity)
        own.origin.gate.opened.set()
        assert await asked.ended is reasons.COMPLETED
        assert own.origin.connections == 1

    in_room(tmp_path, scenario)


def test_a_second_word_that_nobody_listens_is_doubted_for_as_long_as_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "DOUBT_SECONDS", 20.0)

    async def scenario(own: Room) -> None:
        await own.fetch("/size/1")
        (connection,) = own.pool._connections
        assert isinstance(connection, quic.QuicConnection)
        connection.on_unreachable(ConnectionRefusedError())
        first = connection._doubt_timer
        assert first is not None
        assert first.active
        await until(lambda: connection.session.capacity)
        connection.on_unreachable(ConnectionRefusedError())
        assert not first.active
        second = connection._doubt_timer
        assert second is not None
        assert second.active
        connection.session.terminate(reasons.REMOVED)
        await connection.closed
        assert not second.active

    in_room(tmp_path, scenario)


class Upload(Asked):
    """A request whose end the backend's window has no room for."""

    SIZE = 5 * PIECE

    def on_connected(self, stream: Stream, reused: bool) -> None:
        self.stream = stream
        head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost")]
        stream.send_head([*head, (b":path", self.path.encode())], False)
        stream.send_data(bytes(self.SIZE), True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_that_retires_sends_the_end_of_its_last_request(
    tmp_path: Path, engine: str
) -> None:
    async def scenario(own: Room) -> None:
        asked = Upload("/early-response")
        own.pool.request(asked)
        assert await asyncio.wait_for(asked.ended, 20) is reasons.COMPLETED
        server = own.server
        (exchange,) = server._exchanges.values()
        own.pool.close(60.0)
        (connection,) = own.pool._connections
        # The native engine accepts no end that the backend's window has no room for.
        await until(lambda: connection.session.drained or engine == "native")
        server.begin_to_read()
        received = 0
        while (data := await asyncio.wait_for(exchange.arrived.get(), 20)) is not None:
            received += len(data)
        assert (received, exchange.reset) == (Upload.SIZE, False)
        await asyncio.wait_for(server.wait_closed(), 20)

    in_room(tmp_path, scenario, http3=replace(HTTP3, engine=engine))


def test_the_end_of_a_request_that_is_never_taken_is_waited_for_for_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic, "FINISH_SECONDS", 0.1)

    async def scenario(own: Room) -> None:
        asked = Upload("/early-response")
        own.pool.request(asked)
        assert await asyncio.wait_for(asked.ended, 20) is reasons.COMPLETED
        own.pool.close(60.0)
        await asyncio.wait_for(own.server.wait_closed(), 20)

    # The native engine takes it from nobody before the backend does.
    in_room(tmp_path, scenario, http3=replace(HTTP3, engine="aioquic"))


# --- changes ----------------------------------------------------------------------------------
def test_a_running_upstream_goes_over_to_http3_and_back(tmp_path: Path) -> None:
    """What is under way over HTTP/2 finishes there; both listen on the same port."""

    async def scenario() -> None:
        tls = server_context(tmp_path, ["h2"])
        async with Origin("h2", tls) as over_tcp:
            port = int(over_tcp.address.rpartition(":")[2])
            over_udp = Http3Origin(*write(shared_server(), tmp_path, "origin"), port=port)
            async with over_udp:
                settings = configuration(tmp_path, over_tcp.address, protocol="http2")
                async with spooky.Proxy(settings) as proxy:
                    client = await connect("h2", proxy.port)
                    waiting = await client.open("GET", "/wait")
                    await over_tcp.gate.reached.wait()
                    settings["upstream"]["backend"]["protocol"] = "http3"
                    await proxy.apply(settings)
                    assert (await client.fetch("GET", "/size/5")).status == 200
                    assert over_udp.gate.requests["/size/5"] == 1
                    over_tcp.gate.opened.set()
                    assert (await waiting.whole()).status == 200
                    settings["upstream"]["backend"]["protocol"] = "http2"
                    await proxy.apply(settings)
                    assert (await client.fetch("GET", "/size/6")).status == 200
                    assert over_tcp.gate.requests["/size/6"] == 1
                    await asyncio.wait_for(over_udp.servers[0].wait_closed(), 20)
                    await client.close()

    run(scenario)
