"""What a request was made of is freed as soon as it ended, without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spooky._core.attempt import Attempt
from spooky.request.exchange import Exchange
from tests.pairs.conftest import Pair
from tests.support.origin import pattern
from tests.support.proxy import Setup
from tests.support.waiting import until


def alive() -> int:
    """Return how many sides of exchanges there are."""
    return sum(isinstance(thing, Exchange | Attempt) for thing in gc.get_objects())


@contextmanager
def no_collector() -> Iterator[int]:
    """Keep the garbage collector away; yields how many sides of exchanges there are before."""
    gc.collect()
    gc.disable()
    try:
        yield alive()
    finally:
        gc.enable()


def test_an_exchange_that_ended_is_freed(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        for method, path, body in (
            ("GET", "/size/1000", b""),
            ("POST", "/echo", pattern(100_000)),
            ("GET", "/trailers", b""),
            ("POST", "/count", pattern(100_001)),
            ("POST", "/reset-before-head", b"x"),
            ("GET", "/cut-short/100000", b""),
        ):
            with no_collector() as before:
                await client.fetch(method, path, body=body)
                await until(lambda before=before: alive() == before)
            if setup.ingress == "h1":
                client = await setup.client()

    def change(settings: dict[str, Any]) -> None:
        settings["performance"] |= {"max_request_body_bytes": 100_000}

    pair.run(scenario, change)


def test_an_exchange_that_its_client_gave_up_is_freed(pair: Pair) -> None:
    async def scenario(setup: Setup) -> None:
        for path in ("/wait", "/endless"):
            client = await setup.client()
            with no_collector() as before:
                stream = await client.open("GET", path)
                await until(lambda before=before: alive() > before)
                await stream.cancel()
                await until(lambda before=before: alive() == before)

    pair.run(scenario)
