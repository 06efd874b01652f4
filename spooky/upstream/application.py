"""Applications that can be embedded: ASGI, and plain callables made into ASGI."""

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

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
        return PlainApplication(application)  # type: ignore[arg-type]
    raise TypeError(
        f"{application!r} is neither an ASGI application (scope, receive, send) "
        "nor a callable of one request"
    )


class PlainApplication:
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
