"""Leaving an address to another program, or to another place, without failing who is connected."""

import asyncio
from collections.abc import Callable, Sized
from typing import Final

from aiohttp import web

LEAVE_SECONDS: Final = 2.0
"""How long who is connected has for the request that they came for, when nobody else is accepted
any more: a handshake and a request take a busy machine less."""

POLL_SECONDS: Final = 0.02
"""How often it is looked whether all have gone."""


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
