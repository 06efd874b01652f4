"""Bodies of every size, both ways, with and without a declared length, on every pair."""

import asyncio
import json

import pytest

from tests.pairs.conftest import Pair
from tests.support.origin import pattern
from tests.support.proxy import Setup

SIZES = [0, 1, 16 * 1024, 10 * 1024 * 1024]


@pytest.mark.parametrize("size", SIZES)
def test_a_response_of_declared_length_arrives_whole(pair: Pair, size: int) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", f"/size/{size}")
        assert response.status == 200
        assert response.cut is None
        assert response.header(b"content-length") == b"%d" % size
        assert bytes(response.body) == pattern(size)

    pair.run(scenario)


@pytest.mark.parametrize("size", SIZES)
def test_a_response_of_unknown_length_arrives_whole(pair: Pair, size: int) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", f"/unknown-length/{size}")
        assert response.cut is None
        assert response.header(b"content-length") is None
        assert bytes(response.body) == pattern(size)

    pair.run(scenario)


@pytest.mark.parametrize("size", SIZES)
def test_a_request_body_of_declared_length_arrives_whole(pair: Pair, size: int) -> None:
    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("POST", "/count", body=pattern(size))
        assert response.cut is None
        assert json.loads(response.body) == {"bytes": size}

    pair.run(scenario)


@pytest.mark.parametrize("size", SIZES)
def test_a_request_body_of_unknown_length_arrives_whole(pair: Pair, size: int) -> None:
    async def scenario(setup: Setup) -> None:
        stream = await (await setup.client()).open("POST", "/count", end=False)
        await stream.send(pattern(size), end=True)
        response = await stream.whole()
        assert json.loads(response.body) == {"bytes": size}

    pair.run(scenario)


def test_what_is_echoed_is_what_was_sent(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        data = pattern(300_000)
        response = await (await setup.client()).fetch("POST", "/echo", body=data)
        assert response.cut is None
        assert bytes(response.body) == data

    pair.run(scenario)


def test_a_request_without_a_body_is_sent_without_one(pair: Pair) -> None:
    """A body-less GET must not become one of unknown length."""

    async def scenario(setup: Setup) -> None:
        response = await (await setup.client()).fetch("GET", "/inspect")
        seen = json.loads(response.body)
        assert seen["has_body"] is False
        assert "transfer-encoding" not in dict(seen["headers"])

    pair.run(scenario)


def test_many_requests_one_after_the_other_reuse_what_can_be_reused(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        for number in range(20):
            response = await client.fetch("GET", f"/size/{number}")
            assert bytes(response.body) == pattern(number)
        assert setup.origin.connections == 1

    pair.run(scenario)


def test_many_requests_at_once_are_kept_apart(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        clients = [await setup.client()]
        if setup.ingress == "h1":
            clients += [await setup.client() for _ in range(29)]

        async def one(number: int) -> None:
            client = clients[number % len(clients)]
            response = await client.fetch("GET", f"/size/{1000 + number}")
            assert bytes(response.body) == pattern(1000 + number)

        await asyncio.gather(*(one(number) for number in range(30)))

    pair.run(scenario)
