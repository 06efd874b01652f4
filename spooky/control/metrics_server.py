"""The Prometheus endpoint."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from spooky._core.shared import Segment
from spooky.config.observability import Metrics
from spooky.control.sockets import BindError, bind_error
from spooky.observe.exposition import Exposition
from spooky.observe.metrics import Fact

logger = logging.getLogger(__name__)

BACKLOG: Final = 64
"""Scrapers are few."""


class _Refusing(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Timed(asyncio.Protocol):
    """A connection that is closed after a time, whatever it does."""

    def __init__(
        self, handler: RequestHandler, loop: asyncio.AbstractEventLoop, seconds: float
    ) -> None:
        self._handler = handler
        self._timer = loop.call_later(seconds, handler.force_close)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()


class MetricsServer:
    """Serves one page to scrapers, on the running event loop.

    Arguments:
        settings: Where, and how many at once.
        segment: What the workers count in.
        facts: Gives what else there is to tell.
    """

    def __init__(
        self, settings: Metrics, segment: Segment, facts: Callable[[], Iterable[Fact]]
    ) -> None:
        self._settings = settings
        self._exposition = Exposition(segment, facts)
        self._loop = asyncio.get_running_loop()
        self._server = web.Server(self._answer)
        self._listening: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; ``None`` if it does not."""
        if self._listening is None or not self._listening.sockets:
            return None
        host, port = self._listening.sockets[0].getsockname()[:2]
        return host, port

    async def start(self) -> None:
        """Listen.

        Raises:
            BindError: The address cannot be bound, and metrics are required.
        """
        settings = self._settings
        try:
            self._listening = await self._loop.create_server(
                self._connect, sock=_bind(settings.address, settings.port), backlog=BACKLOG
            )
        except BindError as error:
            if settings.required:
                raise
            logger.error("serving without metrics: %s", error)

    def use(self, settings: Metrics) -> None:
        """Go by other settings from now on; the address and the port stay."""
        self._settings = settings

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._listening is not None:
            self._listening.close()
        await self._server.shutdown(0)

    def _connect(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._settings.max_connections:
            return _Refusing()
        return _Timed(self._server(), self._loop, self._settings.connection_timeout_ms / 1000)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != self._settings.path:
            return web.Response(status=404, text="no such page\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        body, content_type = self._exposition.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _bind(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise bind_error(address, port, "metrics", error) from error
    return made
