"""A connection of an HTTP server that does not live for ever."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp.web_protocol import RequestHandler

EXPIRED_SECONDS: Final = 0.5
"""How often it is looked whether a connection that has expired is still busy."""


class TimedConnection(asyncio.Protocol):
    """A connection that is closed after a time, whatever it does.

    Arguments:
        handler: What speaks HTTP on it.
        seconds: How long it lives.
        is_busy: Says whether something is under way that must not be cut: then it lives on for as
            long again.
    """

    def __init__(
        self,
        handler: RequestHandler,
        seconds: float,
        is_busy: Callable[[RequestHandler], bool] = lambda _: False,
    ) -> None:
        self._handler = handler
        self._seconds = seconds
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._on_time)
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if not self.lost.done():
            self.lost.set_result(None)
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def expire(self) -> None:
        """Close the connection now, or as soon as what is under way is done."""
        self._seconds = EXPIRED_SECONDS
        self._timer.cancel()
        self._timer = self._loop.call_later(0, self._on_time)

    def end(self) -> None:
        """Forget the time; for a connection that never was made. Idempotent."""
        self._timer.cancel()

    def _on_time(self) -> None:
        if self._is_busy(self._handler):
            self._timer = self._loop.call_later(self._seconds, self._on_time)
        else:
            self._handler.force_close()
