"""Every timeout of an exchange is in force, under its name, with its status."""

import asyncio
import socket
import time

import pytest

from tests.request.conftest import RunWith
from tests.support.client import ClientStream, Http3Client
from tests.support.origin import pattern
from tests.support.proxy import Setup
from tests.support.tried import World
from tests.support.waiting import LATE_SECONDS

RESET_CODES = {"h3": "RESET_STREAM 0x102", "h2": "RST_STREAM 2", "h1": "connection closed"}


async def whole_after(stream: ClientStream, least: float) -> None:
    """Wait for a response, and check how long it took."""
    started = time.monotonic()
    await stream.whole()
    assert least <= time.monotonic() - started <= LATE_SECONDS


def test_a_backend_that_does_not_answer_is_a_504(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/wait")
        await whole_after(stream, 0.25)
        assert (stream.response.status, stream.response.cut) == (504, None)
        assert setup.proxy.worker.service.active == 0

    run_with(scenario, backend_timeout_ms=300, backend_connect_timeout_ms=300)


def test_the_wait_for_the_head_begins_when_the_request_is_sent(run_with: RunWith) -> None:
    """A slow upload is not a slow backend."""

    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)
        for _ in range(5):
            await stream.send(b"x" * 100)
            await asyncio.sleep(0.65)
        await stream.send(b"", end=True)
        response = await stream.whole()
        assert (response.status, bytes(response.body)) == (200, b'{"bytes": 500}')

    run_with(scenario, backend_timeout_ms=3_000, backend_connect_timeout_ms=1_000)


def test_a_client_that_stalls_its_upload_is_a_408(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)
        await stream.send(b"x")
        await whole_after(stream, 0.25)
        assert stream.response.status == 408

    run_with(scenario, client_body_idle_timeout_ms=300)


def test_a_response_body_that_stalls_is_cut(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/events")
        await whole_after(stream, 0.25)
        assert stream.response.status == 200
        assert bytes(stream.response.body) == b"data: first\n\n"
        assert (stream.response.cut or "").startswith(RESET_CODES[setup.ingress])

    run_with(
        scenario,
        backend_body_idle_timeout_ms=300,
        backend_timeout_ms=300,
        backend_connect_timeout_ms=300,
    )


def test_a_response_body_that_does_not_begin_is_cut(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/head-then-nothing")
        await whole_after(stream, 0.25)
        assert stream.response.status == 200
        assert (stream.response.cut or "").startswith(RESET_CODES[setup.ingress])

    run_with(scenario, backend_body_total_timeout_ms=300)


def test_the_total_timeout_ends_an_exchange_that_moves(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)

        async def drip() -> None:
            while True:
                await stream.send(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        await whole_after(stream, 0.4)
        assert stream.response.status == 408
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)

    run_with(
        scenario,
        backend_total_request_timeout_ms=500,
        backend_body_total_timeout_ms=400,
        backend_timeout_ms=400,
        backend_connect_timeout_ms=400,
    )


def test_a_client_that_does_not_read_is_cut_off(run_with: RunWith) -> None:
    """Attack 10: slow reading does not hold a backend for ever."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        if isinstance(client, Http3Client):
            client.give_no_credit()
        stream = await client.open("GET", "/endless")
        await asyncio.wait_for(stream.head_arrived.wait(), 30)
        service = setup.proxy.worker.service
        assert service.active == 1
        async with asyncio.timeout(30):
            while service.active:
                await asyncio.sleep(0.05)

    run_with(scenario, client_body_idle_timeout_ms=500)


def test_without_that_timeout_who_does_not_read_holds_a_backend_for_hours() -> None:
    """Attack 5: in simulated time."""

    def is_held_after_hours(timeout_ms: int) -> bool:
        world = World(
            performance={
                "client_body_idle_timeout_ms": timeout_ms,
                "client_min_response_bytes_per_sec": None,
            }
        )
        client = world.request()
        client.accepts = False
        world.connect().answer(200, b"some", ends=False)
        world.runtime.sleep(4 * 3600)
        return client.was_reset is None

    assert not is_held_after_hours(30_000)
    assert is_held_after_hours(86_400_000)


def test_a_backend_that_accepts_no_connection_is_a_504(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        with socket.socket() as full:
            # A listening socket whose queue is full drops further connections.
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            await asyncio.sleep(0.05)
            generation = setup.proxy.worker.service.generation
            (pool,) = generation.routes.lookup(b"x", b"/", b"GET").backends
            port = full.getsockname()[1]
            settings = pool.pool.dial_settings
            pool.pool.dial_settings = type(settings)(
                type(settings.origin)("http", "127.0.0.1", port),
                settings.protocol,
                None,
            )
            stream = await (await setup.client()).open("GET", "/size/1")
            await whole_after(stream, 0.25)
            assert stream.response.status == 504
            for filler in fillers:
                filler.close()

    run_with(scenario, backend_connect_timeout_ms=300)


def test_a_backend_that_is_not_there_is_a_502(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        setup.origin.stop_listening()
        response = await (await setup.client()).fetch("GET", "/size/1")
        assert response.status == 502
        assert b"refused the connection" in bytes(response.body)

    run_with(scenario)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_kept_connection_that_the_backend_closed_costs_the_client_nothing(
    run_with: RunWith, method: str
) -> None:
    """RFC 9110 section 9.2.2: idempotent requests are sent again when a connection was stale."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        for _ in range(5):
            assert (await client.fetch(method, "/size/3")).status == 200
            setup.origin.close_connections()
            assert (await client.fetch(method, "/size/3")).status == 200

    run_with(scenario)


@pytest.mark.parametrize(("method", "size"), [("POST", 10), ("PUT", 70_000)])
def test_what_may_not_be_repeated_or_was_not_kept_is_never_sent_twice(
    run_with: RunWith, method: str, size: int
) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("GET", "/size/3")).status == 200
        response = await client.fetch(method, "/reset-before-head", body=pattern(size))
        assert response.status == 502
        assert setup.origin.gate.requests["/reset-before-head"] == 1

    run_with(scenario)
