"""Real exchanges between clients and backends that do as a test says, in simulated time."""

import asyncio
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from spooky import config
from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.terms import Client
from spooky._core.timers import TimerWheel
from spooky._core.validate import HTTP_3
from spooky.generation.compile import Environment, compile_generation
from spooky.generation.materials import Materials, read_materials
from spooky.observe.counters import Counters
from spooky.protocol.stream import Field, Fields
from spooky.request.service import RequestService
from spooky.runtime import Runtime
from spooky.runtime.runtime import TICK_SECONDS
from tests.support.loop import Loop
from tests.support.proxy import configuration

START = 1_000.0


class Clockwork(Runtime):
    """A runtime whose time passes when told."""

    def __init__(self) -> None:
        super().__init__(cast(asyncio.AbstractEventLoop, Loop()))
        self.time = START
        self.now = lambda: self.time
        self._wheel = TimerWheel(START, TICK_SECONDS)

    @property
    def timers(self) -> int:
        return len(self._wheel)

    def sleep(self, seconds: float) -> None:
        """Let time pass in steps of the timers' resolution."""
        end = self.time + seconds
        while (due := self._wheel.next_deadline()) is not None and due <= end:
            self.time = max(self.time, due) + TICK_SECONDS
            self._wheel.advance(self.time)
        self.time = max(self.time, end)
        self._wheel.advance(self.time)


class FakeStream:
    """A stream that remembers what was done to it; both sides'."""

    protocol = "fake"

    def __init__(self) -> None:
        self.handler: Any = None
        self.accepts = True
        self.untaken = 0
        self.beside = -1
        self.heads: list[list[Field]] = []
        self.body = b""
        self.trailers: list[Field] | None = None
        self.informational: list[int] = []
        self.ended = False
        self.credited = 0
        self.stopped = False
        self.was_reset: Reason | None = None

    @property
    def status(self) -> int:
        return int(dict(self.heads[-1])[b":status"]) if self.heads else 0

    @property
    def is_over(self) -> bool:
        return self.ended or self.was_reset is not None

    def _check(self) -> None:
        assert self.was_reset is None, "nothing is sent on a stream that was reset"
        assert not self.ended, "nothing is sent after the end"

    def send_head(self, fields: Fields, end: bool) -> None:
        self._check()
        assert not self.heads, "a stream has one head"
        self.heads.append(list(fields))
        self.ended = end

    def send_informational(self, fields: Fields) -> None:
        self._check()
        self.informational.append(int(dict(fields)[b":status"]))

    def send_data(self, data: bytes, end: bool) -> bool:
        self._check()
        assert self.heads, "a body comes after its head"
        self.body += data
        self.ended = end
        if not self.accepts:
            self.untaken += len(data)
        return self.accepts

    def send_trailers(self, fields: Fields) -> bool:
        self._check()
        self.trailers = list(fields)
        self.ended = True
        return self.accepts

    def unsent(self) -> int:
        return self.untaken

    def taken_beside(self) -> int:
        return self.beside

    def consume(self, count: int) -> None:
        self.credited += count

    def stop_receiving(self) -> None:
        self.stopped = True

    def reset(self, reason: Reason) -> None:
        if self.was_reset is None:
            self.was_reset = reason


@dataclass
class Ask:
    """A request that waits for a connection to a backend."""

    backend: int
    caller: Any
    at: float
    is_open: bool = True


@dataclass
class Upstream:
    """A request as a backend has it."""

    backend: int
    caller: Any
    stream: FakeStream = field(default_factory=FakeStream)
    has_ended: bool = False

    @property
    def is_live(self) -> bool:
        return not self.has_ended and self.stream.was_reset is None

    def answer(self, status: int = 200, body: bytes = b"", *more: Field, ends: bool = True) -> None:
        """Respond with a head, and a body if there is one."""
        fields = [(b":status", b"%d" % status), *more]
        self.has_ended = ends and not body
        self.caller.on_head(fields, ends and not body)
        if body and self.stream.was_reset is None:
            self.has_ended = ends
            self.caller.on_data(body, ends)

    def fail(self, reason: Reason = reasons.UPSTREAM_RESET) -> None:
        """End the stream abruptly."""
        self.has_ended = True
        self.caller.on_reset(reason)


class FakePool:
    """Connections of one backend, made when a test says so."""

    def __init__(self, world: "World", backend: int) -> None:
        self._world = world
        self._backend = backend
        self.discarded = 0

    def request(self, caller: Any) -> None:
        world = self._world
        world.asked.append(Ask(self._backend, caller, world.runtime.time))
        if self._backend in world.refusing:
            world.refuse()

    def discard_idle(self) -> None:
        self.discarded += 1

    def cancel(self, caller: Any) -> None:
        for ask in self._world.asked:
            if ask.caller is caller:
                ask.is_open = False

    def close(self, seconds: float) -> None:
        pass


@cache
def _materials(backends: int) -> tuple[dict[str, Any], Materials]:
    with TemporaryDirectory() as directory:
        settings = configuration(Path(directory), "http://127.0.0.1:1")
        settings["upstream"]["backend"]["backends"] = [
            {"id": f"b{number}", "address": f"http://127.0.0.1:{1 + number}"}
            for number in range(backends)
        ]
        return settings, read_materials(config.from_mapping(settings))


class World:
    """Exchanges of one worker with one upstream.

    Arguments:
        backends: How many backends it has.
        resilience: That section of the configuration.
        performance: Likewise.
        balancing: How it chooses among them.
        counters: Those of a worker that shares a segment with others; else it has its own.

    Attributes:
        asked: Requests for a connection, in their order.
        refusing: Backends that refuse every connection at once.
    """

    def __init__(
        self,
        backends: int = 3,
        resilience: dict[str, Any] | None = None,
        performance: dict[str, Any] | None = None,
        balancing: str = "round-robin",
        counters: Counters | None = None,
    ) -> None:
        settings, materials = _materials(backends)
        settings = {**settings, "resilience": resilience or {}, "performance": performance or {}}
        settings["load_balancing"] = {"type": balancing}
        checked = config.from_mapping(settings)
        self.runtime = Clockwork()
        self.counters = counters or Counters()
        environment = Environment(self.runtime, self.counters, _resolve, {})
        self.generation = compile_generation(checked, materials, environment, number=1)
        self.counters.segment.commit(1)
        self.service = RequestService(self.runtime, self.generation, self.counters, None, slot=0)
        self.upstream: Any = self.generation.routes.lookup(b"www.example.com", b"/", b"GET")
        self.asked: list[Ask] = []
        self.refusing: set[int] = set()
        for number, backend in enumerate(self.upstream.backends):
            backend.pool = FakePool(self, number)
        self.idle_timers = self.runtime.timers
        self._client = Client(b"192.0.2.1", 50_000, HTTP_3, b"\0" * 8, (), b"192.0.2.1")

    def request(
        self, method: str = "GET", body: bytes | None = None, *more: Field, ends: bool = True
    ) -> FakeStream:
        """Begin an exchange, with more fields if any; returns the client's stream."""
        stream = FakeStream()
        stream.handler = self.service.accept(cast(Any, stream), self._client)
        fields = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", b"www.example.com"),
            (b":path", b"/"),
            *more,
        ]
        stream.handler.on_head(fields, body is None)
        if body is not None:
            stream.handler.on_data(body, ends)
        return stream

    @property
    def waiting(self) -> list[Ask]:
        return [ask for ask in self.asked if ask.is_open]

    def connect(self, reused: bool = False, which: int = 0) -> Upstream:
        """Make a connection for who waits."""
        ask = self.waiting[which]
        ask.is_open = False
        upstream = Upstream(ask.backend, ask.caller)
        upstream.stream.handler = ask.caller
        ask.caller.on_connected(upstream.stream, reused)
        return upstream

    def refuse(self, reason: Reason = reasons.CONNECT_REFUSED, which: int = 0) -> int:
        """Fail to make one; returns the backend."""
        ask = self.waiting[which]
        ask.is_open = False
        ask.caller.on_connect_failed(reason, "refused")
        return ask.backend

    def counted(self, metric: str, **labels: str) -> int:
        """Return what was counted with these labels and any others."""
        wanted = set(labels.items())
        return sum(
            value
            for name, value in self.counters.snapshot()
            if name.metric == metric and wanted <= set(name.labels)
        )

    @property
    def taken(self) -> int:
        """How many places are taken, at all limits together."""
        stages = (*self.upstream.stages, *(each.stage for each in self.upstream.backends))
        return sum(stage.gate.active for stage in stages if stage.gate is not None)

    def check_idle(self) -> None:
        """Check that nothing is left of any exchange."""
        assert self.service.active == 0
        assert self.taken == 0
        for number in range(len(self.upstream.backends)):
            assert self.upstream.balancer.active(number) == 0
        assert self.service.held.total == 0
        assert self.service.kept.total == 0
        assert self.waiting == []
        assert self.runtime.timers == self.idle_timers


async def _resolve(host: str, port: int) -> list[str]:
    raise AssertionError("no name is resolved")
