"""What a small request costs an HTTP/3 server: from a stream's bytes to those of the answer.

QUIC is a stub that accepts everything, so what is timed is framing, QPACK, the validator and the
session, with a handler that answers at once.
"""

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from pylsqpack import Encoder
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from spooky._core.h3_frames import HEADERS, encode_frame

CALLS = 1_000
STREAM_ID_STEP = 4

GET = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"www.example.com"),
    (b":path", b"/"),
    (b"user-agent", b"curl/8.14.1"),
    (b"accept", b"*/*"),
]
ANSWER = [
    (b":status", b"200"),
    (b"date", b"Mon, 23 Nov 2026 23:00:00 GMT"),
    (b"server", b"nginx"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"2"),
]


class Quic:
    """Accepts everything and keeps nothing but the last bytes."""

    is_client = False
    sent = b""

    def open_stream(self, unidirectional: bool) -> int:
        return 3

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        self.sent = data
        return len(data)

    def consume(self, stream_id: int, count: int) -> None: ...


class Owner:
    """Owns the connection and does nothing."""

    def on_established(self, handshake: Any) -> None: ...

    def wake(self) -> None: ...


def importer(pure: bool) -> Callable[[str], ModuleType]:
    """Return what imports modules of the package from one side, whatever this process is on."""
    if not pure:
        return importlib.import_module
    others = {
        name: module for name, module in sys.modules.items() if name.split(".")[0] != "spooky"
    }

    def import_pure(name: str) -> ModuleType:
        with (
            mock.patch.dict(sys.modules, others, clear=True),
            mock.patch.dict(os.environ, {"SPOOKY_PURE": "1"}),
        ):
            module = importlib.import_module(name)
            others.update(sys.modules)
            return module

    return import_pure


class Requests:
    """Requests of one connection, each on a stream of its own."""

    def __init__(self, load: Callable[[str], ModuleType]) -> None:
        validate = load("spooky._core.validate")
        limits = validate.Limits()

        class Handler:
            def __init__(self, stream: Any) -> None:
                self.stream = stream

            def on_head(self, fields: list[tuple[bytes, bytes]], end: bool) -> None:
                request = validate.validate_request(fields, validate.HTTP_3, limits)
                assert request.path == b"/"
                self.stream.send_head(ANSWER, False)
                self.stream.send_data(b"ok", True)

        self.quic = Quic()
        self.session = load("spooky.protocol.h3.server").ServerSession(
            self.quic, Handler, load("spooky.protocol.h3.limits").Limits(), Owner()
        )
        handshake = load("spooky.protocol.quic.session").Handshake(1, "h3", None, False, None)
        self.session.on_handshake(handshake)
        self.frame = encode_frame(HEADERS, Encoder().encode(0, GET)[1])
        self.next_id = 0

    def run(self) -> None:
        end = self.next_id + CALLS * STREAM_ID_STEP
        for stream_id in range(self.next_id, end, STREAM_ID_STEP):
            self.session.on_stream_data(stream_id, self.frame, True)
        self.next_id = end


@pytest.mark.parametrize(
    "pure", [pytest.param(False, id="compiled", marks=COMPILED_ONLY), pytest.param(True, id="pure")]
)
@pytest.mark.benchmark(group="h3 server: a small GET and its answer")
def test_small_get(benchmark: BenchmarkFixture, pure: bool) -> None:
    requests = Requests(importer(pure))
    benchmark.extra_info["calls"] = CALLS
    benchmark(requests.run)
    assert requests.quic.sent == b"\0\2ok"
    assert requests.session.active_streams == 0
