"""TLS sessions that backends let Spooky resume, and those that it must not."""

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aioquic.tls import AlertHandshakeFailure, SessionTicket

import spooky
from spooky._core.turns import Turns
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.quic.engines import ENGINES
from spooky.upstream.connection import TcpConnection
from spooky.upstream.sessions import (
    SESSIONS_MAX,
    SUSPENDED_SECONDS,
    VERIFIED_FOR_SECONDS,
    Resumption,
    Sessions,
)
from tests.certificates import shared_ca, shared_server, write
from tests.support.loop import Loop
from tests.support.origin import Origin
from tests.support.origin_h3 import Http3Origin
from tests.support.proxy import configuration, connect, run


def origin_of(kind: str, directory: Path) -> Origin | Http3Origin:
    """Return a backend whose certificate the shared authority vouches for."""
    chain, key = write(shared_server(), directory, "origin")
    if kind == "http3":
        return Http3Origin(chain, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2" if kind == "http2" else "http/1.1"])
    return Origin("h2" if kind == "http2" else "h1", context)


@pytest.mark.parametrize(
    ("kind", "engine", "loop"),
    [
        *[("http3", engine, "uvloop") for engine in ENGINES],
        ("http2", None, "uvloop"),
        ("http1", None, "uvloop"),
        ("http1", None, "asyncio"),
    ],
)
def test_a_second_connection_resumes_and_one_of_another_identity_does_not(
    tmp_path: Path, kind: str, engine: str | None, loop: str
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(shared_ca().certificate_pem)
    tls = {"verify_certificates": True, "ca_file": str(authority)}

    async def scenario() -> None:
        async with origin_of(kind, tmp_path) as origin:
            settings = configuration(tmp_path, origin.address, protocol=kind, tls=tls)
            if engine is not None:
                settings["performance"]["quic_engine"] = engine
            async with spooky.Proxy(settings) as proxy:
                client = await connect("h2", proxy.port)
                for _ in range(3):
                    assert (await client.fetch("GET", "/size/5")).status == 200
                    origin.close_connections()
                assert origin.resumed == [False, True, True]
                settings["upstream"]["backend"]["tls"] = {**tls, "strict_sni": False}
                await proxy.apply(settings)
                assert (await client.fetch("GET", "/size/5")).status == 200
                assert origin.resumed == [False, True, True, False]
                await client.close()

    run(scenario, loop)


def test_sessions_are_few_and_each_is_used_once() -> None:
    sessions: Sessions[int] = Sessions()
    for number in range(SESSIONS_MAX + 2):
        sessions.put(number, 1.0)
    taken = [sessions.take(2.0) for _ in range(SESSIONS_MAX + 1)]
    assert taken == [*((number, 1.0) for number in range(SESSIONS_MAX + 1, 1, -1)), None]


def test_sessions_are_offered_exactly_while_there_is_one_to_take() -> None:
    sessions: Sessions[str] = Sessions()
    assert not sessions.offers(0.0)
    sessions.put("one", 0.0)
    assert sessions.offers(VERIFIED_FOR_SECONDS)
    assert not sessions.offers(VERIFIED_FOR_SECONDS + 1.0)
    sessions.suspend(1.0)
    sessions.put("two", 2.0)
    assert not sessions.offers(SUSPENDED_SECONDS)
    assert sessions.offers(1.0 + SUSPENDED_SECONDS)
    assert sessions.take(1.0 + SUSPENDED_SECONDS) is not None
    assert not sessions.offers(1.0 + SUSPENDED_SECONDS)


def test_a_certificate_is_verified_again_after_a_time_whatever_was_resumed_meanwhile() -> None:
    sessions: Sessions[str] = Sessions()
    first = Resumption(sessions, 10.0)
    assert first.session is None
    first.complete(False, 11.0)
    first.keep("one")
    second = Resumption(sessions, 11.0 + VERIFIED_FOR_SECONDS)
    assert second.session == "one"
    second.complete(True, 12.0 + VERIFIED_FOR_SECONDS)
    second.keep("two")
    third = Resumption(sessions, 12.0 + VERIFIED_FOR_SECONDS)
    assert third.session is None


def test_after_a_handshake_that_failed_to_resume_nothing_is_resumed_for_a_time() -> None:
    sessions: Sessions[str] = Sessions()
    sessions.put("one", 0.0)
    sessions.suspend(1.0)
    sessions.put("two", 1.0)
    assert sessions.take(SUSPENDED_SECONDS) is None
    assert sessions.take(1.0 + SUSPENDED_SECONDS) == ("two", 1.0)


class Tls:
    """What a transport says of TLS, and how often it was asked for its session."""

    session_reused = False

    def __init__(self) -> None:
        self.asked = 0
        self.has_ticket = False

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"

    @property
    def session(self) -> "Tls":
        self.asked += 1
        return self


def test_a_session_is_looked_for_as_bytes_come_and_not_once_for_each_dial() -> None:
    tls, sessions = Tls(), Sessions[Any]()
    runtime = Turns(Loop(), lambda: 1.0, 0.001)
    pool: Any = SimpleNamespace(
        runtime=runtime,
        sessions=sessions,
        dial_settings=SimpleNamespace(protocol="http1"),
        settings=SimpleNamespace(http1=Http1Limits()),
        on_closed=lambda connection: None,
    )
    connection = TcpConnection(pool)
    transport: Any = SimpleNamespace(
        get_extra_info={"ssl_object": tls}.get, set_write_buffer_limits=lambda high: None
    )
    connection.connection_made(transport)
    # Backends may say something before their tickets.
    for came, asked in ((0, 0), (60, 1), (60, 1), (119, 1), (120, 2), (239, 2)):
        connection.carrier.bytes_received = came
        connection.offer_session()
        assert (tls.asked, sessions.offers(1.0)) == (asked, False)
    tls.has_ticket = True
    connection.carrier.bytes_received = 240
    connection.on_closed()
    assert (tls.asked, sessions.take(1.0)) == (3, (tls, 1.0))
    connection.carrier.bytes_received = 1000
    connection.offer_session()
    assert tls.asked == 3


def refuse(ticket: bytes) -> SessionTicket | None:
    """Refuse a session as some servers do: with the whole handshake."""
    raise AlertHandshakeFailure("no session of mine")


def test_a_backend_that_refuses_its_own_sessions_serves_every_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        origin = Http3Origin(*write(shared_server(), tmp_path, "origin"))
        origin.find_session = refuse
        async with origin:
            settings = configuration(tmp_path, origin.address, protocol="http3")
            settings["resilience"] = {"retry": {"conditions": []}}
            async with spooky.Proxy(settings) as proxy:
                client = await connect("h2", proxy.port)
                for connections in (1, 3, 4):
                    assert (await client.fetch("GET", "/size/5")).status == 200
                    assert origin.connections == connections
                    origin.close_connections()
                    await origin.servers[-1].wait_closed()
                await client.close()

    run(scenario)
