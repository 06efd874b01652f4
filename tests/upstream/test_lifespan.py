"""The lifespan of an embedded application, and what is said of one that fails."""

import asyncio
import logging
from typing import Any

import pytest

from spooky.upstream.lifespan import Lifespan


async def live(application: Any) -> None:
    """Start and stop an application."""
    lifespan = Lifespan(application)
    await lifespan.startup()
    await asyncio.sleep(0)
    await lifespan.shutdown()


def test_an_application_that_has_no_lifespan_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    asyncio.run(live(application))
    assert not caplog.records


def test_one_that_fails_once_it_was_asked_is_logged_with_its_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise OSError("no database")

    asyncio.run(live(application))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR, "the application's lifespan failed",
    )  # fmt: skip
    assert "no database" in caplog.text


def test_one_that_says_that_it_cannot_start_is_told_to_who_starts_it_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise OSError("no database")

    with pytest.raises(RuntimeError, match="failed to start: no database"):
        asyncio.run(live(application))
    assert not caplog.records


def test_one_that_says_that_it_cannot_stop_is_logged_and_starts_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})

    async def scenario() -> None:
        lifespan = Lifespan(application)
        for _ in range(2):
            await lifespan.startup()
            await lifespan.shutdown()

    asyncio.run(scenario())
    assert caplog.messages == ["the application failed to stop: disk full"] * 2
