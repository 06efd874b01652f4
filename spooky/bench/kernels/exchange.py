"""What a small request costs between its two streams, and the parts that it passes.

Streams, pool and service are stubs that take everything, so what is timed is the kernels alone:
validation, routing, admission, forwarding, deadlines and the record included.
"""

from types import SimpleNamespace
from typing import Any, Final

from spooky._core import reasons
from spooky._core.access_record import AccessRecord
from spooky._core.accounts import Accounts, Timings
from spooky._core.admission import Admission, AdmissionStage, admit
from spooky._core.attempt import Attempt
from spooky._core.balance import RoundRobin
from spooky._core.deadlines import Deadlines
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate, Places
from spooky._core.hand_off import Connection, Pool
from spooky._core.outcomes import Tally
from spooky._core.reasons import Reason
from spooky._core.routes import RouteTable, Rule
from spooky._core.shared import HISTOGRAM_VALUES
from spooky._core.timers import TimerWheel
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


class Service:
    """The clock, and what exchanges ask of their service."""

    def __init__(self, upstream: Any) -> None:
        self.runtime = self
        self.held = Places()
        self.ended = 0
        self.keeps_decisions = True
        self._wheel = TimerWheel(0.0)
        self.schedule = self._wheel.schedule
        self._generation = SimpleNamespace(
            number=1,
            policy=SimpleNamespace(
                limits=Limits(),
                timeouts=SimpleNamespace(
                    response_head=30.0, first_byte=30.0, response_idle=60.0, request_idle=60.0,
                    total=None, admission=0.0,
                ),
                bodies=SimpleNamespace(
                    request=None, response=None, prebuffer=0, held_requests=1 << 30
                ),
                early_methods=frozenset({b"GET"}),
            ),
            routes=RouteTable([Rule("api", None, None, None, upstream)]),
        )  # fmt: skip

    def now(self) -> float:
        """Return the time."""
        return 1.0

    def next_request_id(self) -> str:
        """Return an id."""
        return "0165e0c0000000001"

    def in_force(self) -> Any:
        """Return what is in force."""
        return self._generation

    def finished(self, client: Any, stream: Any, record: Any, reason: Reason) -> None:
        """Count the end."""
        self.ended += 1


def _upstream(pool: Any = None) -> Any:
    """Return an upstream with one backend; nothing is shared."""
    return SimpleNamespace(
        name="api",
        balancer=RoundRobin([b"one"], [1]),
        key_source=None,
        backends=(
            SimpleNamespace(
                id="one",
                scheme=b"http",
                authority=b"127.0.0.1",
                pool=pool,
                stage=AdmissionStage(Gate(), LIMIT, reasons.BACKEND_INFLIGHT),
                tally=Tally(None, None, 0, 0),
            ),
        ),
        forwarding=ForwardingPolicy(),
        stages=(
            AdmissionStage(Gate(), LIMIT, reasons.GLOBAL_INFLIGHT),
            AdmissionStage(Gate(), LIMIT, reasons.UPSTREAM_INFLIGHT),
        ),
        retry=SimpleNamespace(budget=None, is_timed=False),
    )


def _request() -> Request:
    request = validate_request(list(REQUEST), HTTP_3, Limits())
    assert isinstance(request, Request)
    return request


def _exchange() -> Work:
    pool = Answering()
    service = Service(_upstream(pool))
    client = SimpleNamespace(
        address=b"192.0.2.1", port=1, version=HTTP_3, connection_id=b"", response_fields=(),
        hop=b"192.0.2.1", proxies=None, covered=None,
        is_early=False,
    )  # fmt: skip

    def requests() -> int:
        received = 0
        for _ in range(CALLS):
            stream = Stream()
            handler = Exchange(service, stream, client)
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
    service = Service(_upstream())

    def arm_move_and_close() -> Deadlines:
        deadlines = Deadlines(service, service)
        deadlines.expect_upstream(30.0, reasons.UPSTREAM_HEAD_TIMEOUT)
        deadlines.expect_upstream(60.0, reasons.UPSTREAM_BODY_TIMEOUT)
        deadlines.close()
        return deadlines

    return calls(lambda _: len(service._wheel) == 0, arm_move_and_close)


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
