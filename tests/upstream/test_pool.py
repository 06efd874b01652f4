"""A pool whose dials fail by a defect."""

import asyncio

import pytest

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.runtime import Runtime
from spooky.upstream.dial import DialSettings
from spooky.upstream.origin import Origin
from spooky.upstream.pool import Pool, PoolSettings
from spooky.upstream.quic import Http3Settings


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
        settings = PoolSettings(1, 1.0, 1.0, Http1Limits(), Http2Limits(), Http3Settings())
        origin = Origin("http", "backend.test", 80)
        pool = Pool(runtime, DialSettings(origin, "http1", None), settings, resolve)
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
