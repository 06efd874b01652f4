"""Client certificates that are asked for by server name, on every ingress (attack 32)."""

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket

import spooky
from tests.edge.test_misdirected import INGRESSES, connect, run_with, status
from tests.support.client import Client, Http3Client
from tests.support.tls import plain_context

OPEN, CLOSED = "open.a.test", "closed.a.test"

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

RECORD_HEADER = 5


def demanded(directory: Path) -> dict[str, Any]:
    ca_file = str(directory / "clients.pem")
    return {"enabled": True, "require_client_cert": True, "ca_file": ca_file}


def run_by_name(
    directory: Path,
    scenario: Callable[[spooky.Proxy], Awaitable[None]],
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Run a scenario against a listener with one certificate, where one name needs a client's.

    Arguments:
        change: What else is configured; it is given the settings.
    """

    def with_names(settings: dict[str, Any]) -> None:
        tls = settings["listeners"][0]["tls"]
        entry = {"server_name": CLOSED, "cert": tls["cert"], "key": tls["key"]}
        tls["certificates"] = [entry | {"client_auth": demanded(directory)}]
        change(settings)

    run_with(directory, [(["*.a.test"], False)], scenario, with_names)


def turned_round(settings: dict[str, Any]) -> None:
    """Have the listener require what was required for a name, and a name exempt from it."""
    tls = settings["listeners"][0]["tls"]
    (entry,) = tls["certificates"]
    tls["client_auth"] = entry["client_auth"]
    entry |= {"server_name": OPEN, "client_auth": {"enabled": False}}


async def is_served(
    connecting: Awaitable[Client], name: str, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Return whether a client is that asks for a name."""
    try:
        # In TLS 1.3 a client learns only after its handshake that it was refused.
        return await status(await connecting, name, monkeypatch) == 200
    except (OSError, EOFError):
        return False


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("change", [lambda _: None, turned_round], ids=["asked", "exempt"])
def test_a_connection_is_good_for_the_names_that_ask_what_it_was_asked(
    tmp_path: Path,
    ingress: str,
    change: Callable[[dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One certificate covers both names, so that only client certificates tell them apart."""

    async def scenario(proxy: spooky.Proxy) -> None:
        place = proxy.addresses[0]
        for name, other, directory in ((OPEN, CLOSED, None), (CLOSED, OPEN, tmp_path)):
            client = await connect(ingress, place, name, directory)
            assert await status(client, name, monkeypatch) == 200
            assert await status(client, other, monkeypatch) == 421
            assert await status(client, name, monkeypatch) == 200
            await client.close()
        assert await is_served(connect(ingress, place, OPEN), OPEN, monkeypatch)
        assert not await is_served(connect(ingress, place, CLOSED), CLOSED, monkeypatch)

    run_by_name(tmp_path, scenario, change)


def without_default(settings: dict[str, Any]) -> None:
    """Have the default certificate be that of a name that asks for something else."""
    settings["listeners"][0]["tls"] |= {"cert": "", "key": ""}


def beside_another(settings: dict[str, Any]) -> None:
    """Add a listener without names: its wildcard must open none of the other's."""
    first = settings["listeners"][0]
    plain = {key: value for key, value in first["tls"].items() if key != "certificates"}
    settings["listeners"].append(first | {"address": "127.0.0.2", "tls": plain})
    settings["listeners"].reverse()
    settings["listeners"][0]["address"], first["address"] = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("change", [without_default, beside_another], ids=lambda it: it.__name__)
def test_a_certificate_shown_without_asking_opens_no_name_that_asks(
    tmp_path: Path,
    ingress: str,
    change: Callable[[dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], OPEN)
        assert await status(client, OPEN, monkeypatch) == 200
        assert await status(client, CLOSED, monkeypatch) == 421
        await client.close()

    run_by_name(tmp_path, scenario, change)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_it_changes_while_connections_live(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {}

    async def scenario(proxy: spooky.Proxy) -> None:
        tls = settings["listeners"][0]["tls"]
        names = tls.pop("certificates")
        await proxy.apply(settings)
        before = await connect(ingress, proxy.addresses[0], OPEN)
        assert await status(before, CLOSED, monkeypatch) == 200
        tls["certificates"] = names
        await proxy.apply(settings)
        assert await status(before, CLOSED, monkeypatch) == 421
        assert await status(before, OPEN, monkeypatch) == 200
        known = await connect(ingress, proxy.addresses[0], CLOSED, tmp_path)
        assert await status(known, CLOSED, monkeypatch) == 200
        names[0]["client_auth"] = None
        await proxy.apply(settings)
        # What it was made for, it is good for, whatever is asked of others from now on.
        assert await status(known, CLOSED, monkeypatch) == 200
        assert await status(before, CLOSED, monkeypatch) == 200
        for client in (before, known):
            await client.close()

    run_by_name(tmp_path, scenario, settings.update)


# --- resumption -------------------------------------------------------------------------------
class Talk:
    """A TLS client whose bytes are seen on their way."""

    def __init__(self, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None) -> None:
        self._name = name
        self._received, self._sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._received, self._sent, server_hostname=name, session=session
        )

    async def shake_hands(
        self, place: tuple[str, int], rewrite: Callable[[bytes], bytes] = bytes
    ) -> bytes:
        """Connect, ask for nothing in particular, and return what came back.

        Arguments:
            rewrite: What becomes of the hello.

        Raises:
            OSError: It was refused.
        """
        reader, writer = await asyncio.open_connection(*place)
        try:
            while True:
                try:
                    self.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(rewrite(self._sent.read()))
                    rewrite = bytes
                    await self._read(reader)
            self.tls.write(b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n" % self._name.encode())
            writer.write(self._sent.read())
            while True:
                try:
                    return self.tls.read(1024)
                except ssl.SSLWantReadError:
                    await self._read(reader)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        data = await reader.read(65_536)
        if not data:
            raise ConnectionResetError("the proxy closed")
        self._received.write(data)


def client_context(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, directory: Path | None = None
) -> ssl.SSLContext:
    context = plain_context()
    context.minimum_version = context.maximum_version = version
    if directory is not None:
        context.load_cert_chain(directory / "alice.pem", directory / "alice.key")
    return context


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
def test_no_session_over_tcp_goes_from_a_name_to_one_that_asks_for_something_else(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        place = proxy.addresses[0]
        anonymous, alice = client_context(version), client_context(version, tmp_path)
        first = Talk(anonymous, OPEN, None)
        assert b" 200 " in await first.shake_hands(place)
        again = Talk(anonymous, OPEN, first.tls.session)
        assert b" 200 " in await again.shake_hands(place)
        assert again.tls.session_reused
        with pytest.raises(OSError):  # noqa: PT011 - an alert, or the end
            await Talk(anonymous, CLOSED, first.tls.session).shake_hands(place)
        known = Talk(alice, CLOSED, None)
        assert b" 200 " in await known.shake_hands(place)
        elsewhere = Talk(alice, OPEN, known.tls.session)
        assert b" 200 " in await elsewhere.shake_hands(place)
        assert not elsewhere.tls.session_reused

    run_by_name(tmp_path, scenario)


def test_no_session_over_quic_goes_from_a_name_to_one_that_asks_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        async def client(name: str, ticket: SessionTicket | None) -> Http3Client:
            configuration = QuicConfiguration(
                alpn_protocols=H3_ALPN,
                verify_mode=ssl.CERT_NONE,
                server_name=name,
                session_ticket=dataclasses.replace(ticket, server_name=name) if ticket else None,
            )
            return await Http3Client.connect(proxy.addresses[0][1], configuration)

        ticket = None
        for _ in range(2):
            made = await client(OPEN, ticket)
            assert await status(made, OPEN, monkeypatch) == 200
            assert made.protocol._quic.tls.session_resumed is (ticket is not None)
            ticket = made.tickets[0]
            await made.close()
        assert not await is_served(client(CLOSED, ticket), CLOSED, monkeypatch)

    run_by_name(tmp_path, scenario)


# --- hellos that are hard to read -------------------------------------------------------------
def in_two_records(hello: bytes) -> bytes:
    """Return a hello whose server name nobody reads who looks at the first record only."""
    header, message = hello[:3], hello[RECORD_HEADER:]
    pieces = message[:40], message[40:]
    return b"".join(header + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("version", VERSIONS, ids=["TLS 1.2", "TLS 1.3"])
def test_a_hello_in_pieces_does_not_get_around_client_certificates(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        place = proxy.addresses[0]
        answer = await Talk(client_context(version), OPEN, None).shake_hands(place, in_two_records)
        assert b" 200 " in answer
        for directory in (None, tmp_path):
            with pytest.raises(ConnectionResetError):
                await Talk(client_context(version, directory), CLOSED, None).shake_hands(
                    place, in_two_records
                )

    run_by_name(tmp_path, scenario)
