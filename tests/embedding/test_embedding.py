"""The proxy inside somebody else's event loop, and applications as backends."""

import asyncio
import importlib.util
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

import spooky
from tests.certificates import ca, leaf, write
from tests.support.client import Client
from tests.support.proxy import connect

Runner = Callable[[Coroutine[Any, Any, None]], None]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "starlette_app.py"


@pytest.fixture(params=["asyncio", "uvloop"])
def run_on(request: pytest.FixtureRequest) -> Runner:
    """Run on asyncio's own loop, and on uvloop."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


def configuration(directory: Path, **apps: str) -> dict[str, Any]:
    """Return a configuration with an application at each path prefix."""
    certificate, key = write(leaf(["localhost"], ca()), directory)
    return {
        "version": 1,
        "listen": {
            "address": "127.0.0.1",
            "port": 0,
            "tls": {"cert": str(certificate), "key": str(key)},
        },
        "access_log": {"enabled": False},
        "upstream": {
            name: {
                "route": {"path_prefix": prefix},
                "backends": [{"id": name, "address": f"app:{name}"}],
            }
            for name, prefix in apps.items()
        },
    }


def test_the_documented_example_serves_over_http3(run_on: Runner, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("starlette_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    async def scenario() -> None:
        settings = configuration(tmp_path, site="/", health="/healthz")
        apps = {"site": example.application, "health": example.health}
        async with spooky.Proxy(settings, apps=apps) as proxy:
            client = await connect("h3", proxy.port)
            hello = await client.fetch("GET", "/hello/world")
            assert json.loads(hello.body) == {"greeting": "Hello, world"}
            assert bytes((await client.fetch("GET", "/count")).body) == b"0\n1\n2\n"
            assert bytes((await client.fetch("GET", "/healthz")).body) == b"fine\n"
            await client.close()

    run_on(scenario())


def test_an_asgi_application_sees_the_request_as_it_was(run_on: Runner, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("no lifespan here")
        seen.update(scope)
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 201, "headers": [(b"X-A", b"b")]})
        await send({"type": "http.response.body", "body": body})

    async def scenario() -> None:
        settings = configuration(tmp_path, site="/")
        async with spooky.Proxy(settings, apps={"site": application}) as proxy:
            client = await connect("h3", proxy.port)
            response = await client.fetch("POST", "/caf%C3%A9?q=1", body=b"x" * 300_000)
            assert response.status == 201
            assert response.header(b"x-a") == b"b"
            assert bytes(response.body) == b"x" * 300_000
            await client.close()

    run_on(scenario())
    assert seen["path"] == "/café"
    assert seen["raw_path"] == b"/caf%C3%A9"
    assert seen["query_string"] == b"q=1"
    assert seen["method"] == "POST"
    assert seen["client"] == ("127.0.0.1", 0)
    assert (b"host", b"localhost") in seen["headers"]


def test_an_application_that_fails_is_a_500_and_one_that_fails_late_is_a_reset(
    run_on: Runner, tmp_path: Path
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
            await asyncio.sleep(0.05)
        if scope.get("path") == "/cancelled":
            inner = asyncio.create_task(asyncio.sleep(30))
            inner.cancel()
            await inner
        raise RuntimeError("broken")

    async def scenario() -> None:
        settings = configuration(tmp_path, site="/")
        async with spooky.Proxy(settings, apps={"site": application}) as proxy:
            client = await connect("h3", proxy.port)
            assert (await client.fetch("GET", "/early")).status == 500
            assert (await client.fetch("GET", "/cancelled")).status == 500
            late = await client.fetch("GET", "/late")
            assert (late.status, late.cut) == (200, "RESET_STREAM 0x102")
            await client.close()

    run_on(scenario())


def test_an_application_is_told_that_the_client_has_gone(run_on: Runner, tmp_path: Path) -> None:
    ended: list[str] = []
    started = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("ended")

    async def scenario() -> None:
        settings = configuration(tmp_path, site="/")
        async with spooky.Proxy(settings, apps={"site": application}) as proxy:
            client: Client = await connect("h3", proxy.port)
            stream = await client.open("GET", "/")
            await asyncio.wait_for(started.wait(), 30)
            await stream.cancel()
            async with asyncio.timeout(30):
                while not ended:
                    await asyncio.sleep(0.01)
            await client.close()

    run_on(scenario())


def test_a_fast_application_waits_for_a_slow_client(run_on: Runner, tmp_path: Path) -> None:
    """Credit follows consumption inside the process too."""
    sent = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 65536

    async def scenario() -> None:
        settings = configuration(tmp_path, site="/")
        async with spooky.Proxy(settings, apps={"site": application}) as proxy:
            client: Any = await connect("h3", proxy.port)
            client.give_no_credit()
            stream = await client.open("GET", "/")
            await asyncio.wait_for(stream.head_arrived.wait(), 30)
            before = -1
            while before != sent:
                before = sent
                assert sent < 8 * 1024 * 1024
                await asyncio.sleep(0.5)
            await stream.cancel()
            await client.close()

    run_on(scenario())


def test_an_address_that_names_no_application_is_an_error_with_the_names_there_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(spooky.ConfigurationError) as failure:
        spooky.Proxy(configuration(tmp_path, missing="/"), apps={"site": lambda request: None})
    assert "site" in str(failure.value)


def test_a_port_in_use_is_a_clear_error(run_on: Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = configuration(tmp_path, site="/")
        apps = {"site": lambda request: spooky.Response()}
        async with spooky.Proxy(settings, apps=apps) as first:
            settings["listen"]["port"] = first.port
            with pytest.raises(spooky.BindError, match=f"port {first.port} .*in use"):
                await spooky.Proxy(settings, apps=apps).start()

    run_on(scenario())


def test_a_proxy_can_be_started_again_after_it_was_drained(run_on: Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        proxy = spooky.Proxy(
            configuration(tmp_path, site="/"), apps={"site": lambda request: spooky.Response(b"a")}
        )
        for _ in range(2):
            async with proxy:
                client = await connect("h3", proxy.port)
                assert bytes((await client.fetch("GET", "/")).body) == b"a"
                await client.close()

    run_on(scenario())
