"""Listeners, connection limits and connection timeouts of a running proxy."""

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio.client import connect as quic_connect
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

import spooky
from spooky._core import reasons
from tests.support.client import Http3Client
from tests.support.proxy import INGRESSES, Setup, connect, run, running
from tests.support.tls import plain_context
from tests.support.waiting import LATE_SECONDS, until

TRIED_AT_ONCE = 10


def counted(proxy: spooky.Proxy, metric: str, **labels: str) -> int:
    """Return what was counted under a metric."""
    return sum(
        value
        for name, value in proxy.counters.snapshot()
        if name.metric == metric and set(labels.items()) <= set(name.labels)
    )


def without_pressure(settings: dict[str, Any]) -> None:
    """Have a full house, as tests make it, be no overload, which shortens idle timeouts."""
    settings["resilience"] = {"overload": {"enabled": False}}


def run_with(
    directory: Path,
    scenario: Callable[[Setup], Awaitable[None]],
    ingress: str = "h3",
    change: Callable[[dict[str, Any]], None] | None = None,
    **performance: Any,
) -> None:
    """Run a scenario against a proxy with some settings."""

    def configure(settings: dict[str, Any]) -> None:
        settings["performance"] |= performance
        if change is not None:
            change(settings)

    async def with_proxy() -> None:
        async with running(directory, ingress, "h1", configure) as setup:
            await scenario(setup)

    run(with_proxy)


def test_several_listeners_serve_at_once(tmp_path: Path) -> None:
    def change(settings: dict[str, Any]) -> None:
        listener = settings.pop("listen")
        settings["listeners"] = [listener, {**listener, "address": "127.0.0.2"}]

    async def scenario(setup: Setup) -> None:
        first, second = setup.proxy.addresses
        assert (first[0], second[0]) == ("127.0.0.1", "127.0.0.2")
        for host, port in setup.proxy.addresses:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=plain_context("http/1.1")
            )
            writer.write(b"GET /size/5 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b'h3=":%d"' % port in answer
            writer.close()

    run_with(tmp_path, scenario, change=change)


def test_one_listener_takes_both_address_families(tmp_path: Path) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["listen"]["address"] = "::"

    async def scenario(setup: Setup) -> None:
        client = await setup.client("h3")
        assert (await client.fetch("GET", "/size/5")).status == 200
        reader, writer = await asyncio.open_connection(
            "::1", setup.proxy.port, ssl=plain_context("http/1.1")
        )
        writer.write(b"GET /inspect HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b'["x-forwarded-for", "::1"]' in await reader.read()
        writer.close()

    run_with(tmp_path, scenario, change=change)


@pytest.mark.parametrize("version", [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2])
def test_both_quic_versions_are_spoken(tmp_path: Path, version: int) -> None:
    """RFC 9000 and RFC 9369."""

    async def scenario(setup: Setup) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN,
            verify_mode=ssl.CERT_NONE,
            server_name="localhost",
            supported_versions=[version],
        )
        client = await Http3Client.connect(setup.proxy.port, configuration)
        assert (await client.fetch("GET", "/size/5")).status == 200
        assert client.protocol._quic._version == version
        await client.close()

    run_with(tmp_path, scenario)


def test_an_unknown_version_is_answered_with_ours(tmp_path: Path) -> None:
    """RFC 9000 section 6.1; a short datagram is not, as it could serve to amplify."""

    async def scenario(setup: Setup) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(("127.0.0.1", setup.proxy.port))
            head = b"\xc0" + struct.pack(">I", 0x1A2A3A4A) + b"\x08destinat\x06source"
            await loop.sock_sendall(udp, head.ljust(1199, b"\0"))
            await loop.sock_sendall(udp, head.ljust(1200, b"\0"))
            answer = await asyncio.wait_for(loop.sock_recv(udp, 2000), 30)
            assert answer[1:5] == bytes(4)
            assert answer[5:21] == b"\x06source\x08destinat"
            versions = set(struct.unpack(f">{(len(answer) - 21) // 4}I", answer[21:]))
            assert versions >= {0x00000001, 0x6B3343CF}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(udp, 2000), 0.2)
        code = reasons.UNSUPPORTED_VERSION.code
        assert counted(setup.proxy, "connections_refused_total", reason=code) == 1

    run_with(tmp_path, scenario)


def test_datagrams_that_belong_to_nobody_are_counted_and_dropped(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.connect(("127.0.0.1", setup.proxy.port))
            udp.send(b"")
            udp.send(b"x")
            udp.send(b"\x40" + b"12345678" + b"payload" * 10)
            udp.send(b"\xff" * 1500)
        refused = functools.partial(counted, setup.proxy, "connections_refused_total")
        await until(lambda: refused(reason="bad_packet") >= 2)
        await until(lambda: refused(reason="unknown_connection"))
        assert refused(reason="unknown_connection") == 1
        assert (await (await setup.client()).fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario)


@pytest.mark.parametrize("transport", ["tcp", "quic"])
def test_clients_that_refuse_our_certificate_are_counted_as_failed_handshakes(
    tmp_path: Path, transport: str
) -> None:
    """What a probation watches, and metrics show: not a request comes of it."""

    async def distrust(port: int) -> None:
        if transport == "tcp":
            context = ssl.create_default_context()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=context)
            return
        settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
        with pytest.raises(ConnectionError):
            async with quic_connect("127.0.0.1", port, configuration=settings):
                pass

    async def scenario(setup: Setup) -> None:
        def failed() -> int:
            return counted(setup.proxy, "handshakes_failed_total", transport=transport)

        for ingress in INGRESSES:
            assert (await (await setup.client(ingress)).fetch("GET", "/size/5")).status == 200
        await distrust(setup.proxy.port)
        async with asyncio.timeout(30):
            while failed() == 0:
                await asyncio.sleep(0.02)
        assert failed() == 1
        assert counted(setup.proxy, "handshakes_failed_total") == 1
        code = reasons.HANDSHAKE_FAILED.code
        assert counted(setup.proxy, "connections_refused_total", reason=code) == 1

    run_with(tmp_path, scenario)


def test_packets_to_a_closed_connection_find_it_until_it_is_over(tmp_path: Path) -> None:
    """RFC 9000 section 10.2.1: by the same table, and answered as long as it is closing."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert isinstance(client, Http3Client)
        protocol: Any = client.protocol
        listener = setup.proxy.worker.listeners[0].quic
        (connection,) = listener._connections
        connection_id = protocol._quic._peer_cid.cid
        heard: list[bytes] = []
        protocol.datagram_received = lambda data, _: heard.append(data)

        def unknown() -> int:
            return counted(
                setup.proxy, "connections_refused_total", reason=reasons.UNKNOWN_CONNECTION.code
            )

        async def knock() -> None:
            heard.clear()
            address = protocol._quic._network_paths[0].addr
            protocol._transport.sendto(b"\x40" + connection_id + bytes(40), address)
            await answered()

        async def answered() -> None:
            async with asyncio.timeout(30):
                while not heard:
                    await asyncio.sleep(0.001)

        listener.terminate(reasons.DRAIN_TIMEOUT)
        await answered()
        goodbye = heard[-1]
        assert listener._by_connection_id[connection_id] is connection
        await knock()
        assert set(heard) == {goodbye}
        assert unknown() == 0
        async with asyncio.timeout(30):
            while listener._connections:
                await asyncio.sleep(0.02)
        assert not listener._by_connection_id
        await knock()
        # Now the client is told that its connection is no more (section 10.3).
        (reset,) = heard
        assert reset.endswith(protocol._quic._peer_cid.stateless_reset_token)
        assert unknown() >= 1

    run_with(tmp_path, scenario)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_connections_above_the_cap_are_refused_and_places_come_back(
    tmp_path: Path, ingress: str
) -> None:
    async def scenario(setup: Setup) -> None:
        worker = setup.proxy.worker
        cap = worker.quic_cap if ingress == "h3" else worker.tcp_cap
        first, second = await setup.client(), await setup.client()
        with pytest.raises((ConnectionError, TimeoutError)):
            await asyncio.wait_for(connect(ingress, setup.proxy.port), 0.5)
        await until(
            lambda: counted(setup.proxy, "connections_refused_total", reason="connection_cap")
        )
        for client in (first, second):
            assert (await client.fetch("GET", "/size/5")).status == 200
            await client.close()
        setup.clients.clear()
        async with asyncio.timeout(30):
            while cap.active:
                await asyncio.sleep(0.05)
        assert cap.half_open == 0
        assert (await (await setup.client()).fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario, ingress, without_pressure, max_active_connections=2)


def test_half_open_connections_are_capped_and_time_out(tmp_path: Path) -> None:
    """Attack 13."""

    async def scenario(setup: Setup) -> None:
        cap = setup.proxy.worker.tcp_cap
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                silent = stack.enter_context(socket.socket())
                silent.setblocking(False)
                silent.connect_ex(("127.0.0.1", setup.proxy.port))
            await until(
                lambda: counted(setup.proxy, "connections_refused_total", reason="half_open_cap")
            )
            assert cap.half_open == 2
            async with asyncio.timeout(30):
                while cap.half_open:
                    await asyncio.sleep(0.05)
        assert cap.active == 0
        assert (await (await setup.client()).fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario, "h1", max_half_open_connections=2, client_head_timeout_ms=900)


async def too_many(setup: Setup, ingress: str, reason: reasons.Reason) -> None:
    """Connect until that is refused; on a busy machine a place may come back meanwhile."""
    connecting = [
        asyncio.wait_for(connect(ingress, setup.proxy.port), 2) for _ in range(TRIED_AT_ONCE)
    ]
    found = await asyncio.gather(*connecting, return_exceptions=True)
    assert any(isinstance(each, ConnectionError | TimeoutError) for each in found)
    assert counted(setup.proxy, "connections_refused_total", reason=reason.code) >= 1
    setup.clients += [each for each in found if not isinstance(each, BaseException)]


@pytest.mark.parametrize("ingress", ["h3", "h1"])
def test_new_connections_of_one_source_are_limited(tmp_path: Path, ingress: str) -> None:
    async def scenario(setup: Setup) -> None:
        for _ in range(3):
            await setup.client()
        await too_many(setup, ingress, reasons.SOURCE_CONNECTION_RATE)

    run_with(
        tmp_path,
        scenario,
        ingress,
        new_connections_per_source_per_sec=1,
        new_connections_per_source_burst=3,
    )


def test_a_head_that_drips_in_is_ended(tmp_path: Path) -> None:
    """Attack 10: slowloris."""

    async def scenario(setup: Setup) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", setup.proxy.port, ssl=plain_context("http/1.1")
        )
        started = time.monotonic()

        async def drip() -> None:
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
            while True:
                writer.write(b"x-a: b\r\n")
                await asyncio.sleep(0.1)

        dripping = asyncio.ensure_future(drip())
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 30)
        assert 0.4 <= time.monotonic() - started < LATE_SECONDS
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()

    run_with(tmp_path, scenario, "h1", client_head_timeout_ms=500)


@pytest.mark.parametrize("ingress", INGRESSES)
def test_idle_connections_are_closed_and_busy_ones_are_not(tmp_path: Path, ingress: str) -> None:
    async def scenario(setup: Setup) -> None:
        worker = setup.proxy.worker
        cap = worker.quic_cap if ingress == "h3" else worker.tcp_cap
        client = await setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        await asyncio.sleep(1)
        assert cap.active == 1
        setup.origin.gate.opened.set()
        assert (await stream.whole()).status == 200
        async with asyncio.timeout(30):
            while cap.active:
                await asyncio.sleep(0.05)

    run_with(tmp_path, scenario, ingress, quic_max_idle_timeout_ms=500)
