"""Waiting for what must come, however slow the machine is."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 60.0
"""A bound for what never comes: a busy machine takes many seconds for what takes one."""

LATE_SECONDS = 8.0
"""Sooner than any timeout that a test does not set, however busy the machine is."""


async def until(reached: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a state."""
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.02)


def refuses(port: int) -> bool:
    """Return whether TCP connections to a port are refused."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return True
    return False
