"""Requests for an authority that their connection was not made for (RFC 9110 section 7.4)."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration

import spooky
from spooky.generation.authorities import CoveredHosts, Handshake
from spooky.generation.certificates import ListenerTls
from spooky.generation.tcp_contexts import TcpContexts
from spooky.protocol.quic.certificates import CertificateSelector, ClientVerifier
from tests.certificates import ca, client_leaf, leaf, shared_server, write
from tests.protocol.quic.support import identity_of
from tests.support.client import Client, Http1Client, Http2Client, Http3Client
from tests.support.proxy import run
from tests.support.tls import plain_context

INGRESSES = ["h3", "h2", "h1"]


def run_with(
    directory: Path,
    listeners: list[tuple[list[str], bool]],
    scenario: Callable[[spooky.Proxy], Awaitable[None]],
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Run a scenario against listeners, each with the names of its certificate.

    Arguments:
        listeners: The names, and whether clients need a certificate.
    """
    authority, clients = ca(), ca("clients")
    (directory / "clients.pem").write_bytes(clients.certificate_pem)
    write(client_leaf("alice", clients), directory, "alice")
    entries = []
    for number, (names, demands) in enumerate(listeners):
        chain, key = write(leaf(names, authority), directory, f"server{number}")
        tls: dict[str, Any] = {"cert": str(chain), "key": str(key)}
        if demands:
            ca_file = str(directory / "clients.pem")
            tls["client_auth"] = {
                "enabled": True, "require_client_cert": True, "ca_file": ca_file,
            }  # fmt: skip
        entries.append({"address": f"127.0.0.{number + 1}", "port": 0, "tls": tls})
    settings: dict[str, Any] = {
        "version": 1,
        "listeners": entries,
        "access_log": {"enabled": False},
        "upstream": {
            "app": {
                "route": {"path_prefix": "/"},
                "backends": [{"id": "app", "address": "app:it"}],
            }
        },
    }
    change(settings)

    async def with_proxy() -> None:
        application = lambda request: spooky.Response(b"served")  # noqa: E731
        async with spooky.Proxy(settings, apps={"it": application}) as proxy:
            await scenario(proxy)

    run(with_proxy)


async def connect(
    ingress: str,
    place: tuple[str, int],
    server_name: str | None,
    directory: Path | None = None,
) -> Client:
    """Connect to a listener, with the client's certificate in a directory if one is given."""
    host, port = place
    if ingress == "h3":
        assert host == "127.0.0.1"
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name=server_name
        )
        if directory is not None:
            configuration.load_cert_chain(directory / "alice.pem", directory / "alice.key")
        return await Http3Client.connect(port, configuration)
    context = plain_context("h2" if ingress == "h2" else "http/1.1")
    if directory is not None:
        context.load_cert_chain(directory / "alice.pem", directory / "alice.key")
    streams = await asyncio.open_connection(
        host, port, ssl=context, server_hostname=server_name or ""
    )
    if ingress == "h1":
        return Http1Client(*streams)
    client = Http2Client(*streams)
    client.flush()
    return client


async def status(client: Client, authority: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the status of a request for an authority."""
    monkeypatch.setattr("tests.support.client.AUTHORITY", authority.encode())
    response = await client.fetch("GET", "/")
    return response.status


@pytest.mark.parametrize("ingress", INGRESSES)
def test_only_what_the_certificate_covers_may_be_asked_for(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["one.test", "*.wild.test", "127.0.0.1", "::1"]

    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], "one.test")
        for authority, expected in {
            "one.test": 200,
            "ONE.test:8443": 200,
            "one.test.": 200,
            "a.wild.test": 200,
            "127.0.0.1": 200,
            "[::1]:443": 200,
            "[0:0::1]": 200,
            "two.test": 421,
            "wild.test": 421,
            "a.b.wild.test": 421,
            "127.0.0.2": 421,
            "[::2]": 421,
            "xone.test": 421,
        }.items():
            assert await status(client, authority, monkeypatch) == expected, authority
        # The connection serves on.
        assert await status(client, "one.test", monkeypatch) == 200
        await client.close()

    run_with(tmp_path, [(names, False)], scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_it_is_the_certificate_that_was_served_that_counts(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another certificate of the listener may cover the authority: for another connection."""
    chain, key = write(leaf(["two.test"], ca()), tmp_path, "two")

    def change(settings: dict[str, Any]) -> None:
        settings["listeners"][0]["tls"]["certificates"] = [
            {"server_name": "two.test", "cert": str(chain), "key": str(key)}
        ]

    async def scenario(proxy: spooky.Proxy) -> None:
        for server_name, covered, other in (
            ("one.test", "one.test", "two.test"),
            ("two.test", "two.test", "one.test"),
            (None, "one.test", "two.test"),
        ):
            client = await connect(ingress, proxy.addresses[0], server_name)
            assert await status(client, covered, monkeypatch) == 200
            assert await status(client, other, monkeypatch) == 421
            await client.close()

    run_with(tmp_path, [(["one.test"], False)], scenario, change)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_a_wildcard_opens_no_host_that_asks_for_client_certificates(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], "open.a.test")
        assert await status(client, "open.a.test", monkeypatch) == 200
        assert await status(client, "closed.a.test", monkeypatch) == 421
        await client.close()
        if ingress != "h3":
            client = await connect(ingress, proxy.addresses[1], "closed.a.test", tmp_path)
            assert await status(client, "closed.a.test", monkeypatch) == 200
            await client.close()

    run_with(tmp_path, [(["*.a.test"], False), (["closed.a.test"], True)], scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_a_certificate_without_names_is_held_against_client_certificates_alone(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], "open.test")
        assert await status(client, "open.test", monkeypatch) == 200
        assert await status(client, "127.0.0.1", monkeypatch) == 200
        assert await status(client, "closed.test", monkeypatch) == 421
        await client.close()

    run_with(tmp_path, [([], False), (["closed.test"], True)], scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_an_address_need_not_be_covered_without_a_server_name(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], None)
        assert await status(client, "127.0.0.1:8443", monkeypatch) == 200
        assert await status(client, "[::1]", monkeypatch) == 200
        assert await status(client, "two.test", monkeypatch) == 421
        assert await status(client, "192.0.2.1", monkeypatch) == 421, "behind client certificates"
        await client.close()
        named = await connect(ingress, proxy.addresses[0], "one.test")
        assert await status(named, "127.0.0.1:8443", monkeypatch) == 421
        await named.close()

    run_with(tmp_path, [(["one.test"], False), (["192.0.2.1"], True)], scenario)


@pytest.mark.parametrize("other", [(["closed.a.test"], False), (["*.a.test"], True)])
def test_listeners_that_serve_a_host_alike_or_as_closely_take_nothing_away(
    tmp_path: Path, other: tuple[list[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect("h2", proxy.addresses[0], "closed.a.test")
        assert await status(client, "closed.a.test", monkeypatch) == 200
        await client.close()

    run_with(tmp_path, [(["*.a.test"], False), other], scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_the_check_can_be_switched_off_live(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {}

    async def scenario(proxy: spooky.Proxy) -> None:
        before = await connect(ingress, proxy.addresses[0], None)
        assert await status(before, "two.test", monkeypatch) == 421
        settings["listeners"][0]["tls"]["strict_authority"] = False
        await proxy.apply(settings)
        after = await connect(ingress, proxy.addresses[0], None)
        assert await status(before, "two.test", monkeypatch) == 200
        assert await status(after, "two.test", monkeypatch) == 200
        settings["listeners"][0]["tls"]["strict_authority"] = True
        await proxy.apply(settings)
        assert await status(before, "two.test", monkeypatch) == 421
        assert await status(after, "two.test", monkeypatch) == 421
        await before.close()
        await after.close()

    run_with(tmp_path, [(["one.test"], False)], scenario, settings.update)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_a_change_that_puts_a_host_behind_client_certificates_holds_for_connections_that_are_there(
    tmp_path: Path, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {}

    async def scenario(proxy: spooky.Proxy) -> None:
        client = await connect(ingress, proxy.addresses[0], "open.a.test")
        assert await status(client, "closed.a.test", monkeypatch) == 200
        closed = settings["listeners"].pop()
        await proxy.apply(settings)
        assert await status(client, "closed.a.test", monkeypatch) == 200
        settings["listeners"].append(closed | {"tls": closed["tls"] | demands})
        await proxy.apply(settings)
        assert await status(client, "closed.a.test", monkeypatch) == 421
        assert await status(client, "open.a.test", monkeypatch) == 200
        # That its own listener asks for the same from now on does not make up for it.
        settings["listeners"][0]["tls"].update(demands)
        await proxy.apply(settings)
        assert await status(client, "closed.a.test", monkeypatch) == 421
        assert await status(client, "open.a.test", monkeypatch) == 200
        await client.close()

    asked = {"enabled": True, "require_client_cert": True}
    demands = {"client_auth": asked | {"ca_file": str(tmp_path / "clients.pem")}}
    listeners = [(["*.a.test"], False), (["closed.a.test"], False)]
    run_with(tmp_path, listeners, scenario, settings.update)


@pytest.mark.parametrize("strict", [False, True])
def test_a_name_without_client_certificates_opens_no_name_that_has_no_identity(
    strict: bool,
) -> None:
    """Row 32: who asks for it by server name is refused, or is asked for a certificate."""
    demands = ClientVerifier([ca("clients").certificate], required=True)
    public = identity_of(shared_server())
    rest = identity_of(shared_server(), demands)
    selector = CertificateSelector({"pub.x.test": public}, rest, strict=strict)
    names = frozenset({"*.x.test"})
    handshake = Handshake(names, public.policy, True, "pub.x.test", selector.names)
    hosts = CoveredHosts(handshake, ListenerTls(selector, TcpContexts(selector), names), [])
    assert hosts.includes(b"pub.x.test")
    assert not hosts.includes(b"admin.x.test")


def test_a_host_longer_than_any_is_not_remembered() -> None:
    handshake = Handshake(frozenset(), b"", True, None, frozenset())
    selector = CertificateSelector({}, identity_of(shared_server()))
    hosts = CoveredHosts(handshake, ListenerTls(selector, TcpContexts(selector), frozenset()), [])
    assert hosts.includes(b"h" * 255)
    assert not hosts.includes(b"h" * 256)
    assert list(hosts.known) == [b"h" * 255]
