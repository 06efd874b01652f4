"""Backends inside this process: each request runs an application in a task."""

import asyncio
import logging
from collections import deque
from urllib.parse import unquote_to_bytes

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.stream import Field, Fields, StreamHandler
from spooky.runtime import Runtime
from spooky.upstream.application import Application, AsgiApplication, Message, Scope, as_asgi
from spooky.upstream.pool import Caller

logger = logging.getLogger(__name__)

REQUEST_BUFFER_BYTES = 64 * 1024
"""Above this many unread bytes of request body the client gets no more credit."""

RESPONSE_WINDOW_BYTES = 256 * 1024
"""An application that sent this much more than was consumed waits in ``send``."""


class EmbeddedPool:
    """An application in this process, seen as a backend; each request costs one task.

    Arguments:
        runtime: The worker's.
        application: What answers.
    """

    def __init__(self, runtime: Runtime, application: Application) -> None:
        self._runtime = runtime
        self._application = as_asgi(application)
        self._streams: set[EmbeddedStream] = set()
        self._closed_until: float | None = None

    def request(self, caller: Caller) -> None:
        """Give ``caller`` a stream, now."""
        if self._closed_until is not None:
            if self._runtime.now() >= self._closed_until:
                caller.on_connect_failed(reasons.REMOVED, "")
                return
            self._runtime.schedule(self._closed_until, self._cut)
        caller.on_connected(EmbeddedStream(self, caller), False)

    def discard_idle(self) -> None:
        """Do nothing: there are no connections."""

    def cancel(self, caller: Caller) -> None:
        """Do nothing: nobody waits."""

    def close(self, seconds: float) -> None:
        """Let requests under way finish within so many seconds; then they are cut."""
        self._closed_until = self._runtime.now() + seconds
        if self._streams:
            self._runtime.schedule(self._closed_until, self._cut)

    def start(self, stream: "EmbeddedStream", scope: Scope) -> asyncio.Task[None]:
        """Run the application for one request."""
        self._streams.add(stream)
        task = self._runtime.start_task(stream.run(self._application, scope))
        task.add_done_callback(lambda _: self._streams.discard(stream))
        return task

    def _cut(self) -> None:
        for stream in list(self._streams):
            stream.cut(reasons.REMOVED)


class EmbeddedStream:
    """One request to an application, as an upstream stream."""

    protocol = "asgi"

    def __init__(self, pool: EmbeddedPool, handler: StreamHandler) -> None:
        self.handler = handler
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._body: deque[bytes] = deque()
        self._body_bytes = 0
        self._body_ended = False
        self._body_delivered = False
        self._held_back = False
        self._expects_continue = False
        self._head: list[Field] = []
        self._started = False
        self._ended = False
        self._head_only = False
        self._outstanding = 0
        # Set whenever something happened that the application may wait for.
        self._progress = asyncio.Event()

    # --- the stream contract ------------------------------------------------------------------

    def send_head(self, fields: Fields, end: bool) -> None:
        """Start the application with this request head."""
        self._body_ended = end
        self._head_only = (b":method", b"HEAD") in fields
        self._expects_continue = (b"expect", b"100-continue") in fields
        self._task = self._pool.start(self, asgi_scope(fields))

    def send_informational(self, fields: Fields) -> None:
        """Do nothing: requests have no informational heads."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Queue a piece of the request body for the application."""
        if self._ended:
            return True
        self._body.append(data)
        self._body_bytes += len(data)
        self._body_ended = end
        self._progress.set()
        self._held_back = self._body_bytes > REQUEST_BUFFER_BYTES
        return not self._held_back

    def send_trailers(self, fields: Fields) -> bool:
        """End the request body; ASGI has no request trailers."""
        self._body_ended = True
        self._progress.set()
        return True

    def consume(self, count: int) -> None:
        """Let the application send on."""
        self._outstanding -= count
        self._progress.set()

    def stop_receiving(self) -> None:
        """Treat as a reset: an application has no half-close."""
        self.reset(reasons.COMPLETED)

    def reset(self, reason: Reason) -> None:
        """Tell the application that the client is gone; one that still responds is cancelled."""
        if self._task is not None and not self._ended:
            self._task.cancel()
        self._ended = True
        self._progress.set()

    def cut(self, reason: Reason) -> None:
        """End the stream towards both sides."""
        if not self._ended:
            self.reset(reason)
            self.handler.on_reset(reason)

    # --- the application's side ---------------------------------------------------------------

    async def run(self, application: AsgiApplication, scope: Scope) -> None:
        """Run the application to its end, and see that the response has one too."""
        try:
            await application(scope, self._receive, self._send)
        except asyncio.CancelledError:
            # Where a client is gone it has ended before; else it was from within, or at the end.
            if not self._ended:
                logger.warning("the embedded application was cancelled on %s", scope["path"])
            raise
        except Exception:
            logger.exception("the embedded application failed on %s", scope["path"])
        else:
            if not self._ended:
                logger.error("the embedded application did not answer %s", scope["path"])
        finally:
            if not self._ended:
                self._ended = True
                self.handler.on_reset(reasons.APPLICATION_ERROR)

    async def _receive(self) -> Message:
        if self._expects_continue and not self._started:
            self._expects_continue = False
            self.handler.on_informational([(b":status", b"100")])
        while not (self._body or self._body_ended or self._ended):
            await self._wait()
        if self._body and not self._ended:
            return self._next_piece()
        if not self._body_delivered and not self._ended:
            self._body_delivered = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while not self._ended:
            await self._wait()
        return {"type": "http.disconnect"}

    def _next_piece(self) -> Message:
        data = self._body.popleft()
        self._body_bytes -= len(data)
        self._body_delivered = self._body_ended and not self._body
        if self._held_back and self._body_bytes <= REQUEST_BUFFER_BYTES // 2:
            self._held_back = False
            self.handler.on_writable()
        return {"type": "http.request", "body": data, "more_body": not self._body_delivered}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._ended:
            return  # ASGI: what is sent after a disconnect goes nowhere.
        if kind == "http.response.start":
            self._start_response(message)
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise ValueError(f"an application cannot send {kind!r}")

    def _start_response(self, message: Message) -> None:
        if self._started:
            raise ValueError("the application started its response twice")
        self._started = True
        self._head = [
            (b":status", b"%d" % message["status"]),
            *((bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())),
        ]

    async def _send_body(self, body: bytes, more: bool) -> None:
        if not self._started:
            raise ValueError("the application sent a body before its head")
        if self._head:
            head, self._head = self._head, []
            self._ended = self._head_only or not (body or more)
            self.handler.on_head(head, self._ended)
        if self._ended:
            return
        self._ended = not more
        if body or not more:
            self._outstanding += len(body)
            self.handler.on_data(bytes(body), not more)
        while self._outstanding > RESPONSE_WINDOW_BYTES and not self._ended:
            await self._wait()

    async def _wait(self) -> None:
        self._progress.clear()
        await self._progress.wait()


def asgi_scope(fields: Fields) -> Scope:
    """Return the ASGI scope of a request head.

    ``client`` is what ``X-Forwarded-For`` says, which the forwarding policy wrote.
    """
    pseudo = {name: value for name, value in fields if name.startswith(b":")}
    headers = [(name, value) for name, value in fields if not name.startswith(b":")]
    forwarded_for = next((value for name, value in headers if name == b"x-forwarded-for"), b"")
    client = forwarded_for.rpartition(b",")[2].strip().decode("ascii", "replace")
    raw_path, _, query = pseudo[b":path"].partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": pseudo[b":method"].decode("ascii"),
        "scheme": pseudo[b":scheme"].decode("ascii"),
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", pseudo[b":authority"]), *headers],
        "client": (client, 0) if client else None,
        "server": None,
    }
