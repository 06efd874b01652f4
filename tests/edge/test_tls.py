"""Certificates by server name and client certificates, on both transports."""

import asyncio
import dataclasses
import datetime
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio.client import connect
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket
from cryptography import x509

import spooky
from spooky.edge import settings, tcp_connection
from tests.certificates import Credentials, ca, client_leaf, expired_client, leaf, write
from tests.support.client import Client, Http1Client, Http2Client, Http3Client
from tests.support.proxy import run
from tests.support.tls import plain_context

INGRESSES = ["h3", "h2", "h1"]

CRYPTO_ERROR = 0x100
"""What QUIC adds to a TLS alert (RFC 9001 section 4.8)."""


class Listener:
    """A proxy with several certificates, and what it takes to connect to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = ca()
        self.client_authority = ca("clients")
        self.tls: dict[str, Any] = {}
        self.performance: dict[str, Any] = {}
        for name in ("default.test", "exact.test", "*.wild.test"):
            stem = name.replace("*", "any")
            names = [name, "localhost"] if name == "default.test" else [name]
            chain, key = write(leaf(names, self.authority), directory, stem)
            if name == "default.test":
                self.tls |= {"cert": str(chain), "key": str(key), "certificates": []}
            else:
                self.tls["certificates"].append(
                    {"server_name": name, "cert": str(chain), "key": str(key)}
                )

    def demand_client_certificate(self, required: bool) -> None:
        path = self.directory / "client-ca.pem"
        path.write_bytes(self.client_authority.certificate_pem)
        self.tls["client_auth"] = {
            "enabled": True,
            "require_client_cert": required,
            "ca_file": str(path),
        }

    def run(self, scenario: Callable[[int], Awaitable[None]]) -> None:
        """Run a scenario with the port of a running proxy."""

        def application(request: spooky.Request) -> spooky.Response:
            return spooky.Response(b"served")

        async def with_proxy() -> None:
            configuration = {
                "version": 1,
                "listen": {"address": "127.0.0.1", "port": 0, "tls": self.tls},
                "access_log": {"enabled": False},
                "performance": self.performance,
                "upstream": {
                    "app": {
                        "route": {"path_prefix": "/"},
                        "backends": [{"id": "app", "address": "app:it"}],
                    }
                },
            }
            async with spooky.Proxy(configuration, apps={"it": application}) as proxy:
                await scenario(proxy.port)

        run(with_proxy)


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    return Listener(tmp_path)


async def names_served(ingress: str, port: int, server_name: str | None) -> list[str]:
    """Return the names of the certificate that a handshake presents."""
    if ingress == "h3":
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=server_name
        )
        client = await Http3Client.connect(port, configuration)
        certificate = client.protocol._quic.tls._peer_certificate
        await client.close()
    else:
        context = plain_context("h2" if ingress == "h2" else "http/1.1")
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=server_name or ""
        )
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(der)
        writer.transport.abort()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [each for each in names.value.get_values_for_type(x509.DNSName) if each != "localhost"]


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("exact.test", "exact.test"),
        ("EXACT.test", "exact.test"),
        ("a.wild.test", "*.wild.test"),
        ("a.b.wild.test", "default.test"),
        ("unknown.test", "default.test"),
        (None, "default.test"),
    ],
)
def test_the_server_name_selects_the_certificate(
    listener: Listener, ingress: str, asked: str | None, served: str
) -> None:
    """RFC 6066 section 3; a wildcard stands for one label (RFC 9525 section 6.3)."""

    async def scenario(port: int) -> None:
        assert await names_served(ingress, port, asked) == [served]

    listener.run(scenario)


async def quic_close_code(port: int, configuration: QuicConfiguration) -> int:
    """Return the error code with which a connection is closed to us."""
    async with connect(
        "127.0.0.1", port, configuration=configuration, wait_connected=False
    ) as protocol:
        protocol.transmit()
        # aioquic tells it only when its draining period is over.
        async with asyncio.timeout(30):
            while (event := protocol._quic._close_event) is None:
                await asyncio.sleep(0.01)
        return event.error_code


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("asked", ["unknown.test", None])
def test_strict_names_refuse_what_matches_no_certificate(
    listener: Listener, ingress: str, asked: str | None
) -> None:
    listener.tls["strict_sni"] = True

    async def scenario(port: int) -> None:
        assert await names_served(ingress, port, "exact.test") == ["exact.test"]
        if ingress == "h3":
            configuration = QuicConfiguration(
                alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=asked
            )
            assert await quic_close_code(port, configuration) == CRYPTO_ERROR + 112
            return
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await names_served(ingress, port, asked)

    listener.run(scenario)


async def fetch_with(ingress: str, port: int, credentials: Credentials | None, folder: Path) -> int:
    """Make a request with a client certificate, and return the status."""
    client: Client
    if ingress == "h3":
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="default.test"
        )
        if credentials is not None:
            configuration.certificate = credentials.certificate
            configuration.certificate_chain = list(credentials.intermediates)
            configuration.private_key = credentials.key
        client = await Http3Client.connect(port, configuration)
    else:
        context = plain_context()
        if credentials is not None:
            context.load_cert_chain(*write(credentials, folder, "client"))
        kind = Http2Client if ingress == "h2" else Http1Client
        client = await kind.connect(port, context)
    try:
        stream = await client.open("GET", "/")
        response = await asyncio.wait_for(stream.whole(), 30)
        if response.cut is not None:
            raise ConnectionError(response.cut)
        return response.status
    finally:
        await client.close()


@pytest.mark.parametrize("ingress", INGRESSES)
def test_a_client_with_a_good_certificate_is_served(listener: Listener, ingress: str) -> None:
    listener.demand_client_certificate(required=True)
    alice = client_leaf("alice", listener.client_authority)

    async def scenario(port: int) -> None:
        assert await fetch_with(ingress, port, alice, listener.directory) == 200

    listener.run(scenario)


def bad_credentials(listener: Listener, kind: str) -> Credentials | None:
    """Return what a client must not get in with."""
    match kind:
        case "missing":
            return None
        case "wrong authority":
            return client_leaf("mallory", ca("others"))
        case "self-signed":
            return client_leaf("mallory", None)
        case "expired":
            return expired_client("mallory", listener.client_authority)
        case _:
            return leaf(["mallory.test"], listener.client_authority)


BAD = ["missing", "wrong authority", "self-signed", "expired", "server purpose"]


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("kind", BAD)
def test_a_client_without_a_good_certificate_is_refused(
    listener: Listener, ingress: str, kind: str
) -> None:
    listener.demand_client_certificate(required=True)
    credentials = bad_credentials(listener, kind)

    async def scenario(port: int) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await fetch_with(ingress, port, credentials, listener.directory)

    listener.run(scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("kind", BAD)
def test_an_optional_certificate_may_be_missing_but_not_bad(
    listener: Listener, ingress: str, kind: str
) -> None:
    listener.demand_client_certificate(required=False)
    credentials = bad_credentials(listener, kind)

    async def scenario(port: int) -> None:
        if kind == "missing":
            assert await fetch_with(ingress, port, None, listener.directory) == 200
            return
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await fetch_with(ingress, port, credentials, listener.directory)

    listener.run(scenario)


async def resume_on_quic(
    port: int, credentials: Credentials, ticket: SessionTicket | None
) -> tuple[SessionTicket, bool]:
    """Make a request; return a ticket for the next, and whether the session was resumed."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        verify_mode=ssl.CERT_NONE,
        server_name="default.test",
        certificate=credentials.certificate,
        certificate_chain=list(credentials.intermediates),
        private_key=credentials.key,
        session_ticket=ticket,
    )
    client = await Http3Client.connect(port, configuration)
    try:
        response = await asyncio.wait_for(client.fetch("GET", "/"), 30)
        if response.cut is not None:
            raise ConnectionError(response.cut)
        return client.tickets[0], client.protocol._quic.tls.session_resumed
    finally:
        await client.close()


def resume_on_tcp(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    """Make a request; return the session, and whether it was resumed."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as tcp,
        context.wrap_socket(tcp, server_hostname="default.test", session=session) as client,
    ):
        client.sendall(b"GET /size/1 HTTP/1.1\r\nhost: default.test\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        if not answer:
            raise ConnectionError("closed without an answer")
        # 421 where the certificate is for another name: it is the session that is asked about.
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 421"))
        return client.session, bool(client.session_reused)


class Clock:
    """The time of day, as the modules ``time`` and ``datetime`` tell it.

    Attributes:
        ahead: Of the machine's.
    """

    UTC = datetime.UTC

    def __init__(self) -> None:
        self.datetime = self
        self.ahead = datetime.timedelta()

    def now(self, zone: datetime.tzinfo) -> datetime.datetime:
        return datetime.datetime.now(zone) + self.ahead

    def time(self) -> float:
        return self.now(self.UTC).timestamp()


ENDING = ["the certificate", "an intermediate", "an authority", "one that nothing depends on"]


def ending_client(listener: Listener, what: str, end: datetime.timedelta) -> Credentials:
    """Return the credentials of a client, of which something ends then."""
    authority = listener.client_authority
    soon = ca("soon over", issuer=authority, valid_for=end)
    match what:
        case "the certificate":
            return client_leaf(what, authority, not_after=datetime.datetime.now(datetime.UTC) + end)
        case "an intermediate":
            return client_leaf(what, soon)
        case "an authority":
            root = ca("root that is soon over", valid_for=end)
            with (listener.directory / "client-ca.pem").open("ab") as authorities:
                authorities.write(root.certificate_pem)
            return client_leaf(what, root)
        case _:
            steady = client_leaf(what, authority)
            return dataclasses.replace(steady, intermediates=(soon.certificate,))


@pytest.mark.parametrize(
    ("transport", "required"), [("QUIC", False), ("TLS 1.2", True), ("TLS 1.2", False)]
)
def test_a_client_that_resumes_is_verified_again(
    listener: Listener, transport: str, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 32: what vouches for it may have ended since the session began."""
    listener.demand_client_certificate(required)
    end = datetime.timedelta(minutes=30)
    clients = {what: ending_client(listener, what, end) for what in ENDING}
    clock = Clock()
    monkeypatch.setattr(settings, "time", clock)
    monkeypatch.setattr(tcp_connection, "datetime", clock)

    async def scenario(port: int) -> None:
        async def fetch(what: str, session: Any) -> tuple[Any, bool]:
            if transport == "QUIC":
                return await resume_on_quic(port, clients[what], session)
            return await asyncio.to_thread(resume_on_tcp, port, contexts[what], session)

        contexts = {
            what: client_context(credentials, listener.directory, transport)
            for what, credentials in clients.items()
        }
        sessions = {}
        for what in ENDING:
            session, resumed = await fetch(what, None)
            assert not resumed
            sessions[what], resumed = await fetch(what, session)
            assert resumed
        clock.ahead = end + datetime.timedelta(minutes=1)
        for what, session in sessions.items():
            if what == ENDING[-1]:
                _, resumed = await fetch(what, session)
                assert resumed
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await fetch(what, session)

    listener.run(scenario)


def test_with_tls_1_3_a_client_resumes_nothing_and_is_verified_each_time(
    listener: Listener,
) -> None:
    """OpenSSL would not look at the certificate again, so there are no tickets."""
    listener.demand_client_certificate(required=True)
    ended = datetime.timedelta(minutes=-1)
    clients = {what: ending_client(listener, what, ended) for what in ENDING}

    async def scenario(port: int) -> None:
        for what, credentials in clients.items():
            context = client_context(credentials, listener.directory, "TLS 1.3")
            if what == ENDING[-1]:
                session, _ = await asyncio.to_thread(resume_on_tcp, port, context, None)
                _, resumed = await asyncio.to_thread(resume_on_tcp, port, context, session)
                assert not resumed
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asyncio.to_thread(resume_on_tcp, port, context, None)

    listener.run(scenario)


def client_context(credentials: Credentials, folder: Path, transport: str) -> ssl.SSLContext:
    """Return the context of a client on TCP that trusts whoever answers."""
    context = plain_context()
    context.load_cert_chain(*write(credentials, folder, "client"))
    context.maximum_version = (
        ssl.TLSVersion.TLSv1_2 if transport == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    )
    return context


def test_a_client_that_speaks_none_of_our_protocols_is_refused_by_alert(
    listener: Listener,
) -> None:
    """RFC 7301 section 3.2: no_application_protocol."""

    async def scenario(port: int) -> None:
        configuration = QuicConfiguration(alpn_protocols=["other"], verify_mode=ssl.CERT_NONE)
        assert await quic_close_code(port, configuration) == CRYPTO_ERROR + 120
        context = plain_context("other")
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            await asyncio.open_connection("127.0.0.1", port, ssl=context)

    listener.run(scenario)


def test_a_hello_that_comes_in_pieces_is_understood(listener: Listener) -> None:
    listener.tls["strict_sni"] = True

    async def scenario(port: int) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = plain_context()
        client = context.wrap_bio(incoming, outgoing, server_hostname="unknown.test")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(hello), 100):
            writer.write(hello[start : start + 100])
            await asyncio.sleep(0.01)
        incoming.write(await reader.read(100))
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            client.do_handshake()
        writer.close()

    listener.run(scenario)


def test_a_handshake_that_stalls_is_ended(listener: Listener) -> None:
    """Attack 10: a TCP client that says nothing does not hold a place for ever."""
    listener.performance["client_head_timeout_ms"] = 1000

    async def scenario(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(silent, 1), 30) == b""

    listener.run(scenario)
