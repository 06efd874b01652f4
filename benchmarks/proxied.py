"""Requests through the real exchange, route table, balancer, pool and upstream session.

The client's side is the least that the stream contract asks for, the backend an ngh2 connection in
memory or one of HTTP/3, the event loop a queue. The :class:`Stopwatch` stands still while client
and backend work, so what it shows is the proxy's own: everything between a client's stream and the
upstream socket.

``python -m benchmarks.proxied`` prints the cost by stage; with ``--profile`` the calls instead.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import ngh2

from benchmarks.http3_upstream import Http3Upstream, Stage
from spooky import config
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.validate import HTTP_3
from spooky.bench.kernels.heads import REQUEST, RESPONSE
from spooky.edge.collector import pace
from spooky.generation.compile import Environment, compile_generation
from spooky.generation.materials import read_materials
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters
from spooky.protocol.stream import Field, Fields, StreamHandler
from spooky.request.service import RequestService
from spooky.runtime import Runtime
from spooky.upstream.connection import TcpConnection
from spooky.upstream.pool import Pool
from tests.support.loop import Loop
from tests.support.proxy import configuration

SOCKET_READ_BYTES: Final = 256 * 1024
"""What uvloop reads from a socket at once, at most."""

UPLOAD_PIECE_BYTES: Final = 16_384
"""How much of an upload a client's session delivers at once."""

PROTOCOLS: Final = {"http2": "http://127.0.0.1:8080", "http3": "https://127.0.0.1:8080"}
"""What an upstream speaks, with an address of a backend for it."""


class Stopwatch:
    """The CPU time of what ran between :meth:`start` and :meth:`stop`, in all and by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._total = 0.0

    def __call__(self) -> float:
        return self._total

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside."""
        start = time.thread_time()
        yield
        elapsed = time.thread_time() - start
        self._total += elapsed
        self.stages[name] = self.stages.get(name, 0.0) + elapsed


class Socket:
    """The transport of the upstream connection; keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        return None

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self.written)
        self.written.clear()
        return data


class ClientStream:
    """The client's side of an exchange; takes everything at once."""

    __slots__ = ("credited", "ended", "handler", "received", "status")

    handler: StreamHandler
    protocol: str = "h3"

    def __init__(self) -> None:
        self.status = b""
        self.received = 0
        self.credited = 0
        self.ended = False

    def send_head(self, fields: Fields, end: bool) -> None:
        self.status = fields[0][1]
        self.ended = end

    def send_informational(self, fields: Fields) -> None:
        pass

    def send_data(self, data: bytes, end: bool) -> bool:
        self.received += len(data)
        self.ended = end
        return True

    def send_trailers(self, fields: Fields) -> bool:
        self.ended = True
        return True

    def consume(self, count: int) -> None:
        self.credited += count

    def stop_receiving(self) -> None:
        pass

    def reset(self, reason: Reason) -> None:
        raise AssertionError(f"reset: {reason.code}")


@dataclass
class Shape:
    """What requests and their responses are like.

    Attributes:
        request_bytes: Length of the request body; 0 for GET.
        response_bytes: Length of the response body.
    """

    request_bytes: int
    response_bytes: int
    request_head: list[Field] = field(init=False)
    response_head: list[Field] = field(init=False)
    pieces: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.request_head = list(REQUEST)
        if self.request_bytes:
            self.request_head[0] = (b":method", b"POST")
            self.request_head.append((b"content-length", b"%d" % self.request_bytes))
        self.response_head = [
            (name, b"%d" % self.response_bytes if name == b"content-length" else value)
            for name, value in RESPONSE
            if name != b"connection"
        ]
        body = bytes(self.request_bytes)
        self.pieces = [
            body[at : at + UPLOAD_PIECE_BYTES] for at in range(0, len(body), UPLOAD_PIECE_BYTES)
        ]


SHAPES: Final = {
    "1 KiB GET": Shape(0, 1024),
    "64 KiB GET": Shape(0, 64 * 1024),
    "10 MiB GET": Shape(0, 10 * 1024 * 1024),
    "1 MiB POST": Shape(1024 * 1024, 2),
}


class Backend:
    """An HTTP/2 server whose responses are all alike."""

    def __init__(self, head: list[Field], body: bytes) -> None:
        self._head = head
        self._body = body
        self._connection = ngh2.Connection(ngh2.Role.SERVER)
        self._connection.initiate_connection({ngh2.Setting.MAX_CONCURRENT_STREAMS: 250})

    def answer(self, data: bytes) -> bytes:
        """Take what the proxy wrote, and return what the backend does."""
        connection = self._connection
        if data:
            connection.receive_data(data)
        for event in connection.events():
            if getattr(event, "end_stream", False):
                connection.send_response(event.stream_id, self._head)
                connection.send_data(event.stream_id, self._body, end_stream=True)
        return connection.data_to_send()


class Http2Upstream:
    """A connection of a pool to a backend of its own.

    Arguments:
        pool: Whose it is.
        head: Of each response.
        body: Of each response.
    """

    def __init__(self, pool: Pool, head: list[Field], body: bytes) -> None:
        self._backend = Backend(head, body)
        self._socket = Socket()
        self._connection = TcpConnection(pool)
        self._connection.connection_made(cast(asyncio.Transport, self._socket))
        pool.on_room(self._connection)

    def exchange(self, stage: Stage) -> None:
        """Have the backend answer what was written, and receive that."""
        output = self._backend.answer(self._socket.take())
        for at in range(0, len(output), SOCKET_READ_BYTES):
            piece = output[at : at + SOCKET_READ_BYTES]
            with stage("response"):
                self._connection.data_received(piece)


class QuietLoop(Loop):
    """A loop that reads no socket."""

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=cast(asyncio.AbstractEventLoop, self))

    def add_reader(self, descriptor: int, callback: object) -> None:
        pass


RESILIENCE: Final[dict[str, dict[str, Any]]] = {
    "off": {
        "resilience": {
            "circuit_breaker": {"enabled": False},
            "retry": {"conditions": []},
            "retry_budget": {"enabled": False},
            "overload": {"enabled": False},
            "brownout": {"enabled": False},
        },
        "observability": {"decisions": {"bytes": 0}},
        "upstream": {"outlier_detection": {"enabled": False}},
    },
    "default": {},
    "on": {
        "resilience": {
            "adaptive_admission": {"enabled": True},
            "brownout": {"enabled": True, "core_routes": ["other"]},
        },
        "upstream": {"load_balancing": {"type": "least-request"}},
    },
}
"""What there is of overload, health, retries and their explanation: nothing, what is so without a
word, or all that acts on requests that nothing happens to."""


class Proxied:
    """A proxy's middle, with a warm connection to its backend.

    Arguments:
        shape: What requests and responses are like.
        access_log: Whether each request leaves a line in ``/dev/null``.
        watch: What measures it; its own if not given.
        resilience: Which of :data:`RESILIENCE`.
        protocol: Which of :data:`PROTOCOLS`.
    """

    def __init__(
        self,
        shape: Shape,
        access_log: bool = False,
        watch: Stopwatch | None = None,
        resilience: str = "default",
        protocol: str = "http2",
    ) -> None:
        self.watch = watch or Stopwatch()
        self._shape = shape
        self._loop = QuietLoop()
        runtime = Runtime(cast(asyncio.AbstractEventLoop, self._loop))
        counters = Counters()
        self.environment = Environment(runtime, counters, _resolve, {})
        with TemporaryDirectory() as directory:
            settings = configuration(Path(directory), PROTOCOLS[protocol], protocol=protocol)
            more = RESILIENCE[resilience]
            settings |= {name: more[name] for name in more if name != "upstream"}
            settings["upstream"]["backend"] |= more.get("upstream", {})
            # A brownout needs routes of several priorities.
            settings["upstream"]["other"] = {
                "route": {"path_prefix": "/other"},
                "backends": [{"id": "other", "address": "http://127.0.0.1:8081"}],
            }
            checked = config.from_mapping(settings)
            materials = read_materials(checked)
        self.generation = compile_generation(checked, materials, self.environment, number=1)
        counters.segment.commit(1)
        log = AccessLog(os.open("/dev/null", os.O_WRONLY), as_json=True) if access_log else None
        self.service = RequestService(runtime, self.generation, counters, log, slot=0)
        self._client = Client(b"192.0.2.1", 50_000, HTTP_3, b"\0" * 8, (), b"192.0.2.1")
        self._upstream = self._connect(protocol)
        self._turn()
        self._turn()
        self.run(1)
        self.watch.stages.clear()

    def run(self, concurrency: int) -> list[ClientStream]:
        """Make so many requests in one turn, and turn until all are answered."""
        stage = self.watch.stage
        streams = [ClientStream() for _ in range(concurrency)]
        heads = [list(self._shape.request_head) for _ in streams]
        ends = not self._shape.pieces
        with stage("request head"):
            for stream, head in zip(streams, heads, strict=True):
                handler = stream.handler = self.service.accept(stream, self._client)
                handler.on_head(head, ends)
        if not ends:
            self._upload(streams)
        while not all(stream.ended for stream in streams):
            self._turn()
        self._turn()
        assert all(stream.received == self._shape.response_bytes for stream in streams)
        return streams

    def _upload(self, streams: list[ClientStream]) -> None:
        """Send the request bodies, no more of each than the proxy credits."""
        window = 256 * 1024
        pieces = self._shape.pieces
        sent = [0] * len(streams)
        while min(sent) < len(pieces):
            for number, stream in enumerate(streams):
                with self.watch.stage("request body"):
                    while (
                        sent[number] < len(pieces)
                        and sent[number] * UPLOAD_PIECE_BYTES - stream.credited < window
                    ):
                        piece = pieces[sent[number]]
                        sent[number] += 1
                        stream.handler.on_data(piece, sent[number] == len(pieces))
            self._turn()

    def _turn(self) -> None:
        """Flush, have the backend answer, and receive what it wrote."""
        self._flush()
        self._upstream.exchange(self.watch.stage)

    def _flush(self) -> None:
        with self.watch.stage("flush"):
            self._loop.turn()

    def _connect(self, protocol: str) -> Http2Upstream | Http3Upstream:
        """Give the pool a connection that is dialled already."""
        upstream = self.generation.routes.lookup(b"www.example.com", b"/", b"GET")
        pool = cast(Pool, cast(Any, upstream).backends[0].pool)
        head, body = self._shape.response_head, bytes(self._shape.response_bytes)
        if protocol == "http3":
            return Http3Upstream(pool, head, body, self._flush)
        return Http2Upstream(pool, head, body)


async def _resolve(host: str, port: int) -> list[str]:
    raise AssertionError("the connection is there")


def main() -> None:
    """Print the cost by stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1 KiB GET")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32_000)
    parser.add_argument("--access-log", action="store_true")
    parser.add_argument("--resilience", choices=RESILIENCE, default="default")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="http2")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    proxied = Proxied(
        SHAPES[options.shape],
        options.access_log,
        resilience=options.resilience,
        protocol=options.protocol,
    )
    rounds = max(1, options.requests // options.concurrency)
    requests = rounds * options.concurrency
    pace()  # As a worker does.
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    for _ in range(rounds):
        proxied.run(options.concurrency)
    if options.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    total = 0.0
    for name, seconds in proxied.watch.stages.items():
        total += seconds
        print(f"{name:<14} {seconds / requests * 1e6:10.2f} µs")
    print(f"{'in all':<14} {total / requests * 1e6:10.2f} µs a request")


if __name__ == "__main__":
    main()
