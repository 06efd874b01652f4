"""The beginning and the end of an embedded proxy: twice, cancelled, and failing in between."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import spooky
from tests.embedding.test_embedding import configuration
from tests.support.proxy import connect
from tests.support.waiting import until

Application = Callable[[Any, Any, Any], Awaitable[None]]


def noted(notes: list[str], name: str, *, hangs: bool = False, fails: bool = False) -> Application:
    """Return an application that notes what its lifespan sees."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": name.encode()})
            return
        try:
            await receive()
            notes.append(f"{name} begins")
            if hangs:
                await asyncio.sleep(3600)
            answer = "failed" if fails else "complete"
            await send({"type": f"lifespan.startup.{answer}", "message": "no database"})
            await receive()
            notes.append(f"{name} stops")
            await send({"type": "lifespan.shutdown.complete"})
        finally:
            notes.append(f"{name} is over")

    return application


def on_free_port(directory: Path, **apps: str) -> dict[str, Any]:
    """Return a configuration whose port is known beforehand and free."""
    settings = configuration(directory, **apps)

    async def find() -> int:
        apps_there = {name: lambda request: spooky.Response() for name in apps}
        async with spooky.Proxy(settings, apps=apps_there) as proxy:
            return proxy.port

    settings["listen"]["port"] = asyncio.run(find())
    return settings


def test_a_second_start_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        proxy = spooky.Proxy(configuration(tmp_path, one="/"), apps={"one": noted([], "one")})
        with pytest.raises(RuntimeError, match="not running"):
            _ = proxy.port
        async with proxy:
            with pytest.raises(RuntimeError, match="runs already"):
                await proxy.start()
            client = await connect("h3", proxy.port)
            assert bytes((await client.fetch("GET", "/")).body) == b"one"
            await client.close()
        await proxy.close()
        await proxy.close()
        with pytest.raises(RuntimeError, match="not running"):
            await proxy.drain()

    asyncio.run(scenario())


def test_a_start_that_is_cancelled_leaves_nothing_and_can_be_made_again(tmp_path: Path) -> None:
    notes: list[str] = []
    settings = on_free_port(tmp_path, one="/", two="/two")

    async def scenario() -> None:
        apps = {"one": noted(notes, "one"), "two": noted(notes, "two", hangs=True)}
        starting = asyncio.create_task(spooky.Proxy(settings, apps=apps).start())
        await until(lambda: "two begins" in notes)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert notes[2:] == ["two is over", "one stops", "one is over"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with spooky.Proxy(settings, apps={**apps, "two": noted(notes, "two")}):
            pass

    asyncio.run(scenario())


def test_one_application_that_fails_to_start_stops_those_that_have(tmp_path: Path) -> None:
    notes: list[str] = []

    async def scenario() -> None:
        apps = {"one": noted(notes, "one"), "two": noted(notes, "two", fails=True)}
        proxy = spooky.Proxy(configuration(tmp_path, one="/", two="/two"), apps=apps)
        with pytest.raises(RuntimeError, match="failed to start: no database"):
            await proxy.start()
        assert notes[2:] == ["two is over", "one stops", "one is over"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["cancelling it", "closing"])
def test_a_drain_that_takes_too_long_is_ended(by: str, tmp_path: Path) -> None:
    notes: list[str] = []
    answering = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await noted(notes, "slow")(scope, receive, send)
            return
        answering.set()
        await asyncio.sleep(3600)

    async def scenario() -> None:
        settings = configuration(tmp_path, slow="/")
        settings["performance"] = {"shutdown_drain_timeout_ms": 3_600_000}
        proxy = spooky.Proxy(settings, apps={"slow": slow})
        await proxy.start()
        client = await connect("h3", proxy.port)
        await client.open("GET", "/")
        await answering.wait()
        draining = asyncio.create_task(proxy.drain())
        await asyncio.sleep(0.1)
        if by == "closing":
            await proxy.close()
            await draining
        else:
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
        assert notes[1:] == ["slow stops", "slow is over"]
        assert proxy.addresses == []
        await client.close()

    asyncio.run(scenario())


def test_a_shutdown_that_is_cancelled_leaves_no_application_behind(tmp_path: Path) -> None:
    notes: list[str] = []
    stopping = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stopping.set()
        await asyncio.sleep(3600)

    async def scenario() -> None:
        settings = configuration(tmp_path, endless="/endless", other="/")
        apps = {"endless": endless, "other": noted(notes, "other")}
        proxy = spooky.Proxy(settings, apps=apps)
        await proxy.start()
        closing = asyncio.create_task(proxy.close())
        await stopping.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert notes == ["other begins", "other is over"]

    asyncio.run(scenario())


class Stubborn:
    """An application whose lifespan is over when it is let go, however often it is cancelled."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stopping.set()
        while not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()


@pytest.mark.parametrize("by", ["draining", "closing"])
def test_whoever_closes_while_it_stops_waits_for_the_end(by: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        application = Stubborn()
        proxy = spooky.Proxy(configuration(tmp_path, one="/"), apps={"one": application})
        await proxy.start()
        first = asyncio.create_task(proxy.drain() if by == "draining" else proxy.close())
        await application.stopping.wait()
        second = asyncio.create_task(proxy.close())
        await asyncio.sleep(0.05)
        assert not second.done()
        application.let_go.set()
        await second
        assert proxy.addresses == []
        await first

    asyncio.run(scenario())


def test_who_waited_for_the_end_ends_nothing_that_was_started_since(tmp_path: Path) -> None:
    async def scenario() -> None:
        application = Stubborn()
        proxy = spooky.Proxy(configuration(tmp_path, one="/"), apps={"one": application})
        await proxy.start()

        async def start_again() -> None:
            await proxy.close()
            await proxy.start()

        again = asyncio.create_task(start_again())
        await application.stopping.wait()
        waits = asyncio.create_task(proxy.close())
        await asyncio.sleep(0)
        application.let_go.set()
        await waits
        await again
        with pytest.raises(RuntimeError, match="runs already"):
            await proxy.start()
        assert proxy.port
        await proxy.close()

    asyncio.run(scenario())


def test_a_stop_that_is_cancelled_again_and_again_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        application = Stubborn()
        settings = configuration(tmp_path, one="/")
        settings["observability"] = {"metrics": {"enabled": True, "port": 0}}
        proxy = spooky.Proxy(settings, apps={"one": application})
        await proxy.start()
        closing = asyncio.create_task(proxy.close())
        await application.stopping.wait()
        while not closing.done():
            closing.cancel()
            await asyncio.sleep(0)
        assert closing.cancelled()
        assert proxy.addresses == []
        application.let_go.set()
        await proxy.start()
        await proxy.close()

    asyncio.run(scenario())
