"""Exchanges between scripted clients and backends: every upcall in any order that is legal.

Nothing here does I/O: what is random comes from the steps, time is a number.
"""

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from spooky._core import reasons
from spooky._core.balance import RoundRobin
from spooky._core.fields import ForwardingPolicy
from spooky._core.outcomes import Tally
from spooky._core.reasons import Reason, Retry
from spooky._core.routes import RouteTable, Rule
from spooky._core.timers import TimerWheel
from spooky._core.turns import Turns
from spooky._core.validate import HTTP_3, Limits
from spooky.observe.segment import private_segment
from spooky.overload.hedging import HedgeDelay, HedgePolicy
from spooky.overload.retry import RetryPolicy
from tests.support.loop import Loop

REQUEST: Final = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/a"),
]
REQUESTS: Final = (
    REQUEST,
    [(b":method", b"POST"), *REQUEST[1:], (b"content-length", b"12")],
    [(b":method", b"HEAD"), *REQUEST[1:]],
    [*REQUEST[:2], (b":authority", b"elsewhere"), REQUEST[3]],
    [*REQUEST, (b"Bad", b"name")],
)
RESPONSES: Final = (
    [(b":status", b"200")],
    [(b":status", b"200"), (b"content-length", b"15")],
    [(b":status", b"503")],
    [(b":status", b"nonsense")],
)
INFORMATIONAL: Final = [(b":status", b"103"), (b"link", b"</a>")]
TRAILERS: Final = ([(b"checksum", b"1")], [(b":status", b"200")])
FAILURES: Final = (
    reasons.UPSTREAM_REFUSED,
    reasons.UPSTREAM_CONNECTION_LOST,
    reasons.UPSTREAM_RESET,
)
"""How a backend's stream may end before its time."""


@dataclass(frozen=True)
class Settings:
    """What is in force.

    Attributes:
        limits: In flight: altogether, of the upstream, of each of its two backends.
        wait: How long a request waits for a place; seconds.
        prebuffer: How much of a response of unknown length is held back; bytes.
        total: How long an exchange may take; seconds.
        request: Largest request body; bytes.
        response: Largest response body; bytes.
        held: Request body bytes held altogether, from which on no new body is let in.
        retries: Whether requests are tried again, and hedged.
    """

    limits: tuple[int, int, int] = (3, 2, 1)
    wait: float = 0.0
    prebuffer: int = 0
    total: float | None = None
    request: int | None = None
    response: int | None = None
    held: int = 1000
    retries: bool = False


class Stream:
    """One side's stream; notes every downcall, and accepts what it is told to.

    Attributes:
        may_send: Whether the peer's direction is open, so that more can be delivered.
        over: Whether it was reset, by either side.
        stuck: Whether something it was given was not accepted yet.
        delivered: Body bytes that its peer sent.
        credited: How many of them it was credited.
        accepts: Whether what it is given is accepted at once.
        untaken: What its peer has not taken of what was sent.
        beside: What the peer took on the connection; negative if it holds this stream up.
    """

    protocol = "h3"

    def __init__(self, name: str, log: list[Any]) -> None:
        self.handler: Any = None
        self.name = name
        self.heads = 0
        self.may_send = True
        self.over = False
        self.stuck = False
        self.delivered = 0
        self.credited = 0
        self.accepts = True
        self.untaken = 0
        self.beside = -1
        self._log = log
        self._ended = False

    def send_head(self, fields: Any, end: bool) -> None:
        assert not self._ended, "a head after the end"
        self._ended = end
        head = [field for field in fields if field[0] != b"date"]
        self._log.append((self.name, "send_head", head, end))

    def send_data(self, data: bytes, end: bool) -> bool:
        assert not self._ended, "data after the end"
        self._ended = end
        self.stuck = not self.accepts
        self.untaken += len(data)
        self._log.append((self.name, "send_data", data, end))
        return self.accepts

    def send_trailers(self, fields: Any) -> bool:
        assert not self._ended, "trailers after the end"
        self._ended = True
        self.stuck = not self.accepts
        self._log.append((self.name, "send_trailers", list(fields)))
        return self.accepts

    def send_informational(self, fields: Any) -> None:
        self._log.append((self.name, "send_informational", list(fields)))

    def unsent(self) -> int:
        return self.untaken

    def taken_beside(self) -> int:
        return self.beside

    def consume(self, count: int) -> None:
        self.credited += count
        self._log.append((self.name, "consume", count))

    def stop_receiving(self) -> None:
        self.may_send = False
        self._log.append((self.name, "stop_receiving"))

    def reset(self, reason: Reason) -> None:
        assert not self.over, "reset twice"
        self.over = True
        self._log.append((self.name, "reset", reason.code))


class Pool:
    """Gives streams when told to."""

    def __init__(self, name: str, world: "World") -> None:
        self._name = name
        self._world = world

    def request(self, caller: Any) -> None:
        self._world.log.append((self._name, "request"))
        self._world.callers.append(caller)
        if self._world.connects_at_once:
            self._world.connect(len(self._world.callers) - 1, True)

    def cancel(self, caller: Any) -> None:
        self._world.log.append((self._name, "cancel"))
        self._world.callers.remove(caller)

    def discard_idle(self) -> None:
        self._world.log.append((self._name, "discard_idle"))


class Outcomes(Tally):
    """Notes what it is told."""

    def __init__(self, name: str, log: list[Any]) -> None:
        super().__init__(None, None, 0, 0)
        self._told = lambda *what: log.append((name, *what))

    def answered(self, status: int, latency_ms: float) -> None:
        self._told("answered", status, round(latency_ms, 6))

    def failed(self, reason: Reason, status: int = 0) -> None:
        self._told("failed", reason.code, status)


class Runtime(Turns):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        super().__init__(Loop(), lambda: self.time, 0.01)
        self.wheel = self._wheel = TimerWheel(self.time)

    def report(self, flushable: Any) -> None:
        raise AssertionError("nothing is flushed")

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.wheel.advance(self.time)


@dataclass
class World:
    """Clients, a proxy's middle, and backends.

    Arguments:
        make: The class of exchanges.
        kernels: The modules ``gate`` and ``admission`` that go with it.
        settings: What is in force.
    """

    make: Any
    kernels: dict[str, Any]
    settings: Settings
    log: list[Any] = field(default_factory=list)
    callers: list[Any] = field(default_factory=list)
    clients: list[Stream] = field(default_factory=list)
    backends: list[Stream] = field(default_factory=list)
    connects_at_once: bool = True
    has_generation: bool = True
    early: bool = False
    finished_streams: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        gate, admission = self.kernels["gate"], self.kernels["admission"]
        self.runtime = Runtime()
        self.held = gate.Places()
        self.kept = gate.Places()
        random.seed(7)  # Pauses are random, and the same on both sides.
        everywhere, of_upstream, of_backend = self.settings.limits
        stage = admission.AdmissionStage
        log = self.log

        class Learning(stage):  # type: ignore[misc, valid-type]
            """A backend's limit that notes how tries end."""

            def leave(self, admission: Any) -> None:
                elapsed = round(admission.elapsed_ms, 6)
                reason, status = admission.reason.code, admission.status
                log.append(("learnt", admission.index, reason, status, elapsed))
                super().leave(admission)

        self.stages = [
            stage(gate.Gate(), everywhere, reasons.GLOBAL_INFLIGHT),
            stage(gate.Gate(), of_upstream, reasons.UPSTREAM_INFLIGHT),
            Learning(gate.Gate(), of_backend, reasons.BACKEND_INFLIGHT),
            Learning(gate.Gate(), of_backend, reasons.BACKEND_INFLIGHT),
        ]
        self.balancer = RoundRobin([b"one", b"two"], [1, 1])
        upstream = admission.Upstream(
            name="api",
            balancer=self.balancer,
            key_source=None,
            backends=tuple(
                admission.Backend(
                    id=name,
                    scheme=b"http",
                    authority=b"backend",
                    pool=Pool(name, self),
                    stage=self.stages[2 + position],
                    tally=Outcomes(name, self.log),
                    health=None,
                )
                for position, name in enumerate(("one", "two"))
            ),
            forwarding=ForwardingPolicy(),
            retry=self._retry(),
            stages=tuple(self.stages[:2]),
            excluded=SimpleNamespace(look=self._excluded),
        )
        self.lead_to(upstream)
        self.service = self._service()

    def lead_to(self, upstream: Any) -> None:
        """Put a generation in force whose only route leads there."""
        routes = RouteTable([Rule("api", b"example.org", None, None, upstream)])
        self.generation = self.kernels["terms"].InForce(7, self._policy(), routes)

    # --- what an exchange asks of its service ---------------------------------------------------

    def _service(self) -> Any:
        """Return the service of exchanges."""
        world = self

        class Service(self.kernels["service"].Service):  # type: ignore[misc, name-defined]
            """Notes what is finished, and counted."""

            def in_force(self) -> Any:
                return world.generation if world.has_generation else None

            def next_request_id(self) -> str:
                self._sequence += 1
                return f"{self._sequence:x}"

            def count(self, metric: str, **labels: str) -> None:
                world.log.append((metric, labels))

            def finished(self, client: Any, stream: Any, record: Any, reason: Reason) -> None:
                world.finished(stream, record, reason)

        service = Service(
            self.runtime, self.generation, private_segment(), None, self.held, self.kept
        )
        service.keeps_decisions = True
        return service

    def finished(self, stream: Any, record: Any, reason: Reason) -> None:
        assert stream is not None, "finished twice"
        assert stream not in self.finished_streams, "finished twice"
        self.finished_streams.append(stream)
        names = (
            "request_id", "started", "method", "authority", "path", "upstream", "backend",
            "upstream_protocol", "bytes_received", "bytes_sent", "detail", "connected",
            "first_byte", "status", "generation", "tries", "hedged",
        )  # fmt: skip
        told = [getattr(record, name) for name in names]
        told += [None if each is None else each.data() for each in (record.admitted, record.notes)]
        self.log.append((stream.name, "finished", reason.code, told))

    # --- the steps ------------------------------------------------------------------------------

    def take(self, step: tuple[Any, ...]) -> None:
        """Do one step, if it is legal now."""
        name, *arguments = step
        getattr(self, name)(*arguments)
        self.log.append(self._counts())
        self._check()

    def open(self, head: int, end: bool) -> None:
        """Have a client make a request."""
        stream = Stream(f"client {len(self.clients)}", self.log)
        client = self.kernels["terms"].Client(
            b"192.0.2.1", 1, HTTP_3, b"", (), b"192.0.2.1", self.early
        )
        self.clients.append(stream)
        stream.handler = self.make(self.service, stream, client)
        stream.may_send = not end
        stream.handler.on_head(list(REQUESTS[head]), end)

    def connect(self, number: int, reused: bool) -> None:
        """Give a caller that waits for a connection a stream."""
        if number < len(self.callers):
            caller = self.callers.pop(number)
            stream = Stream(f"backend {len(self.backends)}", self.log)
            self.backends.append(stream)
            stream.handler = caller
            caller.on_connected(stream, reused)

    def refuse(self, number: int) -> None:
        """Have a connection fail."""
        if number < len(self.callers):
            caller = self.callers.pop(number)
            caller.on_connect_failed(reasons.CONNECT_REFUSED, "nobody listens")

    def client(self, number: int, name: str, *arguments: Any) -> None:
        """Have a client do something on its stream."""
        if number < len(self.clients):
            self._act(self.clients[number], name, *arguments)

    def backend(self, number: int, name: str, *arguments: Any) -> None:
        """Have a backend do something on its stream."""
        if number < len(self.backends):
            stream = self.backends[number]
            if name == "head":
                self._respond(stream, *arguments)
            elif stream.heads or name not in ("data", "trailers"):
                self._act(stream, name, *arguments)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.runtime.pass_time(seconds)

    def set(self, name: str, value: bool) -> None:
        """Change what happens from now on."""
        setattr(self, name, value)

    def end(self) -> None:
        """Have every client leave, and see that nothing remains."""
        for stream in self.clients:
            if stream not in self.finished_streams:
                stream.over = True
                stream.handler.on_reset(reasons.CLIENT_CONNECTION_LOST)
        assert len(self.finished_streams) == len(self.clients), "not finished"
        assert [stage.gate.active for stage in self.stages] == [0, 0, 0, 0], "places are kept"
        assert self.held.total == 0, "bytes are held"
        assert self.kept.total == 0, "bytes are kept"
        assert [self.balancer.active(index) for index in (0, 1)] == [0, 0], "backends are busy"
        assert not self.callers, "a caller waits"
        assert len(self.runtime.wheel) == 0, "a timer is left"

    def _check(self) -> None:
        """See that as much is held, and as many places are taken, as there is reason for."""
        open_clients = [stream for stream in self.clients if stream not in self.finished_streams]
        owed = sum(stream.delivered - stream.credited for stream in open_clients)
        assert self.kept.total <= 30, "more is kept than there is room for"
        assert self.held.total == owed, "other bytes are held than those not credited"
        trying = sum(stream.may_send and not stream.over for stream in self.backends)
        assert self.stages[0].gate.active == trying + len(self.callers), "a place too many or few"

    def _counts(self) -> tuple[Any, ...]:
        active = [stage.gate.active for stage in self.stages]
        return (*active, self.held.total, len(self.runtime.wheel), len(self.callers))

    def _respond(self, stream: Stream, head: int, end: bool) -> None:
        if stream.heads or stream.over or not stream.may_send:
            return
        if head < 0:
            stream.handler.on_informational(list(INFORMATIONAL))
            return
        stream.heads = 1
        stream.may_send = not end
        stream.handler.on_head(list(RESPONSES[head]), end)

    def _act(self, stream: Stream, name: str, *arguments: Any) -> None:
        """Deliver what a session would, in a state where it may."""
        if stream.over:
            return
        if name == "accepts":
            stream.accepts = arguments[0]
        elif name == "takes":
            stream.untaken = max(0, stream.untaken - arguments[0])
            stream.beside = arguments[1]
        elif name == "writable":
            if stream.stuck:
                stream.stuck = False
                stream.handler.on_writable()
        elif name == "stopped":
            stream.handler.on_stopped()
        elif name == "reset":
            stream.over = True
            stream.handler.on_reset(arguments[0])
        elif stream.may_send and name == "data":
            size, end = arguments
            stream.may_send = not end
            stream.delivered += size
            stream.handler.on_data(b"x" * size, end)
        elif stream.may_send:
            stream.may_send = False
            stream.handler.on_trailers(list(TRAILERS[arguments[0]]))

    def _excluded(self) -> list[tuple[str, Reason, float]]:
        """Return the backends that are not in the choice."""
        names = enumerate(("one", "two"))
        return [
            (name, reasons.NO_BACKEND, 1.0)
            for position, name in names
            if not self.balancer.is_eligible(position)
        ]

    def _retry(self) -> RetryPolicy:
        retries = self.settings.retries
        delay = HedgeDelay(0.5, None, list)
        return RetryPolicy(
            conditions=frozenset(Retry) - {Retry.NEVER} if retries else frozenset(),
            connect_tries=2,
            tries=2,
            methods=frozenset({b"GET", b"HEAD"}),
            statuses=frozenset({503}),
            try_timeout=1.5 if retries else None,
            backoff_base=0.2,
            backoff_max=0.3,
            body_max=20,
            body_places_max=30,
            budget=None,
            hedging=HedgePolicy(frozenset({b"GET"}), delay) if retries else None,
        )

    def _policy(self) -> Any:
        settings = self.settings
        terms = self.kernels["terms"]
        wait = settings.wait
        return terms.RequestPolicy(
            limits=Limits(),
            timeouts=terms.Timeouts(
                4.0,
                3.0,
                2.0,
                2.5,
                settings.total,
                wait,
                wait / 4,
                terms.Rates(4.0, 2.0, 8.0, 2.0),
            ),
            bodies=terms.BodyLimits(
                settings.request, settings.response, settings.prebuffer, settings.held
            ),
            early_methods=frozenset({b"GET"}),
            retry_after=1,
        )
