"""Leaving an address to another program, or to another place, without failing who is connected."""

import asyncio
import socket
from collections.abc import Callable, Sized
from typing import Final, Protocol

from aiohttp import web

from spooky.edge.turning_away import ARRIVAL_SECONDS

LEAVE_SECONDS: Final = 2.0
"""How long who is connected has for the request that they came for, when nobody else is accepted
any more: a handshake and a request take a busy machine less."""

POLL_SECONDS: Final = 0.02
"""How often it is looked whether all have gone."""


class Endpoint(Protocol):
    """What listens, and answers who is connected."""

    @property
    def listening(self) -> socket.socket | None:
        """The socket that it listens on; ``None`` if it does not."""

    def turn_away(self) -> bool:
        """Have the kernel let nobody in any more.

        Returns:
            Whether it does; if not, only to close ends that.
        """

    async def leave(self, arrival_seconds: float) -> None:
        """Stop when those who were let in have had their answers, within a bounded time.

        Arguments:
            arrival_seconds: How long they may still come.
        """

    async def close(self) -> None:
        """Stop at once; idempotent."""


class Leaving:
    """Endpoints that were left, on the running event loop, until they have stopped."""

    def __init__(self) -> None:
        self._endpoints: dict[Endpoint, asyncio.Task[None]] = {}

    @property
    def listening(self) -> list[socket.socket]:
        """The sockets of those that who was let in may still come to."""
        sockets = [endpoint.listening for endpoint in self._endpoints]
        return [one for one in sockets if one is not None]

    def leave(self, endpoint: Endpoint) -> None:
        """Have the kernel let nobody in there any more, and who is there get their answers."""
        self._begin(endpoint, ARRIVAL_SECONDS if endpoint.turn_away() else 0.0)

    def hand_over(self, endpoint: Endpoint) -> None:
        """Leave the same socket to another program, which has it as well."""
        self._begin(endpoint, 0.0)

    async def end(self) -> None:
        """Wait for nobody any more, and stop all that have not; idempotent."""
        endpoints, self._endpoints = self._endpoints, {}
        for task in endpoints.values():
            task.cancel()
        await asyncio.gather(*endpoints.values(), return_exceptions=True)
        for endpoint in endpoints:
            await endpoint.close()

    def _begin(self, endpoint: Endpoint, arrival_seconds: float) -> None:
        work = endpoint.leave(arrival_seconds)
        task = self._endpoints[endpoint] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._endpoints.pop(endpoint, None))


async def all_gone(connections: Callable[[], Sized]) -> None:
    """Wait until there is no connection any more, or for long enough."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEAVE_SECONDS
    while connections() and loop.time() < deadline:
        await asyncio.sleep(POLL_SECONDS)


def say_last(response: web.StreamResponse) -> None:
    """Have an answer say that its connection takes no other request."""
    response.headers["Connection"] = "close"
    response.force_close()
