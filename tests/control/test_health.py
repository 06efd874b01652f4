"""Liveness and readiness, from the first moment to the last."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from spooky import config
from spooky.config.schema import Configuration
from spooky.control.health import Health
from spooky.generation.materials import Materials
from spooky.observe.segment import private_segment
from spooky.runtime import Runtime
from tests.control.serve import Served, served
from tests.support.proxy import run


def looking(*states: str) -> tuple[Health, Configuration]:
    """Return what knows of an upstream's backends, which have these states, and what it goes by."""

    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host}:{port} is an address")

    health = Health(
        Runtime(asyncio.get_running_loop()), private_segment(), resolve, lambda *_: None
    )
    backends = [
        {"id": f"b{at}", "address": f"http://127.0.0.1:{1 + at}", "state": state}
        for at, state in enumerate(states)
    ]
    upstream = {"api": {"route": {"path_prefix": "/"}, "backends": backends}}
    listen = {"tls": {"cert": "c", "key": "k"}}
    settings = config.from_mapping({"listen": listen, "upstream": upstream})
    return health, settings


@pytest.mark.parametrize(
    ("states", "share"),
    [
        (("enabled", "drained"), 1.0),
        (("drained", "drained"), 0.0),
        (("disabled",), 0.0),
        (("drained", "disabled"), 0.0),
    ],
)
def test_an_upstream_without_an_enabled_backend_has_none_that_can_serve(
    states: tuple[str, ...], share: float
) -> None:
    async def scenario() -> None:
        health, settings = looking(*states)
        health.follow(settings, Materials({}, b""))
        assert health.ready() == {"api": share}
        assert health.any_can_serve is bool(share)
        health.close()

    asyncio.run(scenario())


async def ask(path: Path, target: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of an answer on a control socket."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


async def watch_start(path: Path) -> list[tuple[int, str]]:
    """Return what a start answers to readiness checks, up to the first that is good."""
    seen = []
    while not seen or seen[-1][0] != 200:
        try:
            status, answer = await ask(path, "/ready")
        except (FileNotFoundError, ConnectionError):
            await asyncio.sleep(0.005)
            continue
        assert answer["ready"] is (status == 200)
        seen.append((status, answer["state"]))
    return seen


def test_health_checks_tell_the_truth_from_start_to_end(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"

    def here(settings: dict[str, Any]) -> None:
        settings["control"] = {"socket": str(control)}

    async def scenario() -> None:
        starting = asyncio.ensure_future(watch_start(control))
        async with served(tmp_path, 1, here) as proxy:
            seen = await starting
            assert set(seen[:-1]) == {(503, "starting")}
            assert seen[-1] == (200, "serving")
            _, answer = await ask(control, "/ready")
            assert (answer["healthy_backends"], answer["total_backends"]) == (1, 1)
            _, document = await ask(control, "/openapi.json")
            assert "/admin/runtime/upgrade" in document["paths"]
            _, first = await ask(control, "/health")

            (worker,) = proxy.workers
            os.kill(worker, signal.SIGKILL)
            while (answer := await ask(control, "/ready"))[0] == 200:
                await asyncio.sleep(0.005)
            assert answer[0] == 503
            assert answer[1]["state"] == "no_worker"
            # The supervisor lives: to restart it would help nobody.
            status, later = await ask(control, "/health")
            assert status == 200
            assert later["uptime_ms"] > first["uptime_ms"] > 0
            while (await ask(control, "/ready"))[0] != 200:
                await asyncio.sleep(0.02)

            await drains(proxy, control)

    run(scenario)


async def drains(proxy: Served, control: Path) -> None:
    """Check what is said while a request keeps the service from ending."""
    client = await proxy.client("h2")
    stream = await client.open("GET", "/wait")
    await proxy.origin.gate.reached.wait()
    proxy.signal(signal.SIGTERM)
    while (answer := await ask(control, "/ready"))[0] == 200:
        await asyncio.sleep(0.005)
    assert (answer[1]["ready"], answer[1]["state"]) == (False, "draining")
    status, answer = await ask(control, "/health")
    assert (status, answer["status"], answer["state"]) == (200, "ok", "draining")
    proxy.origin.gate.opened.set()
    assert (await stream.whole()).status == 200
    assert await proxy.exited() == 0


def test_a_service_whose_backends_all_fail_their_checks_is_not_ready_and_sheds(
    tmp_path: Path,
) -> None:
    control = tmp_path / "control.sock"

    def here(settings: dict[str, Any]) -> None:
        settings["control"] = {"socket": str(control)}
        settings["upstream"]["backend"]["backends"][0]["health_check"] = {
            "path": "/wait", "interval": 200, "timeout_ms": 100, "failure_threshold": 1,
            "success_threshold": 1, "cooldown_ms": 0,
        }  # fmt: skip

    async def scenario() -> None:
        async with served(tmp_path, 1, here) as proxy:
            client = await proxy.client("h2")
            while (await ask(control, "/ready"))[1]["state"] != "no_backend":
                await asyncio.sleep(0.02)
            while (await client.fetch("GET", "/echo")).status != 503:
                await asyncio.sleep(0.02)
            assert (await ask(control, "/ready"))[0] == 503
            assert (await ask(control, "/health"))[0] == 200
            assert "backend one of backend cannot serve: no answer within 100 ms" in proxy.log
            proxy.origin.gate.opened.set()
            while (await client.fetch("GET", "/echo")).status != 200:
                await asyncio.sleep(0.02)
            assert (await ask(control, "/ready"))[0] == 200
            proxy.signal(signal.SIGTERM)
            assert await proxy.exited() == 0

    run(scenario)
