"""An open loop counts every request that was due, whatever a server does; on simulated time."""

from collections.abc import Callable

import pytest

from spooky import _core

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky.bench.counting import CountingClient, Request, Tally
from spooky.bench.plan import UNFINISHED
from spooky.bench.requesting import DRAIN_SECONDS, Requesting
from spooky.protocol.quic.session import Close
from tests.bench.test_counting import AGREED, HEAD, Session, response

RATE = 1000.0
WARMUP = 0.5
SECONDS = 3.0
CLIENTS = 4
STEP = 0.05

Stalled = Callable[[float], bool]


class World:
    """Simulated time, and a server that answers at once, but while it is stalled."""

    def __init__(self, *, open_loop: bool = True, streams: int = 10) -> None:
        self.time = 100.0
        self.open_loop = open_loop
        self.stalled: Stalled = lambda now: False
        self.late: Callable[[float], float] = lambda until: until
        self.tally = Tally()
        self.sessions = [Session(streams=10**6) for _ in range(CLIENTS)]
        self.clients = [
            CountingClient(
                session,  # type: ignore[arg-type]
                (Request(HEAD),),
                self.tally,
                streams=streams,
                closed_loop=not open_loop,
            )
            for session in self.sessions
        ]
        for client in self.clients:
            client.now = self.time
            client.on_handshake(AGREED)
        self.requesting = Requesting(
            self, self.clients, [self] * CLIENTS, self.tally, RATE if open_loop else 0.0
        )

    def now(self) -> float:
        return self.time

    def settle(self, now: float) -> None:
        """What is sent needs no carrying."""

    def turn(self, until: float) -> float:
        self.time = max(self.late(min(until, self.time + STEP)), self.time)
        if not self.stalled(self.time):
            for client, session in zip(self.clients, self.sessions, strict=True):
                self.answer(client, session)
        return self.time

    def answer(self, client: CountingClient, session: Session) -> None:
        """Answer all that is asked; in a closed loop not what that causes, which has no end."""
        client.now = self.time
        while session.ended:
            asked, session.ended = session.ended, set()
            for stream_id in asked:
                client.on_stream_data(stream_id, response(body=b"x"), True)
            if not self.open_loop:
                break

    def run(self) -> None:
        self.requesting.pass_time(WARMUP, lambda seconds: None)
        self.requesting.measure()
        self.requesting.pass_time(SECONDS, lambda seconds: None)
        self.answered = self.tally.requests
        self.requesting.drain()


BEGIN = 100.0 + WARMUP
DUE = pytest.approx(RATE * SECONDS, abs=2)
"""Requests that are due while it is measured; the first and the last may be on the border."""


def test_a_request_of_an_open_loop_is_counted_once() -> None:
    world = World()
    world.run()
    assert world.tally.latencies.count == DUE
    assert world.answered == DUE
    assert world.tally.errors == {}
    assert world.tally.latencies.maximum <= STEP * 1e6


def test_a_stall_that_outlasts_an_open_loop_is_in_its_latencies_and_its_errors() -> None:
    world = World()
    world.stalled = lambda now: now >= BEGIN + 1.0
    world.run()
    latencies = world.tally.latencies
    assert latencies.count == DUE
    assert world.tally.errors == {UNFINISHED: pytest.approx(RATE * (SECONDS - 1.0), abs=2)}
    # Two thirds fell into the stall: the median waited at least what the drain takes.
    assert latencies.percentile(0.3) <= STEP * 1e6
    assert latencies.percentile(0.5) > DRAIN_SECONDS * 1e6
    longest = SECONDS - 1.0 + DRAIN_SECONDS
    assert latencies.maximum == pytest.approx(longest * 1e6, rel=0.01)
    assert all(client.unanswered == 0 for client in world.clients)


def test_a_stall_that_ends_soon_after_an_open_loop_has_its_whole_latency_and_no_error() -> None:
    """Also of requests that found no stream while it lasted."""
    world = World(streams=2)
    resumes = BEGIN + SECONDS + DRAIN_SECONDS / 2
    world.stalled = lambda now: BEGIN + 1.0 <= now < resumes
    world.run()
    assert world.tally.latencies.count == DUE
    assert world.tally.errors == {}
    assert world.tally.latencies.maximum == pytest.approx((resumes - BEGIN - 1.0) * 1e6, rel=0.02)
    assert world.answered == pytest.approx(RATE, abs=2), "what came later is no throughput"


def test_what_was_due_before_an_open_loop_is_measured_does_not_count() -> None:
    world = World(streams=1)
    world.stalled = lambda now: now >= BEGIN - 0.2
    world.run()
    assert world.tally.latencies.count == DUE
    assert world.tally.errors == {UNFINISHED: DUE}


def test_a_generator_that_wakes_late_still_makes_every_request_that_was_due() -> None:
    world = World()
    end = BEGIN + SECONDS
    world.late = lambda until: until if until < end - 1.0 else max(until, end + 0.5)
    world.run()
    assert world.tally.latencies.count == DUE
    # It was the generator's stall, yet for the requests there is no difference.
    assert world.tally.latencies.maximum >= 1.4e6


def test_requests_to_a_connection_that_ended_are_errors() -> None:
    world = World()
    world.requesting.pass_time(WARMUP, lambda seconds: None)
    world.requesting.measure()
    world.clients[1].on_closed(Close(0x101, True, "", True, False))
    world.requesting.pass_time(SECONDS, lambda seconds: None)
    world.requesting.drain()
    quarter = pytest.approx(RATE * SECONDS / CLIENTS, abs=2)
    assert world.tally.errors == {"the connection was closed with 0x101": quarter}
    assert world.tally.latencies.count == pytest.approx(RATE * SECONDS * 0.75, abs=2)


def test_what_is_in_flight_as_a_closed_loop_ends_is_no_error() -> None:
    world = World(open_loop=False)
    world.stalled = lambda now: now >= BEGIN + SECONDS / 2
    world.run()
    assert world.tally.requests == world.tally.latencies.count > 0
    assert world.tally.errors == {}
    assert sum(client.in_flight for client in world.clients) == 10 * CLIENTS


def test_a_connection_of_a_closed_loop_that_ended_before_is_an_error() -> None:
    world = World(open_loop=False)
    world.clients[0].on_closed(Close(0x101, True, "", True, False))
    world.run()
    assert world.tally.errors == {"the connection ended before it was measured": 1}
