"""The metrics endpoint through changes: opened, moved, closed."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING

from spooky._core.shared import Segment
from spooky.config.observability import Metrics
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.control.leaving import Leaving
from spooky.control.sockets import BindError
from spooky.observe.metrics import Fact

if TYPE_CHECKING:
    from spooky.control.metrics_server import MetricsServer


class MetricsEndpoint:
    """Serves metrics where and if the configuration in force says so.

    Arguments:
        segment: What the workers count in.
        facts: Gives what else there is to tell.
    """

    def __init__(self, segment: Segment, facts: Callable[[], Iterable[Fact]]) -> None:
        self._segment = segment
        self._facts = facts
        self._settings = Metrics()
        self._server: MetricsServer | None = None
        self._leaving = Leaving()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def descriptors(self) -> dict[str, int]:
        """What a program that takes over needs, by name."""
        listening = self._server.listening if self._server is not None else None
        return {"metrics": listening.fileno()} if listening is not None else {}

    def leave(self) -> None:
        """Stop, and leave the address to the program that took over."""
        left, self._server = self._server, None
        if left is not None:
            self._leaving.hand_over(left)

    async def start(self, settings: Metrics, inherited: socket.socket | None = None) -> None:
        """Begin.

        Arguments:
            inherited: The socket of a program that this one takes over from, if that has one.

        Raises:
            BindError: The address cannot be bound, and metrics are required.
        """
        self._settings = settings
        self._server = await self._open(settings, inherited)
        if self._server is not None:
            await self._server.begin()

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._server is not None:
            await self._server.close()
        await self._leaving.end()
        await asyncio.gather(*self._closing)

    async def prepare(self, change: NextGeneration) -> Step:
        """Open where the endpoint will be, if it moves.

        Raises:
            PrepareError: The address cannot be bound, and metrics are required.
        """
        settings = change.candidate.configuration.observability.metrics
        old = self._server
        # What could not be served before and is not touched stays so, and stops no other change.
        stays = settings == self._settings or (
            old is not None
            and old.address is not None
            and settings.enabled
            and (settings.address, settings.port) == (self._settings.address, self._settings.port)
        )
        try:
            new = old if stays else await self._open(settings)
        except BindError as error:
            raise PrepareError(str(error)) from error
        if not stays and new is not None and new.address is None:
            await new.close()
            raise PrepareError(
                f"metrics cannot be served on {settings.address} port {settings.port}"
            )

        def check() -> None:
            if not stays and new is not None:
                try:
                    new.listen()
                except BindError as error:
                    raise PrepareError(str(error)) from error

        def commit() -> None:
            self._server, self._settings = new, settings
            if stays and new is not None:
                new.use(settings)
            else:
                self._later(new.begin() if new is not None else None)
                if old is not None:
                    self._leaving.leave(old)

        def discard() -> None:
            if not stays:
                self._close_later(new)
            if old is not None:
                old.keep_port()

        return Step(commit, discard, check)

    async def _open(
        self, settings: Metrics, inherited: socket.socket | None = None
    ) -> "MetricsServer | None":
        if not settings.enabled:
            return None
        # Only who wants metrics waits for aiohttp.
        from spooky.control.metrics_server import MetricsServer

        server = MetricsServer(settings, self._segment, self._facts)
        listening = self._server.listening if self._server is not None else None
        beside = (
            self._leaving.listening if listening is None else [*self._leaving.listening, listening]
        )
        await server.open(inherited, beside)
        return server

    def _close_later(self, server: "MetricsServer | None") -> None:
        self._later(server.close() if server is not None else None)

    def _later(self, work: Coroutine[None, None, None] | None) -> None:
        if work is not None:
            task = asyncio.get_running_loop().create_task(work)
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
