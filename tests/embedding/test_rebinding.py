"""An embedded proxy whose listener moves on its own port, as one of `spooky serve` may."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import spooky
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES, Client, configuration, connect, run


def settings_on(directory: Path, address: str, port: int) -> dict[str, Any]:
    settings = configuration(directory, "app:site")
    settings["listen"] |= {"address": address, "port": port}
    return settings


def site(request: spooky.Request) -> spooky.Response:
    return spooky.Response(body=request.path.encode())


async def fetch(clients: Sequence[Client]) -> set[bytes]:
    return {bytes((await client.fetch("GET", "/here")).body) for client in clients}


def takes_another(port: int) -> bool:
    """Return whether another Spooky of this user can have a port as well, TCP or UDP."""
    for kind, option in (
        (socket.SOCK_STREAM, socket.SO_REUSEADDR),
        (socket.SOCK_DGRAM, socket.SO_REUSEPORT),
    ):
        with socket.socket(type=kind) as other:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
            try:
                other.bind(("127.0.0.1", port))
            except OSError:
                continue
            return True
    return False


def test_a_listener_is_rebound_on_its_port_and_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        first = settings_on(tmp_path, "127.0.0.1", port)
        async with spooky.Proxy(first, apps={"site": site}) as proxy:
            # Less and more specific, one that drains still, and one that overlaps with both.
            for address in ("0.0.0.0", "127.0.0.1", "::", "0.0.0.0", "127.0.0.1"):
                before = [await connect(ingress, port) for ingress in INGRESSES]
                assert await fetch(before) == {b"/here"}
                await proxy.apply(settings_on(tmp_path, address, port))
                assert proxy.addresses == [(address, port)]
                after = [await connect(ingress, port) for ingress in INGRESSES]
                assert await fetch(after) == {b"/here"}
                for client in (*before, *after):
                    await client.close()
            assert not takes_another(port)

    run(scenario)


def test_a_rebinding_that_cannot_be_leaves_the_port_to_nobody_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        first = settings_on(tmp_path, "127.0.0.1", port)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = settings_on(tmp_path, "0.0.0.0", port)
            listen = other.pop("listen")
            other["listeners"] = [listen, {**listen, "port": taken.getsockname()[1]}]
            async with spooky.Proxy(first, apps={"site": site}) as proxy:
                with pytest.raises(spooky.BindError, match="stop what uses it, or choose another"):
                    await proxy.apply(other)
                assert not takes_another(port)
                client = await connect("h3", port)
                assert await fetch([client]) == {b"/here"}
                await client.close()

    run(scenario)


def test_a_free_port_that_is_written_down_is_the_same_listener(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = settings_on(tmp_path, "127.0.0.1", 0)
        async with spooky.Proxy(first, apps={"site": site}) as proxy:
            clients = [await connect(ingress, proxy.port) for ingress in INGRESSES]
            await proxy.apply(settings_on(tmp_path, "127.0.0.1", proxy.port))
            assert not proxy.worker.removed
            assert await fetch(clients) == {b"/here"}
            for client in clients:
                await client.close()

    run(scenario)
