"""The lifespan of an embedded application: told to start before, and to stop after serving."""

import asyncio
import logging

from spooky.upstream.application import Application, Message, PlainApplication, Scope, as_asgi

logger = logging.getLogger(__name__)


class Lifespan:
    """The ASGI lifespan of one application: startup before, shutdown after serving.

    Arguments:
        application: An ASGI application; plain callables have no lifespan.
    """

    def __init__(self, application: Application) -> None:
        self._application = as_asgi(application)
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Tell the application to start.

        Raises:
            RuntimeError: It reported that it failed to; its task is over, as if this is cancelled.
        """
        if isinstance(self._application, PlainApplication):
            return
        self._asked, self._failure = False, None
        # What an earlier run of the application left unread is not for this one.
        self._to_application = asyncio.Queue()
        task = self._task = asyncio.create_task(self._run())
        await self._ask("lifespan.startup", task)
        if self._failure is not None:
            await _end(task)
            raise RuntimeError(f"the application failed to start: {self._failure}")

    async def shutdown(self) -> None:
        """Tell the application to stop, and wait until it has."""
        task = self._task
        if task is None or task.done():
            return
        await self._ask("lifespan.shutdown", task)
        await asyncio.wait({task})
        if self._failure is not None:
            logger.error("the application failed to stop: %s", self._failure)

    async def abandon(self) -> None:
        """End what is not over, without telling the application."""
        if self._task is not None and not self._task.done():
            await _end(self._task)

    async def _ask(self, event: str, task: asyncio.Task[None]) -> None:
        self._answered.clear()
        self._to_application.put_nowait({"type": event})
        try:
            await self._answered.wait()
        except asyncio.CancelledError:
            await _end(task)
            raise

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        try:
            await self._application(scope, self._receive, self._send)
        except Exception:
            if self._asked and self._failure is None:
                logger.exception("the application's lifespan failed")
            else:
                # An application without lifespan raises before it asks what there is: that is how
                # ASGI says so. One that said that it failed may raise too.
                logger.debug("the application has no lifespan, or ended it", exc_info=True)
        finally:
            self._answered.set()

    async def _receive(self) -> Message:
        self._asked = True
        return await self._to_application.get()

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._failure = message.get("message", "no message")
        self._answered.set()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it is over."""
    task.cancel()
    await asyncio.wait({task})
