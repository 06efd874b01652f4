"""Every limit of an exchange is in force, under its name, with its status."""

import asyncio

from tests.request.conftest import RunWith
from tests.support.client import Client
from tests.support.origin import pattern
from tests.support.proxy import Setup


async def clients(setup: Setup, count: int) -> list[Client]:
    """Return clients for so many requests at once."""
    if setup.ingress == "h1":
        return [await setup.client() for _ in range(count)]
    return [await setup.client()] * count


def test_a_declared_body_above_the_limit_is_a_413(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("POST", "/count", body=pattern(1000))).status == 200
        assert (await client.fetch("POST", "/count", body=pattern(1001))).status == 413
        assert setup.origin.gate.requests["/count"] == 1

    run_with(scenario, max_request_body_bytes=1000)


def test_a_streamed_body_above_the_limit_is_a_413(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)
        await stream.send(pattern(600))
        await stream.send(pattern(600))
        assert (await stream.whole()).status == 413

    run_with(scenario, max_request_body_bytes=1000)


def test_a_declared_response_above_the_limit_is_a_503(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("GET", "/size/1000")).status == 200
        assert (await client.fetch("GET", "/size/1001")).status == 503

    run_with(scenario, max_response_body_bytes=1000)


def test_a_streamed_response_above_the_limit_is_cut(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", "/unknown-length/200000")
        # The reset may overtake the head, as it may in QUIC (RFC 9000 section 19.4).
        assert response.status in (0, 200)
        assert response.cut is not None
        assert len(response.body) <= 100_000

    run_with(scenario, max_response_body_bytes=100_000)


def test_a_prebuffered_response_gets_its_length(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("GET", "/unknown-length/500")
        assert response.header(b"content-length") == b"500"
        assert bytes(response.body) == pattern(500)
        response = await client.fetch("GET", "/unknown-length/70000")
        assert (response.status, response.cut) == (503, None)
        response = await client.fetch("GET", "/trailers", [(b"te", b"trailers")])
        assert (b"grpc-status", b"0") in response.trailers

    run_with(scenario, unknown_length_response_prebuffer_bytes=1000)


def test_requests_above_each_limit_in_flight_are_503_with_retry_after(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        first, second, third = await clients(setup, 3)
        waiting = await first.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        response = await second.fetch("GET", "/size/1")
        assert (response.status, response.header(b"retry-after")) == (503, b"1")
        setup.origin.gate.opened.set()
        assert (await waiting.whole()).status == 200
        assert (await third.fetch("GET", "/size/1")).status == 200

    # backend <= upstream <= global: each alone is enough to refuse.
    run_with(scenario, per_backend_inflight_limit=1)
    run_with(scenario, per_upstream_inflight_limit=1, per_backend_inflight_limit=1)
    run_with(
        scenario,
        global_inflight_limit=1,
        per_upstream_inflight_limit=1,
        per_backend_inflight_limit=1,
    )


def test_a_request_may_wait_for_a_place_in_flight(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        first, second = await clients(setup, 2)
        waiting = await first.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        queued = await second.open("GET", "/size/1")
        await asyncio.sleep(0.2)
        setup.origin.gate.opened.set()
        assert (await waiting.whole()).status == 200
        assert (await queued.whole()).status == 200

    run_with(scenario, per_backend_inflight_limit=1, inflight_acquire_wait_ms=2000)


def test_a_request_that_waited_too_long_for_a_place_is_a_503(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        first, second = await clients(setup, 2)
        await first.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        response = await second.fetch("GET", "/size/1")
        assert response.status == 503

    run_with(scenario, per_backend_inflight_limit=1, inflight_acquire_wait_ms=200)


def test_a_client_that_leaves_the_queue_frees_its_place_in_it(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        first, second, third = await clients(setup, 3)
        waiting = await first.open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        leaving = await second.open("GET", "/size/1")
        await asyncio.sleep(0.1)
        await leaving.cancel()
        await asyncio.sleep(0.1)
        staying = await third.open("GET", "/size/2")
        await asyncio.sleep(0.1)
        setup.origin.gate.opened.set()
        assert (await waiting.whole()).status == 200
        assert (await staying.whole()).status == 200
        assert setup.proxy.worker.service.active == 0
        assert setup.proxy.worker.service.runtime.under_way == 0

    run_with(scenario, per_backend_inflight_limit=1, inflight_acquire_wait_ms=2000)


def test_bodies_are_refused_while_the_request_buffers_are_full(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        first, second, third = await clients(setup, 3)
        stream = await first.open("POST", "/no-read", end=False)
        sending = asyncio.ensure_future(stream.send(pattern(16 * 1024 * 1024), end=True))
        service = setup.proxy.worker.service
        async with asyncio.timeout(30):
            while service.held.total < 20_000:
                await asyncio.sleep(0.01)
        assert (await second.fetch("POST", "/count", body=b"x")).status == 503
        assert (await third.fetch("GET", "/size/1")).status == 200
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    run_with(scenario, request_buffer_global_cap_bytes=20_000)


def test_a_head_above_the_limits_is_a_431(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        many = [(b"x-%d" % number, b"v") for number in range(128)]
        assert (await client.fetch("GET", "/size/1", many)).status == 431
        large = [(b"x-large", b"v" * 16_384)]
        client = await setup.client()
        assert (await client.fetch("GET", "/size/1", large)).status == 431

    run_with(scenario)
