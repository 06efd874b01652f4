"""A socket of QUIC hears again after the system said that nobody listens there."""

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from spooky.protocol.quic.parameters import ClientParameters
from spooky.runtime import Runtime
from spooky.upstream.http3 import Http3Connection
from tests.support.waiting import until


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_that_comes_back_is_heard(runner: Any) -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        with socket.socket(type=socket.SOCK_DGRAM) as before:
            before.bind(("127.0.0.1", 0))
            place = before.getsockname()
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.setblocking(False)
        udp.connect(place)
        own = udp.getsockname()
        connection = Http3Connection(runtime, udp, ClientParameters(verify=False), "backend.test")
        # What is sent first meets nobody.
        with pytest.raises(ConnectionRefusedError):
            await connection.established
        with socket.socket(type=socket.SOCK_DGRAM) as back:
            back.bind(place)
            back.sendto(b"here", own)
            await until(lambda: connection.datagrams_received == 1)
        connection.close()
        await runtime.close()

    runner(scenario())
