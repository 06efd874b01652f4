"""The backend of the besieged, in a process of its own: on llhttp, so that it is cheap to be asked.

``python -m tests.hostile.backend`` prints its port. It never closes a connection that a response
left usable, so that no request of a bystander meets a close that it could not have foreseen.
"""

import asyncio
from functools import cache
from typing import Any

import httptools
import uvloop

from tests.support.origin import pattern

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NOTHING = b"content-length: 0\r\n"

BACKLOG = 1_024
"""Connections that wait to be accepted: pools open many at once when this process has no turn."""


def head(status: int, fields: bytes) -> bytes:
    """Return a response head."""
    return b"HTTP/1.1 %d \r\n%b\r\n" % (status, fields)


@cache
def sized(size: int) -> tuple[bytes, bytes]:
    """Return the head and the body of what ``/size`` gives."""
    return head(200, b"content-length: %d\r\n" % size), pattern(size)


class Connection(asyncio.Protocol):
    """A connection of the proxy, whose requests are answered as they come.

    ``/size/N`` is answered by the head alone, maybe before the body came; ``/echo`` piece by piece.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._length: bytes | None = None
        self._expects = False
        self._echoes = False

    # --- the socket ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()

    # --- the parser's upcalls ---

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-length":
                self._length = value
            case b"expect":
                self._expects = True

    def on_headers_complete(self) -> None:
        method, path = self._parser.get_method(), self._url.partition(b"?")[0]
        if path == b"/echo":
            self._echo(method)
            return
        _, _, size = path.partition(b"/size/")
        answer, body = sized(int(size)) if size.isdigit() else (head(404, NOTHING), b"")
        self._transport.write(answer if method == b"HEAD" else answer + body)

    def _echo(self, method: bytes) -> None:
        if self._expects:
            self._transport.write(CONTINUE)
        length = self._length
        fields = CHUNKED if length is None else b"content-length: %b\r\n" % length
        self._transport.write(head(200, fields))
        self._echoes = method != b"HEAD"

    def on_body(self, body: bytes) -> None:
        if not self._echoes:
            return
        if self._length is None:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        self._transport.write(body)

    def on_message_complete(self) -> None:
        if self._echoes and self._length is None:
            self._transport.write(LAST_CHUNK)


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
