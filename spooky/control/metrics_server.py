"""The Prometheus endpoint."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from spooky._core.shared import Segment
from spooky.config.observability import Metrics
from spooky.control.leaving import all_gone, say_last
from spooky.control.sockets import BindError, bind_endpoint, bind_error, share_port
from spooky.control.timed_connection import TimedConnection
from spooky.edge.turning_away import turn_away
from spooky.observe.exposition import Exposition
from spooky.observe.metrics import Fact

logger = logging.getLogger(__name__)

BACKLOG: Final = 64
"""Scrapers are few."""


CLOSE_SECONDS: Final = 0.1
"""How long answers under way have when the endpoint closes; 0 would have no bound."""


class _Refusing(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


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
        self._socket: socket.socket | None = None
        self._is_leaving = False

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; ``None`` if it does not."""
        if self._listening is None or not self._listening.sockets:
            return None
        host, port = self._listening.sockets[0].getsockname()[:2]
        return host, port

    @property
    def listening(self) -> socket.socket | None:
        """The socket that it listens on; ``None`` if it does not."""
        return self._socket if self.address is not None else None

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BindError: The address cannot be bound, and metrics are required.
        """
        await self.open()
        await self.begin()

    async def open(
        self, inherited: socket.socket | None = None, beside: Iterable[socket.socket] = ()
    ) -> None:
        """Bind; clients that connect are refused until :meth:`begin`.

        Arguments:
            inherited: A socket to listen on instead of one of its own.
            beside: What listens now, and closes later.

        Raises:
            BindError: The address cannot be bound, and metrics are required.
        """
        settings = self._settings
        try:
            self._socket = inherited or bind_endpoint(
                settings.address, settings.port, "metrics", beside
            )
            self._listening = await self._loop.create_server(
                self._connect, sock=self._socket, backlog=BACKLOG, start_serving=False
            )
        except BindError as error:
            if settings.required:
                raise
            logger.error("serving without metrics: %s", error)

    def listen(self) -> None:
        """Have scrapers wait until :meth:`begin`, just before that.

        Raises:
            BindError: Another program listens there since it was bound.
        """
        if self.listening is None:
            return
        try:
            self.listening.listen(BACKLOG)
        except OSError as error:
            address, port = self._settings.address, self._settings.port
            raise bind_error(address, port, "metrics", error) from error

    async def begin(self) -> None:
        """Listen and answer, if it is bound."""
        if self._listening is None:
            return
        try:
            await self._listening.start_serving()
        except OSError as error:
            logger.error("serving without metrics: %s", error)
        self.keep_port()

    def keep_port(self) -> None:
        """Share the port with no other socket any more."""
        if self.listening is not None:
            share_port(self.listening, False)

    def use(self, settings: Metrics) -> None:
        """Go by other settings from now on; the address and the port stay."""
        self._settings = settings

    def turn_away(self) -> bool:
        """Have the kernel let nobody in any more.

        Returns:
            Whether it does; if not, only to close ends that.
        """
        return self.listening is not None and turn_away(self.listening)

    async def leave(self, arrival_seconds: float) -> None:
        """Stop when those who were let in have had their answers, within a bounded time.

        Arguments:
            arrival_seconds: How long they may still come.
        """
        self._is_leaving = True
        await asyncio.sleep(arrival_seconds)
        self._stop_accepting()
        await all_gone(lambda: self._server.connections)
        await self.close()

    async def close(self) -> None:
        """Stop; idempotent."""
        self._stop_accepting()
        self._server.pre_shutdown()
        await self._server.shutdown(CLOSE_SECONDS)

    def _stop_accepting(self) -> None:
        if self._listening is not None:
            self._listening.close()

    def _connect(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._settings.max_connections:
            return _Refusing()
        return TimedConnection(self._server(), self._settings.connection_timeout_ms / 1000)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = self._page(request)
        if self._is_leaving:
            say_last(answer)
        return answer

    def _page(self, request: web.BaseRequest) -> web.Response:
        if request.path != self._settings.path:
            return web.Response(status=404, text="no such page\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        body, content_type = self._exposition.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
