"""Streams that live: events as they come, both directions at once, aborts and resets."""

import asyncio
from typing import Any

import pytest

from tests.pairs.conftest import Pair
from tests.support.client import Http3Client
from tests.support.origin import pattern
from tests.support.proxy import Setup
from tests.support.waiting import until

RESET_CODES = {"h3": "RESET_STREAM 0x102", "h2": "RST_STREAM 2", "h1": "connection closed"}
"""H3_INTERNAL_ERROR, INTERNAL_ERROR, and a connection closed before the body's end."""


def test_the_first_event_is_not_held_back(pair: Pair) -> None:
    """Server-sent events: what the backend writes arrives before it writes more."""

    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/events")
        pieces = stream.pieces()
        assert await anext(pieces) == b"data: first\n\n"
        setup.origin.gate.opened.set()
        assert b"".join([piece async for piece in pieces]) == b"data: second\n\n"
        assert stream.response.cut is None

    pair.run(scenario)


def test_both_directions_stream_at_once(pair: Pair) -> None:
    """As gRPC does: each message is answered before the next is sent."""

    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/echo", end=False)
        pieces = stream.pieces()
        for number in range(5):
            message = b"message %d" % number
            await stream.send(message)
            assert await anext(pieces) == message
        await stream.send(b"", end=True)
        assert [piece async for piece in pieces if piece] == []
        assert stream.response.cut is None

    pair.run(scenario)


@pytest.mark.parametrize("path", ["/cut-short/100000", "/cut-short-unknown"])
def test_a_response_cut_short_is_never_passed_off_as_complete(pair: Pair, path: str) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", path)
        assert response.status == 200
        assert response.cut is not None
        assert response.cut.startswith(RESET_CODES[setup.ingress])

    pair.run(scenario)


def test_a_backend_that_fails_before_the_head_is_a_502(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("POST", "/reset-before-head", body=b"x")
        assert (response.status, response.cut) == (502, None)
        assert (await client.fetch("GET", "/size/5")).status == 200

    pair.run(scenario)


def test_an_early_response_arrives_although_the_body_is_not_read(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        stream = await client.open("POST", "/early-response", end=False)
        sending = asyncio.ensure_future(stream.send(pattern(4 * 1024 * 1024), end=True))
        response = await stream.whole()
        assert (response.status, bytes(response.body)) == (403, b"refused")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    pair.run(scenario)


def test_an_early_response_to_a_body_sent_whole_leaves_nothing_accounted(pair: Pair) -> None:
    """The backend takes the body after the exchange ended, or never; it is no longer ours."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        response = await client.fetch("POST", "/early-response", body=pattern(200_000))
        assert (response.status, bytes(response.body)) == (403, b"refused")
        service = setup.proxy.worker.service
        await until(lambda: service.active == 0)
        await asyncio.sleep(0.1)
        assert service.held.total == 0

    pair.run(scenario)


def test_an_early_refusal_of_ours_arrives_although_the_body_is_not_read(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        stream = await client.open("POST", "/count", end=False)
        sending = asyncio.ensure_future(stream.send(pattern(4 * 1024 * 1024), end=True))
        response = await stream.whole()
        assert response.status == 413
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    def change(settings: dict[str, Any]) -> None:
        settings["performance"] |= {"max_request_body_bytes": 100_000}

    pair.run(scenario, change)


def test_a_client_that_gives_up_while_waiting_frees_the_backend(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/wait")
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        assert setup.proxy.worker.service.active == 1
        await stream.cancel()
        await until(lambda: setup.proxy.worker.service.active == 0)
        other = await setup.client()
        assert (await other.fetch("GET", "/size/3")).status == 200

    pair.run(scenario)


def test_a_client_that_gives_up_during_the_response_stops_the_backend(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("GET", "/endless")
        await anext(stream.pieces())
        await stream.cancel()
        await until(lambda: setup.proxy.worker.service.active == 0)
        await until(lambda: setup.origin.gate.ended_by)

    pair.run(scenario)


def test_a_client_that_gives_up_during_the_upload_frees_everything(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)
        await stream.send(b"x" * 50_000)
        await asyncio.sleep(0.05)
        await stream.cancel()
        service = setup.proxy.worker.service
        await until(lambda: service.active == 0)
        assert service.held.total == 0

    pair.run(scenario)


def test_an_upload_cut_short_is_never_passed_off_as_complete(pair: Pair) -> None:
    """The backend sees a reset, or a connection closed before the last chunk; not an end."""

    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/wait", end=False)
        await stream.send(b"x" * 50_000)
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        await stream.cancel()
        await until(lambda: setup.origin.gate.ended_by)
        assert setup.origin.gate.ended_by == ["ConnectionResetError"]

    pair.run(scenario)


def test_a_client_that_does_not_read_stops_the_backend(pair: Pair) -> None:
    """Credit follows consumption downstream too."""

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        if isinstance(client, Http3Client):
            client.give_no_credit()
        stream = await client.open("GET", "/endless")
        await asyncio.wait_for(stream.head_arrived.wait(), 30)
        gate = setup.origin.gate
        before = -1
        async with asyncio.timeout(40):
            while gate.sent_bytes != before:
                before = gate.sent_bytes
                await asyncio.sleep(0.5)
        await stream.cancel()
        await until(lambda: gate.ended_by)

    pair.run(scenario)


def test_a_backend_that_does_not_read_stops_the_client(pair: Pair) -> None:
    """Credit follows consumption: what the proxy holds is bounded by the windows."""

    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/no-read", end=False)
        # More than the kernel may keep for the sockets on the way.
        mib = 8 if pair.upstream == "h3" else 16 if setup.ingress == "h3" else 64
        size = mib * 1024 * 1024
        sending = asyncio.ensure_future(stream.send(pattern(size), end=True))
        await asyncio.wait_for(setup.origin.gate.reached.wait(), 30)
        await asyncio.sleep(0.5)
        assert not sending.done()
        held = setup.proxy.worker.service.held.total
        assert held <= 1024 * 1024
        setup.origin.gate.opened.set()
        response = await stream.whole()
        assert bytes(response.body) == b'{"bytes": %d}' % size
        await sending
        assert setup.proxy.worker.service.held.total == 0

    pair.run(scenario)
