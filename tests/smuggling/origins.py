"""Real origins and parsers: what each understands of the bytes that Spooky sent."""

import asyncio
import contextlib
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11
import httptools
import yaml
from aiohttp import web

from tests.interop.conftest import program, running_program
from tests.smuggling.recorders import Seen
from tests.support.ports import free_port

CANARY = b"GET /canary HTTP/1.1\r\nhost: canary\r\n\r\n"
"""Follows on the same connection: an origin that took more or less for the request shows it."""

CANARY_HEAD = [
    (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"canary"), (b":path", b"/canary"),
]  # fmt: skip

Identity = tuple[str, str, str, int | None]
"""Method, target, host and length of the body; no length where an origin cannot tell it."""

CANARY_IDENTITY = ("GET", "/canary", "canary")

ANSWER_SECONDS = 2
"""How long an origin may take; one that waits for more has taken the canary for something else."""


class RefusalError(Exception):
    """An origin takes no such request; that is no misunderstanding."""


# --- parsers of this process ----------------------------------------------------------------------
def parse_h11(data: bytes) -> list[Identity]:
    """Return the requests that h11 finds."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[Identity] = []
    size = 0
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                host = dict(event.headers).get(b"host", b"")
                request = (
                    event.method.decode(),
                    event.target.decode("latin-1"),
                    host.decode("latin-1"),
                )
                size = 0
            elif isinstance(event, h11.Data):
                size += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((*request, size))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
            elif event is h11.PAUSED and connection.our_state is h11.DONE:
                connection.start_next_cycle()
            else:
                return found
    except h11.RemoteProtocolError as error:
        raise RefusalError(str(error)) from None


class HttptoolsRequests:
    """Takes what httptools (llhttp, as in uvicorn) finds."""

    def __init__(self) -> None:
        self.found: list[Identity] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._url, self._host, self._size = b"", b"", 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self._host = value

    def on_body(self, body: bytes) -> None:
        self._size += len(body)

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        self.found.append(
            (method, self._url.decode("latin-1"), self._host.decode("latin-1"), self._size)
        )


def parse_httptools(data: bytes) -> list[Identity]:
    """Return the requests that httptools finds."""
    requests = HttptoolsRequests()
    try:
        requests.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise RefusalError(str(error)) from None
    return requests.found


# --- servers --------------------------------------------------------------------------------------
SEEN = re.compile(rb"\r\nx-seen: ([^\r\n]*)", re.IGNORECASE)


def identity(text: bytes) -> Identity:
    """Return what an origin says in ``x-seen``."""
    method, target, host, size = text.decode("latin-1").rsplit(" ", 3)
    return method, target, host, None if size == "-" else int(size)


async def replay_h1(port: int, data: bytes) -> list[Identity]:
    """Send bytes to a server and return the requests that it says it saw."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        async with asyncio.timeout(ANSWER_SECONDS):
            while b" canary " not in received and (more := await reader.read(65536)):
                received += more
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    found = [identity(text) for text in SEEN.findall(received)]
    refused = re.match(rb"HTTP/1\.[01] [45]", received) is not None
    if refused and [request[:3] for request in found] in ([], [CANARY_IDENTITY]):
        raise RefusalError(received[:60].decode("latin-1"))
    return found


async def replay_h2(port: int, seen: Seen) -> list[Identity]:
    """Say a request that was seen over HTTP/2, then the canary; return what the server saw."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, seen.fields, end_stream=not (seen.body or seen.trailers))
    if seen.body:
        connection.send_data(1, seen.body, end_stream=not seen.trailers)
    if seen.trailers:
        connection.send_headers(1, seen.trailers, end_stream=True)
    connection.send_headers(3, CANARY_HEAD, end_stream=True)
    writer.write(connection.data_to_send())
    found: dict[int, Identity] = {}
    refused: set[int] = set()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while len(found) + len(refused) < 2 and (data := await reader.read(65536)):
                for event in connection.receive_data(data):
                    take_h2(event, found, refused)
                writer.write(connection.data_to_send())
    except (TimeoutError, ConnectionError, h2.exceptions.ProtocolError):
        pass
    finally:
        writer.transport.abort()
    if 1 in refused:
        raise RefusalError("a status of 400 or more, or a reset")
    return [found[stream_id] for stream_id in sorted(found)]


def take_h2(event: h2.events.Event, found: dict[int, Identity], refused: set[int]) -> None:
    """Take an event of a replay."""
    match event:
        case h2.events.ResponseReceived():
            fields = {bytes(name): bytes(value) for name, value in event.headers or ()}
            if b"x-seen" in fields:
                found[event.stream_id or 0] = identity(fields[b"x-seen"])
            else:
                refused.add(event.stream_id or 0)
        case h2.events.StreamReset():
            refused.add(event.stream_id or 0)
        case h2.events.ConnectionTerminated():
            refused.update((1, 3))


@contextlib.contextmanager
def nginx(directory: Path, port: int, http2: bool) -> Iterator[None]:
    configuration = directory / "nginx.conf"
    configuration.write_text(
        textwrap.dedent(
            f"""
            daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
            events {{}}
            http {{
              access_log off;
              client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
              fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
              scgi_temp_path {directory}/s;
              server {{
                listen 127.0.0.1:{port} {"http2" if http2 else ""};
                merge_slashes off;
                location / {{
                  add_header x-seen "$request_method $request_uri $http_host -";
                  return 200;
                }}
              }}
            }}
            """
        )
    )
    arguments = [program("nginx"), "-c", str(configuration), "-p", str(directory)]
    with running_program(arguments, port, directory / "nginx.log"):
        yield


@contextlib.contextmanager
def caddy(directory: Path, port: int, http2: bool) -> Iterator[None]:
    seen = "{http.request.method} {http.request.orig_uri} {http.request.hostport} -"
    configuration = directory / "Caddyfile"
    configuration.write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https off
              servers {{
                protocols h1 {"h2c" if http2 else ""}
              }}
            }}
            http://:{port} {{
              bind 127.0.0.1
              header x-seen "{seen}"
              respond 200
            }}
            """
        )
    )
    arguments = [program("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with running_program(arguments, port, directory / "caddy.log"):
        yield


@contextlib.contextmanager
def envoy(directory: Path, port: int, http2: bool) -> Iterator[None]:
    del http2  # It finds out.
    seen = "%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% -"
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [
            # Answers when it has the body: else it closes, and nobody sees where that ended.
            {
                "name": "buffer",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": 1 << 20,
                },
            },
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                    "response_headers_to_add": [{"header": {"key": "x-seen", "value": seen}}],
                }
            ]
        },
    }
    socket_address = {"address": "127.0.0.1", "port_value": port}
    listener = {
        "address": {"socket_address": socket_address},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    configuration = directory / "envoy.yaml"
    configuration.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener]}}))
    arguments = [program("envoy"), "-c", str(configuration), "--concurrency", "1"]
    arguments += ["--use-dynamic-base-id", "--log-level", "warning"]
    with running_program(arguments, port, directory / "envoy.log"):
        yield


NODE = """
const http2 = process.argv[3] === "h2";
const server = http2 ? require("http2").createServer() : require("http").createServer();
server.on("request", (request, response) => {
  let size = 0;
  request.on("data", (data) => { size += data.length; });
  request.on("end", () => {
    const host = (http2 ? request.authority : request.headers.host) || "";
    response.setHeader("x-seen", `${request.method} ${request.url} ${host} ${size}`);
    response.end();
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1");
"""


@contextlib.contextmanager
def node(directory: Path, port: int, http2: bool) -> Iterator[None]:
    script = directory / "origin.js"
    script.write_text(NODE)
    arguments = [program("node"), str(script), str(port), "h2" if http2 else "h1"]
    with running_program(arguments, port, directory / "node.log"):
        yield


ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    host = dict(scope["headers"]).get(b"host", b"")
    seen = b"%s %s %s %d" % (scope["method"].encode(), target, host, size)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-seen", seen)]})
    await send({"type": "http.response.body", "body": b""})
"""


@contextlib.contextmanager
def hypercorn(directory: Path, port: int, http2: bool) -> Iterator[None]:
    del http2  # It finds out.
    (directory / "application.py").write_text(ASGI)
    arguments = [
        sys.executable,
        "-m",
        "hypercorn",
        "application:app",
        "--bind",
        f"127.0.0.1:{port}",
    ]
    with running_program(arguments, port, directory / "hypercorn.log"):
        yield


@contextlib.contextmanager
def granian(directory: Path, port: int, http2: bool) -> Iterator[None]:
    (directory / "application.py").write_text(ASGI)
    arguments = [program("granian"), "--interface", "asginl", "--port", str(port)]
    arguments += [
        "--http",
        "2" if http2 else "1",
        "--no-ws",
        "--log-level",
        "warning",
        "application:app",
    ]
    with running_program(arguments, port, directory / "granian.log"):
        yield


@contextlib.asynccontextmanager
async def aiohttp(port: int) -> AsyncIterator[None]:
    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        seen = f"{request.method} {request.raw_path} {request.headers.get('host', '')} {len(body)}"
        return web.Response(headers={"x-seen": seen})

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield
    await runner.cleanup()


Start = Callable[[Path, int, bool], AbstractContextManager[None]]


@dataclass(frozen=True)
class Origin:
    """An origin that takes replays.

    Attributes:
        start: Runs it, where it is a program.
        parse: Reads bytes, where it is a parser of this process.
        protocols: What it speaks.
    """

    name: str
    protocols: tuple[str, ...]
    start: Start | None = None
    parse: Callable[[bytes], list[Identity]] | None = None


ORIGINS = (
    Origin("h11", ("h1",), parse=parse_h11),
    Origin("httptools", ("h1",), parse=parse_httptools),
    Origin("aiohttp", ("h1",)),
    Origin("hypercorn", ("h1", "h2"), hypercorn),
    Origin("granian", ("h1", "h2"), granian),
    Origin("Node", ("h1", "h2"), node),
    Origin("nginx", ("h1", "h2"), nginx),
    Origin("Caddy", ("h1", "h2"), caddy),
    Origin("Envoy", ("h1", "h2"), envoy),
)


@contextlib.asynccontextmanager
async def running(origin: Origin, protocol: str, directory: Path) -> AsyncIterator[int]:
    """Run an origin that is a server, and give its port."""
    port = free_port()
    if origin.start is not None:
        with origin.start(directory, port, protocol == "h2"):
            yield port
    else:
        async with aiohttp(port):
            yield port
