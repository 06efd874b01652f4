"""An event loop for simulated time."""

import asyncio
from collections.abc import Callable
from typing import Any, cast


class Loop:
    """An event loop that turns when told; only what :class:`Runtime` asks of it."""

    def __init__(self) -> None:
        self._ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(0.0, callback, (), cast(Any, self))

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def turn(self) -> None:
        """Run what waits for the end of the turn."""
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()
