"""The compiled kernels of requests and their twins do the same, whatever comes in whatever order.

One source makes both, so what is looked for is what C types change: ranges, truth, overriding. And
what holds on both sides: each exchange ends once, and gives everything back that it took.
"""

import importlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import reasons
from spooky._core.shared import HISTOGRAM_VALUES, Segment
from spooky._core.timers import TimerWheel
from spooky._core.turns import Turns
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.observe.segment import private_segment
from spooky.request.exchange import Exchange
from tests.support.exchanges import FAILURES, REQUEST, Settings, World
from tests.support.loop import Loop
from tests.support.twins import module_over_twins

KERNELS = (
    "terms", "gate", "admission", "access_record", "deadlines", "attempt", "accounts", "service",
    "exchange", "hand_off",
)  # fmt: skip
COPY, PURE = module_over_twins(
    "spooky.request.exchange",
    *KERNELS,
    beside=("spooky.request.retrying", "spooky.request.readmission"),
)
INSTALLED = {name: importlib.import_module(f"spooky._core.{name}") for name in KERNELS}

both = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

ANY = st.sampled_from([0, 0, 0, 1, 1, 2])
SIZES = st.sampled_from([0, 1, 5, 12, 30])
CLIENT_ACTS = st.one_of(
    st.tuples(st.just("data"), SIZES, st.just(False)),
    st.tuples(st.just("data"), SIZES, st.booleans()),
    st.tuples(st.just("trailers"), st.integers(0, 1)),
    st.sampled_from([("reset", reasons.CLIENT_RESET), ("stopped",), ("writable",), ("writable",)]),
    st.tuples(st.just("accepts"), st.booleans()),
    st.tuples(st.just("takes"), st.integers(0, 30), st.integers(-1, 60)),
)
BACKEND_ACTS = st.one_of(
    st.tuples(st.just("head"), st.integers(-1, 3), st.booleans()),
    st.tuples(st.just("head"), st.integers(0, 1), st.just(False)),
    st.tuples(st.just("data"), SIZES, st.booleans()),
    st.tuples(st.just("trailers"), st.integers(0, 1)),
    st.tuples(st.just("reset"), st.sampled_from(FAILURES)),
    st.sampled_from([("stopped",), ("writable",), ("writable",)]),
    st.tuples(st.just("accepts"), st.booleans()),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("open"), st.integers(0, 1), st.booleans()),
        st.builds(lambda number, act: ("client", number, *act), ANY, CLIENT_ACTS),
        st.builds(lambda number, act: ("client", number, *act), ANY, CLIENT_ACTS),
        st.builds(lambda number, act: ("backend", number, *act), ANY, BACKEND_ACTS),
        st.builds(lambda number, act: ("backend", number, *act), ANY, BACKEND_ACTS),
        st.tuples(st.just("connect"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("refuse"), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 2.6])),
        st.tuples(
            st.just("set"),
            st.sampled_from(["connects_at_once", "has_generation", "early"]),
            st.booleans(),
        ),
    ),
    min_size=5,
    max_size=40,
)
SETTINGS = st.builds(
    Settings,
    limits=st.sampled_from([(3, 2, 1), (1, 5, 5), (9, 9, 9)]),
    wait=st.sampled_from([0.0, 0.0, 1.5]),
    prebuffer=st.sampled_from([0, 0, 10]),
    total=st.sampled_from([None, 5.0]),
    request=st.sampled_from([None, 10]),
    response=st.sampled_from([None, 20]),
    held=st.sampled_from([1000, 3]),
    retries=st.booleans(),
)


def happening(make: Any, kernels: dict[str, Any], terms: Settings, steps: list[Any]) -> list[Any]:
    """Take the steps; return everything that came of them."""
    world = World(make, kernels, terms)
    for step in steps:
        world.take(step)
    world.end()
    return world.log


@settings(max_examples=1500)
@given(SETTINGS, st.booleans(), st.integers(0, 1), st.booleans(), STEPS)
def test_exchanges(terms: Settings, at_once: bool, head: int, end: bool, steps: list[Any]) -> None:
    steps = [("set", "connects_at_once", at_once), ("open", head, end), *steps]
    installed = happening(Exchange, INSTALLED, terms, steps)
    assert installed == happening(COPY.Exchange, PURE, terms, steps)


# --- the parts ----------------------------------------------------------------------------------

COUNTS = st.integers(0, 5) | st.just((1 << 64) - 1)
PLACE_CALLS = st.lists(
    st.tuples(st.just("take"), COUNTS, COUNTS) | st.tuples(st.just("give"), st.integers(0, 5)),
    max_size=12,
)


@both
@given(PLACE_CALLS)
def test_places(calls: list[tuple[Any, ...]]) -> None:
    logs: list[list[Any]] = []
    for kernels in (INSTALLED, PURE):
        places = kernels["gate"].Places()
        logs.append([])
        for name, *arguments in calls:
            try:
                logs[-1].append((getattr(places, name)(*arguments), places.total, places.share))
            except ValueError as error:
                logs[-1].append(str(error))
    assert logs[0] == logs[1]


def request() -> Request:
    validated = validate_request(list(REQUEST), HTTP_3, Limits())
    assert isinstance(validated, Request)
    return validated


@pytest.mark.parametrize("kernels", [INSTALLED, PURE], ids=["installed", "twins"])
def test_a_stage_of_ones_own_decides_and_learns(kernels: dict[str, Any]) -> None:
    told: list[Any] = []

    class Stage(kernels["admission"].AdmissionStage):  # type: ignore[misc, name-defined]
        def enter(self, request: Request, now: float) -> bool:
            told.append(request.method)
            return bool(super().enter(request, now))

        def answered(self, admission: Any) -> None:
            told.append(("answered", admission.status, admission.service_ms >= 0.0))

        def leave(self, admission: Any) -> None:
            told.append((admission.reason.code, admission.status))
            super().leave(admission)

        def withdraw(self) -> None:
            told.append("withdrawn")
            super().withdraw()

    world = World(Exchange if kernels is INSTALLED else COPY.Exchange, kernels, Settings())
    upstream = world.generation.routes.lookup(b"example.org", b"/a", b"GET")
    stage = Stage(kernels["gate"].Gate(), 1, reasons.GLOBAL_INFLIGHT)
    world.lead_to(upstream.behind((stage, *upstream.stages)))
    world.take(("open", 0, True))
    world.take(("open", 0, True))
    world.take(("backend", 0, "head", 0, True))
    world.balancer.set_eligible(0, False)
    world.balancer.set_eligible(1, False)
    world.take(("open", 0, True))
    world.end()
    assert told == [
        b"GET",
        b"GET",
        ("answered", 200, True),
        ("completed", 200),
        b"GET",
        "withdrawn",
    ]


@pytest.mark.parametrize("kernels", [INSTALLED, PURE], ids=["installed", "twins"])
def test_what_follows_a_head_whose_handler_failed_is_left(kernels: dict[str, Any]) -> None:
    world = World(Exchange if kernels is INSTALLED else COPY.Exchange, kernels, Settings())
    world.generation = object()  # None of a generation: reading it fails.
    with pytest.raises((TypeError, AttributeError)):
        world.take(("open", 0, False))
    handler = world.clients[0].handler
    handler.on_data(b"body", False)
    handler.on_trailers([(b"checksum", b"1")])
    handler.on_writable()
    world.end()


@both
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("expect_client"), st.floats(0, 3), st.just(1)),
            st.tuples(st.just("expect_upstream"), st.floats(0, 3), st.just(2)),
            st.tuples(st.just("limit_total"), st.floats(0, 3)),
            st.tuples(
                st.just("hold_to_rate"), st.sampled_from([0.0, 2.5]), st.floats(0, 3), st.just(3)
            ),
            st.tuples(st.just("expect_movement"), st.floats(0, 3), st.just(4), st.integers(0, 9)),
            st.tuples(st.just("move"), st.integers(0, 9)),
            st.sampled_from([("client_acted",), ("upstream_acted",), ("close",)]),
            st.tuples(st.just("pass"), st.floats(0, 2)),
        ),
        max_size=15,
    )
)
def test_deadlines(steps: list[tuple[Any, ...]]) -> None:
    logs: list[list[Any]] = []
    for kernels in (INSTALLED, PURE):
        clock = Clock()
        logs.append(clock.log)
        deadlines = kernels["deadlines"].Deadlines(clock, clock)
        for name, *arguments in steps:
            if name == "pass":
                clock.pass_time(*arguments)
            elif name == "move":
                clock.moved += arguments[0]
            else:
                getattr(deadlines, name)(*arguments)
            clock.log.append(deadlines.allowance)
        clock.pass_time(10.0)
    assert logs[0] == logs[1]


class Clock(Turns):
    """A runtime, and the owner of deadlines."""

    def __init__(self) -> None:
        self._time = 0.0
        super().__init__(Loop(), lambda: self._time, 0.01)
        self.log: list[Any] = []
        self.moved = 0
        self._wheel = TimerWheel(0.0)

    def report(self, flushable: Any) -> None:
        raise AssertionError("nothing is flushed")

    def pass_time(self, seconds: float) -> None:
        self._time += seconds
        self._wheel.advance(self._time)
        self.log.append(len(self._wheel))

    def on_deadline(self, reason: Any) -> None:
        self.log.append((self._time, reason))

    def client_moved(self) -> int:
        moved, self.moved = self.moved, 0
        return moved


@both
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("take_raw_head"),
                st.lists(
                    st.tuples(
                        st.sampled_from([b":method", b":path", b":authority", b"host", b"x"]),
                        st.sampled_from([b"", b"/a?b", b"GET"]),
                    ),
                    max_size=4,
                ),
            ),
            st.tuples(st.just("upstream_connected"), st.floats(0, 9), st.just("h2")),
            st.tuples(st.just("response_head"), st.floats(0, 9), st.integers(0, 599)),
            st.tuples(
                st.just("close"), st.floats(0, 9), st.just(reasons.NO_ROUTE), st.just(b"::1"),
                st.integers(0, 65535), st.just("h3"),
            ),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_access_records(calls: list[tuple[Any, ...]]) -> None:
    records = [kernels["access_record"].AccessRecord("1", 1.0) for kernels in (INSTALLED, PURE)]
    for record in records:
        record.take_request(request())
        record.bytes_sent += 1 << 40
        for name, *arguments in calls:
            getattr(record, name)(*arguments)
    compiled, twin = records
    assert {name: getattr(compiled, name) for name in vars(twin)} == vars(twin)
    assert not math.isnan(compiled.ended)


ENDS = st.lists(
    st.tuples(
        st.sampled_from(["h2", "h3"]),
        st.sampled_from(["", "api"]),
        st.sampled_from([0, 200, 204, 503]),
        st.sampled_from([reasons.COMPLETED, reasons.NO_ROUTE]),
        st.sampled_from([-1.0, 0.0, 0.001, 3.0]),
        st.sampled_from([-1.0, 0.002, 70.0]),
    ),
    max_size=8,
)


@both
@given(ENDS)
def test_accounts(ends: list[tuple[Any, ...]]) -> None:
    logs: list[list[Any]] = []
    for kernels in (INSTALLED, PURE):
        segment = private_segment()
        values = segment.values(0)
        named: list[Any] = []

        def name(
            protocol: str, record: Any, reason: reasons.Reason, named: list[Any] = named
        ) -> int:
            named.append((protocol, record.upstream, record.status, reason.code))
            return 3 + len(named)

        def time(
            upstream: str,
            kernels: dict[str, Any] = kernels,
            segment: Segment = segment,
            named: list[Any] = named,
        ) -> Any:
            named.append(upstream)
            return kernels["accounts"].Timings(
                *(segment.histogram(0, 100 + place * HISTOGRAM_VALUES) for place in range(3))
            )

        accounts = kernels["accounts"].Accounts(values, 0, 1, 2, name, time)
        for protocol, upstream, status, reason, connected, first_byte in ends:
            record = kernels["access_record"].AccessRecord("1", 0.0)
            record.upstream, record.status = upstream, status
            record.connected, record.first_byte = connected, first_byte
            record.bytes_received, record.bytes_sent = 5, 1 << 40
            accounts.began()
            accounts.began()
            accounts.ended(protocol, record, reason, 0.01)
        assert accounts.active == len(ends)
        logs.append([named, list(values[:1000])])
    assert logs[0] == logs[1]


@both
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("room"), st.integers(0, 2), st.integers(0, 2)),
            st.tuples(st.just("closed"), st.booleans()),
            st.just(("request",)),
        ),
        max_size=15,
    )
)
def test_streams_of_ready_connections(steps: list[tuple[Any, ...]]) -> None:
    logs: list[list[Any]] = []
    for kernels in (INSTALLED, PURE):
        log: list[Any] = []
        logs.append(log)

        class Waiting(kernels["hand_off"].Pool):  # type: ignore[misc, name-defined]
            def wait(self, caller: Any, log: list[Any] = log) -> None:
                log.append("waits")

        pool, connections = Waiting(), []
        for number in range(3):
            connection = kernels["hand_off"].Connection()
            connection.session = Session(number, log)
            connections.append(connection)
        caller = SimpleNamespace(on_connected=lambda *told, log=log: log.append(told))
        for kind, *arguments in steps:
            if kind == "room":
                number, room = arguments
                connections[number].session.capacity = room
                if not connections[number].ready:
                    connections[number].ready = True
                    pool._ready.append(connections[number])
            elif kind == "closed":
                pool.closed = arguments[0]
            else:
                pool.request(caller)
            log.append([(connection.served, connection.ready) for connection in connections])
    assert logs[0] == logs[1]


class Session:
    """Has room for so many streams."""

    def __init__(self, number: int, log: list[Any]) -> None:
        self.capacity = 0
        self._number = number
        self._log = log

    def open(self, handler: Any) -> str:
        self.capacity -= 1
        return f"a stream of {self._number}"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                ("open", 1, False),
                ("backend", 0, "accepts", False),
                ("client", 0, "data", 5, False),
                ("backend", 0, "writable"),
            ],
            id="a piece of an upload that the backend accepts late",
        ),
        pytest.param(
            [
                ("open", 0, True),
                ("client", 0, "accepts", False),
                ("backend", 0, "head", 0, False),
                ("backend", 0, "data", 5, True),
                ("client", 0, "writable"),
            ],
            id="a response whose end the client accepts late",
        ),
        pytest.param(
            [
                ("set", "connects_at_once", False),
                ("open", 1, False),
                ("client", 0, "data", 5, False),
                ("refuse", 0),
            ],
            id="a body that came before a connection failed",
        ),
    ],
)
def test_what_is_taken_is_given_back(steps: list[Any]) -> None:
    assert happening(Exchange, INSTALLED, Settings(), steps) == happening(
        COPY.Exchange, PURE, Settings(), steps
    )
