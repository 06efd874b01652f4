"""Backends that misbehave, behind a running proxy: they hurt only their own requests."""

import asyncio

import pytest

from tests.attacks.ground import MIB, Ground
from tests.attacks.hostile_backends import (
    BEHAVIOURS,
    COMPLETE,
    CUT_H1,
    DRIPPING,
    ENDLESS_H1,
    GOOD,
    POISON,
    SILENT_H1,
    WHOLE_H1,
    going_on,
)
from tests.attacks.hostile_backends_h3 import BEHAVIOURS as BEHAVIOURS_H3
from tests.support.client import Response
from tests.support.proxy import INGRESSES, connect, run

FAILED = {0, 502, 503, 504}
"""What a client gets for an answer that is none; 0 for a stream that was reset."""

H1 = [*WHOLE_H1, *CUT_H1, *ENDLESS_H1, *SILENT_H1]


async def attacked(proxy: Ground, upstream: str, what: str, ingress: str) -> Response:
    """Ask for a hostile answer, and for a good one after that."""
    client = await connect(ingress, proxy.port)
    try:
        async with asyncio.timeout(60):
            answer = await client.fetch("GET", f"/{upstream}/{what}")
            if ingress == "h1" and failed(answer):
                await client.close()
                client = await connect(ingress, proxy.port)
            after = await client.fetch("GET", f"/{upstream}/good")
    finally:
        await client.close()
    assert (after.status, after.body) == (200, GOOD), what
    return answer


def failed(response: Response) -> bool:
    """Return whether the client was told, by the status or by a cut."""
    return response.status in FAILED or response.cut is not None


@pytest.mark.parametrize("kind", ["h1", "h2", "h3"])
def test_a_hostile_backend_hurts_only_its_own_requests(proxy: Ground, kind: str) -> None:
    """Header bombs, endless 1xx, bad chunks, lies about lengths, resets, GOAWAY games, floods.

    Those of HTTP/1.1 many at a time, each on its own connections; those of HTTP/2 and HTTP/3, which
    would share one, each after the other. Bystanders go through the same worker.
    """

    async def scenario() -> None:
        every = {"h1": H1, "h2": list(BEHAVIOURS), "h3": list(BEHAVIOURS_H3)}[kind]
        at_once = 12 if kind == "h1" else 1
        async with proxy.siege(96 * MIB) as siege:
            for start in range(0, len(every), at_once):
                several = every[start : start + at_once]
                found = await asyncio.gather(
                    *(
                        attacked(proxy, f"hostile-{kind}", what, INGRESSES[number % 3])
                        for number, what in enumerate(several)
                    )
                )
                for what, response in zip(several, found, strict=True):
                    assert POISON not in response.body, what
                    assert what in COMPLETE or failed(response), (what, response.status)
            assert siege.memory < 96 * MIB
        async with asyncio.timeout(30):
            while going_on:
                await asyncio.sleep(0.02)
        assert not proxy.hostile.reused, "a connection was used again after a broken answer"

    run(scenario)


def test_a_backend_that_drips_holds_nothing_of_others(proxy: Ground) -> None:
    """A byte now and then is no stall; when its client goes, the backend's connection goes too."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            clients = [await connect("h2", proxy.port) for _ in range(10)]
            streams = [await each.open("GET", f"/hostile-h1/{DRIPPING}") for each in clients]
            for stream in streams:
                async with asyncio.timeout(30):
                    await stream.head_arrived.wait()
                assert stream.response.status == 200
            await asyncio.sleep(0.3)
            for client in clients:
                await client.close()
            async with asyncio.timeout(30):
                while going_on:
                    await asyncio.sleep(0.02)
            assert siege.memory < 16 * MIB

    run(scenario)
