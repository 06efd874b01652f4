"""TLS sessions that backends let Spooky resume, and those that it must not."""

import ssl
from pathlib import Path

import pytest
from aioquic.tls import AlertHandshakeFailure, SessionTicket

import spooky
from spooky.protocol.quic.engines import ENGINES
from spooky.upstream.sessions import (
    SESSIONS_MAX,
    SUSPENDED_SECONDS,
    VERIFIED_FOR_SECONDS,
    Resumption,
    Sessions,
)
from tests.certificates import shared_ca, shared_server, write
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
    assert len(sessions) == SESSIONS_MAX
    taken = [sessions.take(2.0) for _ in range(SESSIONS_MAX + 1)]
    assert taken == [*((number, 1.0) for number in range(SESSIONS_MAX + 1, 1, -1)), None]


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
