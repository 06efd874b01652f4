"""What a small request costs between its two streams, and the parts that it passes.

Streams, pool and service are stubs that take everything, so what is timed is the kernels alone:
validation, routing, admission, forwarding, deadlines and the record included.
"""

from types import SimpleNamespace
from typing import Any, Final

from spooky._core import reasons
from spooky._core.access_record import AccessRecord
from spooky._core.accounts import Accounts, Timings
from spooky._core.admission import Admission, AdmissionStage, Backend, Upstream, admit
from spooky._core.attempt import Attempt
from spooky._core.balance import RoundRobin
from spooky._core.deadlines import Deadlines
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate, Places
from spooky._core.hand_off import Connection, Pool
from spooky._core.outcomes import Tally
from spooky._core.routes import RouteTable, Rule
from spooky._core.service import Service
from spooky._core.shared import HISTOGRAM_VALUES
from spooky._core.terms import BodyLimits, Client, InForce, Rates, RequestPolicy, Timeouts
from spooky._core.turns import Turns
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment
from spooky.request.exchange import Exchange

CALLS: Final = 1_000
LIMIT: Final = 1_000
BODY: Final = bytes(1024)
RESPONSE: Final = [
    (b":status", b"200"),
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"%d" % len(BODY)),
]


class Stream:
    """Takes everything at once."""

    protocol = "h3"

    def __init__(self) -> None:
        self.handler: Any = None
        self.received = 0

    def send_head(self, fields: Any, end: bool) -> None:
        """Take a head."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Take a piece of a body."""
        self.received += len(data)
        return True

    def consume(self, count: int) -> None:
        """Take credit."""


class Session:
    """Gives streams away."""

    capacity = 100

    def open(self, handler: Any) -> Stream:
        """Return a stream."""
        stream = Stream()
        stream.handler = handler
        return stream


class Ready(Pool):
    """A pool with one connection."""

    def __init__(self) -> None:
        super().__init__()
        connection = Connection()
        connection.session = Session()
        self._ready.append(connection)
        self.callers: list[Any] = []

    def wait(self, caller: Any) -> None:
        """Refuse: the connection has room for all."""
        raise AssertionError("there is a connection")


class Answering(Ready):
    """Keeps those who were given a stream."""

    def request(self, caller: Any) -> None:
        """Give a stream."""
        self.callers.append(caller)
        super().request(caller)


class Still(Turns):
    """A clock that stands still, in a loop that never turns."""

    def __init__(self) -> None:
        super().__init__(self, lambda: 1.0, 0.001)

    def call_later(self, delay: float, callback: Any) -> "Still":
        """Call nothing."""
        return self

    def cancel(self) -> None:
        """Call nothing."""

    def report(self, flushable: Any) -> None:
        """Fail."""
        raise AssertionError("there is nothing to flush")


def _service(upstream: Upstream) -> Service:
    """Return what exchanges ask of their service, with a clock that stands still."""
    clockwork = Still()
    policy = RequestPolicy(
        Limits(),
        Timeouts(30.0, 30.0, 60.0, 60.0, None, 0.0, 0.0, Rates(240.0, 0.0, 240.0, 60.0)),
        BodyLimits(None, None, 0, 1 << 30),
        frozenset({b"GET"}),
        1,
    )
    made = segment()
    in_force = InForce(
        made.generation, policy, RouteTable([Rule("api", None, None, None, upstream)])
    )
    service = Service(clockwork, in_force, made, Exchange, Places(), Places())
    timings = Timings(*(made.histogram(1, 100 + n * HISTOGRAM_VALUES) for n in range(3)))
    service._accounts = Accounts(made.values(1), 0, 1, 2, lambda *_: 3, lambda _: timings)
    return service


def _upstream(pool: Any = None) -> Upstream:
    """Return an upstream with one backend; nothing is shared."""
    return Upstream(
        name="api",
        balancer=RoundRobin([b"one"], [1]),
        key_source=None,
        backends=(
            Backend(
                id="one",
                scheme=b"http",
                authority=b"127.0.0.1",
                pool=pool,
                stage=AdmissionStage(Gate(), LIMIT, reasons.BACKEND_INFLIGHT),
                tally=Tally(None, None, 0, 0),
                health=None,
            ),
        ),
        forwarding=ForwardingPolicy(),
        stages=(
            AdmissionStage(Gate(), LIMIT, reasons.GLOBAL_INFLIGHT),
            AdmissionStage(Gate(), LIMIT, reasons.UPSTREAM_INFLIGHT),
        ),
        retry=SimpleNamespace(budget=None, is_timed=False),
        excluded=None,
    )


def _request() -> Request:
    request = validate_request(list(REQUEST), HTTP_3, Limits())
    assert isinstance(request, Request)
    return request


def _exchange() -> Work:
    pool = Answering()
    service = _service(_upstream(pool))
    client = Client(b"192.0.2.1", 1, HTTP_3, b"", (), b"192.0.2.1")

    def requests() -> int:
        received = 0
        for _ in range(CALLS):
            stream = Stream()
            handler = service.accept(stream, client)
            handler.on_head(list(REQUEST), True)
            attempt: Attempt = pool.callers.pop()
            attempt.on_head(list(RESPONSE), False)
            attempt.on_data(BODY, True)
            received += stream.received
        return received

    return Work(run=requests, right=lambda received: received == CALLS * len(BODY), calls=CALLS)


def _admit() -> Work:
    upstream, request = _upstream(), _request()

    def admit_and_leave() -> int:
        admitted = admit(upstream, request, b"192.0.2.1", b"", 1.0)
        assert isinstance(admitted, Admission)
        admitted.answered(1.0, 200, 1.2)
        admitted.leave(reasons.COMPLETED, 200, 1.5, 1.2, 1.0)
        active: int = upstream.stages[0].gate.active
        return active

    return calls(lambda active: active == 0, admit_and_leave)


def _deadlines() -> Work:
    clockwork = Still()

    def arm_move_and_close() -> Deadlines:
        deadlines = Deadlines(clockwork, None)
        deadlines.expect_upstream(30.0, reasons.UPSTREAM_HEAD_TIMEOUT)
        deadlines.expect_upstream(60.0, reasons.UPSTREAM_BODY_TIMEOUT)
        deadlines.close()
        return deadlines

    return calls(lambda _: len(clockwork._wheel) == 0, arm_move_and_close)


def _record() -> Work:
    request = _request()

    def fill_in() -> AccessRecord:
        record = AccessRecord("0165e0c0000000001", 1.0)
        record.take_request(request)
        record.upstream_connected(1.001, "h2")
        record.response_head(1.002, 200)
        return record

    return calls(lambda record: record.status == 200, fill_in)


def _accounts() -> Work:
    made = segment()

    def time(upstream: str) -> Timings:
        return Timings(*(made.histogram(1, 100 + n * HISTOGRAM_VALUES) for n in range(3)))

    accounts = Accounts(made.values(1), 0, 1, 2, lambda *_: 3, time)
    record = AccessRecord("0165e0c0000000001", 1.0)
    record.upstream, record.backend = "api", "one"
    record.upstream_connected(1.001, "h2")
    record.response_head(1.002, 200)

    def begin_and_end() -> int:
        accounts.began()
        accounts.ended("h3", record, reasons.COMPLETED, 1.003)
        return accounts.active

    return calls(lambda active: active == 0, begin_and_end)


def _hand_off() -> Work:
    pool = Ready()
    caller = SimpleNamespace(on_connected=lambda stream, reused: None)
    return calls(lambda _: pool.take_ready() is not None, pool.request, caller)


CASES: Final = (
    Case("exchange: a request and its response of 1 KiB", _exchange),
    Case("exchange: admit and leave", _admit),
    Case("exchange: deadlines armed, moved and closed", _deadlines),
    Case("exchange: fill a record in", _record),
    Case("exchange: count a request and its end", _accounts),
    Case("exchange: a stream of a ready connection", _hand_off),
)
