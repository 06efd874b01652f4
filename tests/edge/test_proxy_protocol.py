"""Clients behind proxies: who is believed about where they are, on every ingress."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration

from spooky._core import reasons
from spooky.protocol.proxy_header import V2_SIGNATURE
from tests.edge.test_ingress import counted
from tests.edge.test_stateless import STRAY, wire
from tests.support.client import Client, Http1Client, Http2Client, Http3Client
from tests.support.proxy import INGRESSES, Setup, run, running
from tests.support.tls import plain_context

CLIENT = ("203.0.113.9", 4711)
TRUSTED = {"trusted_cidrs": ["127.0.0.0/8"]}
NOBODY = {"trusted_cidrs": ["192.0.2.0/24"]}

V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n"


def v2(layer: int, command: int = 0x21) -> bytes:
    addresses = socket.inet_aton(CLIENT[0]) + socket.inet_aton("127.0.0.1")
    body = addresses + struct.pack("!HH", CLIENT[1], 443)
    return V2_SIGNATURE + bytes((command, 0x10 | layer)) + struct.pack("!H", len(body)) + body


class Balancer(asyncio.DatagramProtocol):
    """Passes datagrams of one client on, with headers before them.

    Arguments:
        port: Of the proxy.
        header: What to put before a datagram.
        only_first: Whether before the first alone.
    """

    def __init__(self, port: int, header: bytes, only_first: bool) -> None:
        self._header = header
        self._only_first = only_first
        self._port = port
        self._client: tuple[str, int] | None = None
        self._upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._upstream.setblocking(False)
        self._upstream.connect(("127.0.0.1", port))

    async def start(self) -> int:
        """Listen; return on which port."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        loop.add_reader(self._upstream.fileno(), self._on_answer)
        return int(self.transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._client = addr
        self._upstream.send(self._header + data)
        if self._only_first:
            self._header = b""

    def _on_answer(self) -> None:
        self.transport.sendto(self._upstream.recv(65535), self._client)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._upstream.fileno())
        self._upstream.close()
        self.transport.close()


async def connect_tcp(ingress: str, port: int, pieces: list[bytes]) -> Client:
    """Connect a client that sends bytes before its hello, one piece after the other."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        await loop.sock_sendall(raw, piece)
        await asyncio.sleep(0.01)
    streams = await asyncio.open_connection(
        sock=raw,
        ssl=plain_context("http/1.1" if ingress == "h1" else "h2"),
        server_hostname="localhost",
    )
    if ingress == "h1":
        return Http1Client(*streams)
    client = Http2Client(*streams)
    client.flush()
    return client


def behind(
    directory: Path,
    settings: dict[str, Any],
    scenario: Callable[[Setup], Awaitable[None]],
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Run a scenario against a listener with some settings of ``client_address``."""

    def configure(configuration: dict[str, Any]) -> None:
        configuration["listen"]["client_address"] = settings
        configuration["access_log"] = {
            "enabled": True, "format": "json", "path": str(directory / "access.log"),
        }  # fmt: skip
        change(configuration)

    async def with_proxy() -> None:
        async with running(directory, "h1", "h1", configure) as setup:
            await scenario(setup)

    run(with_proxy)


async def seen(client: Client, headers: list[tuple[bytes, bytes]] = []) -> dict[str, str]:  # noqa: B006
    """Return the fields of a request as the backend sees them."""
    response = await client.fetch("GET", "/inspect", headers)
    assert response.status == 200
    return dict(json.loads(bytes(response.body))["headers"])


async def refused(setup: Setup, code: str) -> int:
    """Return how many connections were refused for a reason, once one was."""
    for _ in range(300):
        count = counted(setup.proxy, "connections_refused_total", reason=code)
        if count:
            return count
        await asyncio.sleep(0.01)
    return 0


@pytest.mark.parametrize("ingress", ["h2", "h1"])
@pytest.mark.parametrize("mode", ["accept", "require"])
@pytest.mark.parametrize(
    "pieces",
    [[V1], [v2(1)], [bytes((byte,)) for byte in v2(1)], [V1[:30], V1[30:]]],
    ids=["v1", "v2", "v2 byte by byte", "v1 in two"],
)
def test_a_trusted_proxy_says_on_tcp_who_the_client_is(
    tmp_path: Path, ingress: str, mode: str, pieces: list[bytes]
) -> None:
    async def scenario(setup: Setup) -> None:
        client = await connect_tcp(ingress, setup.proxy.port, pieces)
        assert (await seen(client))["x-forwarded-for"] == CLIENT[0]
        await client.close()

    behind(tmp_path, {**TRUSTED, "proxy_protocol": mode}, scenario)
    line = json.loads((tmp_path / "access.log").read_text().splitlines()[0])
    assert line["client"] == CLIENT[0]


@pytest.mark.parametrize("only_first", [True, False])
@pytest.mark.parametrize("retry", ["never", "always"])
def test_a_trusted_proxy_says_on_udp_who_the_client_is(
    tmp_path: Path, only_first: bool, retry: str
) -> None:
    async def scenario(setup: Setup) -> None:
        balancer = Balancer(setup.proxy.port, v2(2), only_first)
        client = await Http3Client.connect(await balancer.start())
        assert (await seen(client))["x-forwarded-for"] == CLIENT[0]
        await client.close()
        balancer.close()

    behind(
        tmp_path,
        {**TRUSTED, "proxy_protocol": "require"},
        scenario,
        lambda settings: settings["performance"].update(quic_retry=retry),
    )


@pytest.mark.parametrize("only_first", [True, False])
@pytest.mark.parametrize(
    "later", [{}, {**NOBODY, "proxy_protocol": "require"}, {**TRUSTED, "proxy_protocol": "accept"}]
)
def test_a_change_of_who_is_believed_ends_no_connection_on_udp(
    tmp_path: Path, only_first: bool, later: dict[str, Any]
) -> None:
    configured: dict[str, Any] = {}

    async def scenario(setup: Setup) -> None:
        balancer = Balancer(setup.proxy.port, v2(2), only_first)
        announced = await Http3Client.connect(await balancer.start())
        assert (await seen(announced))["x-forwarded-for"] == CLIENT[0]
        configured["listen"]["client_address"] = later
        await setup.proxy.apply(configured)
        assert (await seen(announced))["x-forwarded-for"] == CLIENT[0]
        await announced.close()
        balancer.close()

    settings = {**TRUSTED, "proxy_protocol": "require"}
    behind(tmp_path, settings, scenario, lambda each: configured.update(each))


def test_requiring_a_header_ends_no_connection_on_udp_that_had_none(tmp_path: Path) -> None:
    configured: dict[str, Any] = {}

    async def scenario(setup: Setup) -> None:
        client = await setup.client("h3")
        assert (await seen(client))["x-forwarded-for"] == "127.0.0.1"
        configured["listen"]["client_address"] = {**NOBODY, "proxy_protocol": "require"}
        await setup.proxy.apply(configured)
        assert (await seen(client))["x-forwarded-for"] == "127.0.0.1"
        await client.close()

    behind(tmp_path, {}, scenario, lambda each: configured.update(each))


def test_a_proxy_that_speaks_for_itself_is_the_client(tmp_path: Path) -> None:
    """Its own health checks (LOCAL)."""

    async def scenario(setup: Setup) -> None:
        client = await connect_tcp("h1", setup.proxy.port, [v2(1, 0x20)])
        assert (await seen(client))["x-forwarded-for"] == "127.0.0.1"
        await client.close()

    behind(tmp_path, {**TRUSTED, "proxy_protocol": "require"}, scenario)


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4 x\r\n", v2(2)])
def test_a_trusted_proxy_that_sends_no_header_on_tcp_is_closed(
    tmp_path: Path, start: bytes
) -> None:
    async def scenario(setup: Setup) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", setup.proxy.port)
        writer.write(start)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert await refused(setup, reasons.PROXY_HEADER_INVALID.code) == 1

    behind(tmp_path, {**TRUSTED, "proxy_protocol": "accept"}, scenario)


@pytest.mark.parametrize("end", [True, False], ids=["closed", "stalled"])
def test_a_header_that_does_not_come_whole_is_not_waited_for(tmp_path: Path, end: bool) -> None:
    async def scenario(setup: Setup) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", setup.proxy.port)
        writer.write(v2(1)[:20])
        if end:
            writer.write_eof()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        reason = reasons.PROXY_HEADER_INVALID if end else reasons.HANDSHAKE_TIMEOUT
        assert await refused(setup, reason.code) == 1

    behind(
        tmp_path,
        {**TRUSTED, "proxy_protocol": "accept"},
        scenario,
        lambda settings: settings["performance"].update(
            client_head_timeout_ms=10_000 if end else 300
        ),
    )


def test_headers_of_others_are_refused_on_tcp(tmp_path: Path) -> None:
    async def with_header(setup: Setup, code: str) -> None:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect_tcp("h1", setup.proxy.port, [V1])
        assert await refused(setup, code) == 1

    async def accepting(setup: Setup) -> None:
        await with_header(setup, reasons.HANDSHAKE_FAILED.code)
        client = await connect_tcp("h1", setup.proxy.port, [])
        assert (await seen(client))["x-forwarded-for"] == "127.0.0.1"
        await client.close()

    async def requiring(setup: Setup) -> None:
        await with_header(setup, reasons.PROXY_HEADER_UNTRUSTED.code)

    async def off(setup: Setup) -> None:
        await with_header(setup, reasons.HANDSHAKE_FAILED.code)

    behind(tmp_path, {**NOBODY, "proxy_protocol": "accept"}, accepting)
    behind(tmp_path, {**NOBODY, "proxy_protocol": "require"}, requiring)
    behind(tmp_path, {}, off)


@pytest.mark.parametrize(
    ("settings", "header", "reason"),
    [
        ({**NOBODY, "proxy_protocol": "accept"}, v2(2), reasons.BAD_PACKET),
        ({**NOBODY, "proxy_protocol": "require"}, v2(2), reasons.PROXY_HEADER_UNTRUSTED),
        ({**NOBODY, "proxy_protocol": "require"}, b"", reasons.PROXY_HEADER_UNTRUSTED),
        ({**TRUSTED, "proxy_protocol": "accept"}, b"", reasons.PROXY_HEADER_INVALID),
        ({**TRUSTED, "proxy_protocol": "accept"}, v2(1), reasons.PROXY_HEADER_INVALID),
        ({}, v2(2), reasons.BAD_PACKET),
    ],
)
def test_datagrams_that_are_not_as_agreed_begin_nothing(
    tmp_path: Path, settings: dict[str, Any], header: bytes, reason: reasons.Reason
) -> None:
    async def scenario(setup: Setup) -> None:
        balancer = Balancer(setup.proxy.port, header, only_first=False)
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost"
        )
        connecting = asyncio.ensure_future(
            Http3Client.connect(await balancer.start(), configuration)
        )
        assert await refused(setup, reason.code) >= 1
        assert counted(setup.proxy, "connections_total", transport="quic") == 0
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        balancer.close()

    behind(tmp_path, settings, scenario)


def test_limits_of_connections_go_by_the_announced_address(tmp_path: Path) -> None:
    """Else all clients of a balancer would share the limit of one."""
    other = V1.replace(b"203.0.113.9", b"203.0.113.10")

    async def scenario(setup: Setup) -> None:
        first = await connect_tcp("h1", setup.proxy.port, [V1])
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect_tcp("h1", setup.proxy.port, [V1])
        second = await connect_tcp("h1", setup.proxy.port, [other])
        assert (await seen(second))["x-forwarded-for"] == "203.0.113.10"
        await first.close()
        await second.close()
        assert await refused(setup, reasons.SOURCE_CONNECTION_RATE.code) == 1

    behind(
        tmp_path,
        {**TRUSTED, "proxy_protocol": "require"},
        scenario,
        lambda settings: settings["performance"].update(
            new_connections_per_source_per_sec=1, new_connections_per_source_burst=1
        ),
    )


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_fields_of_trusted_proxies_are_believed(tmp_path: Path, ingress: str, header: str) -> None:
    value = b"198.51.100.1, 203.0.113.9, 127.0.0.3"
    if header == "forwarded":
        value = b"for=198.51.100.1, for=203.0.113.9;proto=http, for=127.0.0.3"
    other = b"x-forwarded-for" if header == "forwarded" else b"forwarded"

    async def scenario(setup: Setup) -> None:
        client = await setup.client(ingress)
        fields = await seen(client, [(header.encode(), value), (other, b"for=192.0.2.66")])
        assert fields["x-forwarded-for"] == CLIENT[0]
        assert fields["forwarded"] == f"for={CLIENT[0]};host=localhost;proto=https"
        # The next request of the connection is judged by itself.
        assert (await seen(client))["x-forwarded-for"] == "127.0.0.1"

    behind(tmp_path, {**TRUSTED, "header": header}, scenario)
    lines = [json.loads(each) for each in (tmp_path / "access.log").read_text().splitlines()]
    assert lines[0]["client"] == CLIENT[0]
    assert lines[1]["client"] == "127.0.0.1"


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize("settings", [{}, {**NOBODY, "header": "x-forwarded-for"}])
def test_fields_of_others_are_not(tmp_path: Path, ingress: str, settings: dict[str, Any]) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client(ingress)
        fields = await seen(
            client, [(b"x-forwarded-for", b"203.0.113.9"), (b"forwarded", b"for=203.0.113.9")]
        )
        assert fields["x-forwarded-for"] == "127.0.0.1"
        assert "203.0.113.9" not in fields["forwarded"]

    behind(tmp_path, settings, scenario)


def test_what_is_appended_is_the_proxy_before_us(tmp_path: Path) -> None:
    """RFC 7239 section 4: each hop adds from whom it got the request."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client("h1")
        fields = await seen(client, [(b"x-forwarded-for", b"203.0.113.9")])
        assert fields["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"

    behind(
        tmp_path,
        {**TRUSTED, "header": "x-forwarded-for"},
        scenario,
        lambda settings: settings["upstream"]["backend"].update(
            forwarded_headers={"mode": "append"}
        ),
    )


@pytest.mark.parametrize(("networks", "resets"), [(NOBODY, 0), (TRUSTED, 1)])
def test_a_stray_packet_past_the_proxy_gets_no_reset(
    tmp_path: Path, networks: dict[str, Any], resets: int
) -> None:
    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            on.send(STRAY + bytes(1000))
            code = reasons.UNKNOWN_CONNECTION if resets else reasons.PROXY_HEADER_UNTRUSTED
            assert await refused(setup, code.code) == 1
        assert counted(setup.proxy, "stateless_resets_sent_total") == resets

    behind(tmp_path, {**networks, "proxy_protocol": "require"}, scenario)


def test_a_client_that_closes_within_its_hello_is_let_go(tmp_path: Path) -> None:
    """Its socket stays readable, which must not be asked for more again and again."""

    async def scenario(setup: Setup) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", setup.proxy.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        writer.write_eof()
        async with asyncio.timeout(30):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
        writer.close()
        assert await refused(setup, reasons.HANDSHAKE_FAILED.code) == 1

    behind(tmp_path, {}, scenario)


def test_whom_to_believe_changes_live(tmp_path: Path) -> None:
    """Connections that are there keep what they began with."""
    field = [(b"x-forwarded-for", b"203.0.113.9")]
    settings: dict[str, Any] = {}

    async def scenario(setup: Setup) -> None:
        before = await setup.client("h1")
        settings["listen"]["client_address"] = {**TRUSTED, "header": "x-forwarded-for"}
        await setup.proxy.apply(settings)
        after = [await setup.client(ingress) for ingress in INGRESSES]
        assert (await seen(before, field))["x-forwarded-for"] == "127.0.0.1"
        for client in after:
            assert (await seen(client, field))["x-forwarded-for"] == "203.0.113.9"

    behind(tmp_path, {}, scenario, settings.update)
