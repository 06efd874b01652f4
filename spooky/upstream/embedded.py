"""Backends inside this process: ASGI applications and plain callables."""

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.protocol.stream import Field, Fields, StreamHandler
from spooky.runtime import Runtime
from spooky.upstream.pool import Caller

logger = logging.getLogger(__name__)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_BUFFER_BYTES = 64 * 1024
"""Above this many unread bytes of request body the client gets no more credit."""

RESPONSE_WINDOW_BYTES = 256 * 1024
"""An application that sent this much more than was consumed waits in ``send``."""

CALLABLE_BODY_BYTES = 1024 * 1024
"""A plain callable gets the whole body at once, so it is bounded; larger ones are refused."""

ASGI_PARAMETERS = 3
"""An ASGI application takes scope, receive and send; a plain callable takes a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a plain callable backend is called with."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What a plain callable backend returns.

    Attributes:
        body: The content, bytes.
        status: The HTTP status.
        headers: Name and value pairs, besides content-length.
    """

    body: bytes = b""
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


PlainCallable: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
Application: TypeAlias = AsgiApplication | PlainCallable


def as_asgi(application: Application) -> AsgiApplication:
    """Return the application if it is ASGI, else wrap a callable of one request.

    Raises:
        TypeError: It is neither.
    """
    call = application if inspect.isroutine(application) else type(application).__call__
    parameters = list(inspect.signature(call).parameters.values())
    if not inspect.isroutine(application):
        parameters = parameters[1:]
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) == ASGI_PARAMETERS:
        return application  # type: ignore[return-value]
    if len(required) == 1:
        return _PlainApplication(application)  # type: ignore[arg-type]
    raise TypeError(
        f"{application!r} is neither an ASGI application (scope, receive, send) "
        "nor a callable of one request"
    )


class _PlainApplication:
    """A plain callable as an ASGI application."""

    def __init__(self, call: PlainCallable) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"a plain callable does not serve {scope['type']}")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if len(body) > CALLABLE_BODY_BYTES:
                await _send_response(send, Response(b"The request body is too large.", 413))
                return
            if not message["more_body"]:
                break
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
            bytes(body),
        )
        result = self._call(request)
        response = await result if inspect.isawaitable(result) else result
        await _send_response(send, response)


async def _send_response(send: Send, response: Response) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
    headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


class EmbeddedPool:
    """An application in this process, seen as a backend; each request costs one task.

    Arguments:
        runtime: The worker's.
        application: What answers.
    """

    def __init__(self, runtime: Runtime, application: Application) -> None:
        self._runtime = runtime
        self._application = as_asgi(application)
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, caller: Caller) -> None:
        """Give ``caller`` a stream, now."""
        caller.on_connected(EmbeddedStream(self, caller), False)

    def discard_idle(self) -> None:
        """Do nothing: there are no connections."""

    def cancel(self, caller: Caller) -> None:
        """Do nothing: nobody waits."""

    def close(self) -> None:
        """Do nothing: requests under way end by themselves."""

    def start(self, stream: "EmbeddedStream", scope: Scope) -> asyncio.Task[None]:
        """Run the application for one request."""
        return self._runtime.start_task(stream.run(self._application, scope))


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
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Tell the application to start.

        Raises:
            RuntimeError: It reported that it failed to.
        """
        if isinstance(self._application, _PlainApplication):
            return
        self._task = asyncio.create_task(self._run())
        await self._ask("lifespan.startup")
        if self._failure is not None:
            raise RuntimeError(f"the application failed to start: {self._failure}")

    async def shutdown(self) -> None:
        """Tell the application to stop, and wait until it has."""
        if self._task is None or self._task.done():
            return
        await self._ask("lifespan.shutdown")
        await self._task

    async def _ask(self, event: str) -> None:
        self._answered.clear()
        self._to_application.put_nowait({"type": event})
        await self._answered.wait()

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        try:
            await self._application(scope, self._to_application.get, self._send)
        except Exception:
            # An application without lifespan raises here; that is how ASGI says so.
            logger.debug("the application has no lifespan", exc_info=True)
        finally:
            self._answered.set()

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._failure = message.get("message", "no message")
        self._answered.set()


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
        self._held_back = False
        self._arrived = asyncio.Event()
        self._outstanding = 0
        self._consumed = asyncio.Event()
        self._head_sent = False
        self._response_ended = False
        self._dead = False
        self._head_only = False

    # --- the stream contract ------------------------------------------------------------------

    def send_head(self, fields: Fields, end: bool) -> None:
        """Start the application with this request head."""
        self._body_ended = end
        scope = _scope(fields)
        self._head_only = scope["method"] == "HEAD"
        self._task = self._pool.start(self, scope)

    def send_informational(self, fields: Fields) -> None:
        """Do nothing: requests have no informational heads."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Queue a piece of the request body for the application."""
        if self._dead or self._response_ended:
            return True
        self._body.append(data)
        self._body_bytes += len(data)
        self._body_ended = end
        self._arrived.set()
        self._held_back = self._body_bytes > REQUEST_BUFFER_BYTES
        return not self._held_back

    def send_trailers(self, fields: Fields) -> None:
        """End the request body; ASGI has no request trailers."""
        self._body_ended = True
        self._arrived.set()

    def consume(self, count: int) -> None:
        """Let the application send on."""
        self._outstanding -= count
        self._consumed.set()

    def stop_receiving(self) -> None:
        """Treat as a reset: an application has no half-close."""
        self.reset(reasons.COMPLETED)

    def reset(self, reason: Reason) -> None:
        """Tell the application that the client is gone, and cancel it."""
        self._dead = True
        if self._task is not None:
            self._task.cancel()

    # --- the application's side ---------------------------------------------------------------

    async def run(self, application: AsgiApplication, scope: Scope) -> None:
        """Run the application to its end, and see that the response has one too."""
        try:
            await application(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("the embedded application failed on %s", scope["path"])
        if not self._response_ended and not self._dead:
            self._dead = True
            self.handler.on_reset(reasons.APPLICATION_ERROR)

    async def _receive(self) -> Message:
        while not self._body and not self._body_ended:
            self._arrived.clear()
            await self._arrived.wait()
        if self._body:
            data = self._body.popleft()
            self._body_bytes -= len(data)
            if self._held_back and self._body_bytes <= REQUEST_BUFFER_BYTES // 2:
                self._held_back = False
                self.handler.on_writable()
            more = bool(self._body) or not self._body_ended
            self._request_delivered = not more
            return {"type": "http.request", "body": data, "more_body": more}
        if not self._request_delivered:
            self._request_delivered = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # The next thing an application can learn is that the client went away; reset() cancels
        # the task for that, so this waits until then or until the response ended.
        while not self._response_ended:
            self._consumed.clear()
            await self._consumed.wait()
        return {"type": "http.disconnect"}

    _request_delivered = False

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._start_response(message)
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise ValueError(f"an application cannot send {kind!r}")

    def _start_response(self, message: Message) -> None:
        if self._head_sent:
            raise ValueError("the application started its response twice")
        self._head_sent = True
        self._head: list[Field] = [(b":status", b"%d" % message["status"])]
        self._head += [
            (bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())
        ]

    async def _send_body(self, body: bytes, more: bool) -> None:
        if not self._head_sent or self._response_ended:
            raise ValueError("the application sent body before the head or after the end")
        handler = self.handler
        if self._head:
            head, self._head = self._head, []
            ends_here = self._head_only or (not body and not more)
            self._response_ended = ends_here
            handler.on_head(head, ends_here)
            if ends_here:
                return
        self._response_ended = not more
        if body or not more:
            self._outstanding += len(body)
            handler.on_data(bytes(body), not more)
        while self._outstanding > RESPONSE_WINDOW_BYTES and not self._response_ended:
            self._consumed.clear()
            await self._consumed.wait()


def _scope(fields: Fields) -> Scope:
    """Return the ASGI scope of a request head."""
    pseudo: dict[bytes, bytes] = {}
    headers: list[Field] = []
    client: tuple[str, int] | None = None
    for name, value in fields:
        if name.startswith(b":"):
            pseudo[name] = value
            continue
        headers.append((name, value))
        if name == b"x-forwarded-for":
            with contextlib.suppress(UnicodeDecodeError):
                client = (value.split(b",")[0].strip().decode("ascii"), 0)
    authority = pseudo[b":authority"]
    headers.insert(0, (b"host", authority))
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
        "headers": headers,
        "client": client,
        "server": (authority.rpartition(b":")[0].decode("ascii", "replace") or "", None),
        "state": {},
    }
