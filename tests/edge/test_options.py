"""Options of listeners and pools that show on the wire or on a socket."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from spooky._core import reasons
from tests.edge.test_ingress import run_with, too_many
from tests.support.client import Client, Http2Client, Http3Client
from tests.support.proxy import Setup


def test_the_initial_limits_of_quic_are_what_is_configured(tmp_path: Path) -> None:
    """RFC 9000 section 18.2."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert isinstance(client, Http3Client)
        quic: Any = client.protocol._quic
        assert quic._remote_max_data == 200_000
        assert quic._remote_max_stream_data_bidi_remote == 70_000
        assert quic._remote_max_streams_bidi == 7

    run_with(
        tmp_path,
        scenario,
        quic_initial_max_data=200_000,
        quic_initial_max_stream_data=70_000,
        quic_initial_max_streams_bidi=7,
    )


@pytest.mark.parametrize(
    ("configured", "used"), [({}, "cubic"), ({"quic_congestion_control": "reno"}, "reno")]
)
def test_congestion_is_controlled_as_configured(
    tmp_path: Path, configured: dict[str, str], used: str
) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        assert listener.settings.parameters.congestion_control == used
        assert (await (await setup.client()).fetch("GET", "/size/100000")).status == 200

    run_with(tmp_path, scenario, **configured)


def test_the_same_limits_hold_for_http2(tmp_path: Path) -> None:
    """RFC 9113 sections 6.5.2 and 6.9.2."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert isinstance(client, Http2Client)
        assert (await client.fetch("GET", "/size/1")).status == 200
        assert client.h2.remote_settings.initial_window_size == 70_000
        assert client.h2.remote_settings.max_concurrent_streams == 7
        assert client.h2.outbound_flow_control_window == 200_000

    run_with(
        tmp_path,
        scenario,
        "h2",
        quic_initial_max_data=200_000,
        quic_initial_max_stream_data=70_000,
        quic_initial_max_streams_bidi=7,
    )


async def four_at_once(setup: Setup) -> None:
    """Make the pool open four connections, and be done with all of them."""
    clients: list[Client] = [await setup.client() for _ in range(4)]
    streams = [await client.open("GET", "/wait") for client in clients]
    async with asyncio.timeout(30):
        while setup.origin.gate.requests["/wait"] < 4:
            await asyncio.sleep(0.01)
    assert len(setup.origin._writers) == 4
    setup.origin.gate.opened.set()
    for stream in streams:
        assert (await stream.whole()).status == 200


@pytest.mark.parametrize("kept", [1, 3])
def test_a_pool_keeps_no_more_idle_connections_than_configured(tmp_path: Path, kept: int) -> None:
    async def scenario(setup: Setup) -> None:
        await four_at_once(setup)
        async with asyncio.timeout(30):
            while len(setup.origin._writers) > kept:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(setup.origin._writers) == kept

    run_with(tmp_path, scenario, "h1", h2_pool_max_idle_per_backend=kept)


def test_a_pool_closes_connections_that_were_idle_for_too_long(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        await four_at_once(setup)
        async with asyncio.timeout(30):
            while setup.origin._writers:
                await asyncio.sleep(0.01)

    run_with(tmp_path, scenario, "h1", h2_pool_idle_timeout_ms=300)


@pytest.mark.parametrize("ingress", ["h3", "h1"])
def test_new_connections_of_all_together_are_limited(tmp_path: Path, ingress: str) -> None:
    """The burst at once, and one more after the time that the rate gives."""

    async def scenario(setup: Setup) -> None:
        for _ in range(3):
            await setup.client()
        await too_many(setup, ingress, reasons.NEW_CONNECTION_RATE)
        await asyncio.sleep(1.2)
        assert (await (await setup.client()).fetch("GET", "/size/1")).status == 200

    run_with(tmp_path, scenario, ingress, new_connections_per_sec=1, new_connections_burst=3)


def test_the_socket_buffers_are_what_is_configured(tmp_path: Path) -> None:
    """The kernel doubles what it is asked for, to have room for its own (socket(7))."""

    async def scenario(setup: Setup) -> None:
        udp = setup.proxy._sockets[0].udp[0]
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 65_536
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 81_920

    run_with(tmp_path, scenario, udp_recv_buffer_bytes=65_536, udp_send_buffer_bytes=81_920)
