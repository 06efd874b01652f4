"""A pool whose dials fail by a defect, or lead to nothing."""

import asyncio

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from h2.settings import SettingCodes

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.stream import Stream
from spooky.runtime import Runtime
from spooky.upstream.connection import PooledConnection
from spooky.upstream.dial import DialSettings, Resolve
from spooky.upstream.origin import Origin
from spooky.upstream.pool import Pool, PoolSettings
from spooky.upstream.quic import Http3Settings


def pool_of(
    runtime: Runtime,
    resolve: Resolve,
    port: int = 80,
    protocol: str = "http1",
    connect_timeout: float = 1.0,
) -> Pool:
    limits = Http1Limits(), Http2Limits(), Http3Settings()
    settings = PoolSettings(1, 60.0, connect_timeout, *limits)
    origin = Origin("http", "backend.test", port)
    return Pool(runtime, DialSettings(origin, protocol, None), settings, resolve)


class Waiting:
    """A caller that notes what it is told."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[tuple[Reason, str]] = asyncio.Future()

    def on_connect_failed(self, reason: Reason, detail: str) -> None:
        self.failed.set_result((reason, detail))


def test_a_dial_that_fails_by_a_defect_is_told_and_the_next_caller_dials_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dials = []

    async def resolve(host: str, port: int) -> list[str]:
        dials.append(host)
        raise LookupError("unknown encoding: idna")

    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        pool = pool_of(runtime, resolve)
        for number in (1, 2):
            caller = Waiting()
            pool.wait(caller)  # type: ignore[arg-type]
            async with asyncio.timeout(30):
                reason, detail = await caller.failed
            assert reason is reasons.CONNECT_FAILED
            assert "unknown encoding" in detail
            assert len(dials) == number
        await runtime.close()

    asyncio.run(scenario())
    assert caplog.text.count("a dial failed") == 2


class Gone(PooledConnection):
    """A connection that its backend closed in the turn in which it was there."""

    is_open = False
    address = ""

    def wake(self) -> None: ...

    def on_ping_due(self) -> None: ...


def test_a_backend_that_closes_at_once_is_dialled_once_for_a_caller() -> None:
    dials = []

    async def no_address(host: str, port: int) -> list[str]:
        return []

    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        pool = pool_of(runtime, no_address)

        async def connect() -> PooledConnection:
            dials.append(1)
            await asyncio.sleep(0)
            return Gone(pool)

        pool._connect = connect  # type: ignore[method-assign]
        caller = Waiting()
        pool.wait(caller)  # type: ignore[arg-type]
        async with asyncio.timeout(30):
            reason, detail = await caller.failed
        assert reason is reasons.CONNECT_FAILED
        assert detail == "http://backend.test:80 closed its connection at once"
        assert len(dials) == 1
        await runtime.close()

    asyncio.run(scenario())


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak HTTP/2, and let no stream be opened."""
    own = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    own.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 0
    own.local_settings.acknowledge()
    own.initiate_connection()
    own.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 100  # Else h2 ends the connection.
    own.local_settings.acknowledge()
    writer.write(own.data_to_send())
    while data := await reader.read(65_536):
        for event in own.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                own.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        writer.write(own.data_to_send())
    writer.close()


class Asking(Waiting):
    """A caller that notes how its stream ended, too."""

    def on_connected(self, stream: Stream, reused: bool) -> None:
        head = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"backend.test")]
        stream.send_head([*head, (b":path", b"/")], True)

    def on_reset(self, reason: Reason) -> None:
        self.failed.set_result((reason, ""))


def test_a_backend_that_allows_no_http2_streams_is_not_dialled_for_each_request() -> None:
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await refuse(reader, writer)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pool = pool_of(runtime, resolve, port, "http2", connect_timeout=3.0)
            told = []
            for _ in range(2):
                caller = Asking()
                pool.request(caller)  # type: ignore[arg-type]
                async with asyncio.timeout(30):
                    told.append((await caller.failed)[0])
            assert told == [reasons.UPSTREAM_REFUSED, reasons.CONNECT_FAILED]
            assert len(connections) == 1
            await runtime.close()

    asyncio.run(scenario())
