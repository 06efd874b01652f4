"""Slow start: how the weight of a backend grows that begins or returns."""

import asyncio
from collections import Counter, deque
from typing import Any

import pytest

from spooky._core import reasons
from spooky._core.balance import RoundRobin
from spooky.config.slow_start import SlowStart
from spooky.generation.generation import Generation
from spooky.observe.segment import private_segment
from spooky.runtime import Runtime
from spooky.upstream.health import BackendHealth, HealthWatch, UpstreamHealth, share_after
from tests.support.generations import Generations
from tests.support.proxy import run

PICKS = 2_000


def percent_of(balancer: Any, backend: int) -> float:
    counts = Counter(balancer.pick() for _ in range(PICKS))
    return 100 * counts[backend] / PICKS


@pytest.mark.parametrize(
    ("aggression", "shares"),
    [
        (1.0, [10, 10, 25, 50, 99, 100]),
        (2.0, [10, 22, 50, 70, 99, 100]),
        (0.5, [10, 10, 10, 25, 99, 100]),
    ],
)
def test_the_share_grows_over_the_window(aggression: float, shares: list[int]) -> None:
    slow_start = SlowStart(window_ms=10_000, min_weight_percent=10, aggression=aggression)
    assert [share_after(slow_start, at) for at in (0, 0.5, 2.5, 5, 9.99, 10)] == shares


def test_a_backend_that_returns_gets_its_load_in_steps() -> None:
    async def scenario() -> None:
        runtime, segment = Runtime(asyncio.get_running_loop()), private_segment()
        now = 1_000.0
        runtime.now = lambda: now
        balancer = RoundRobin([b"a", b"b"], [1, 1])
        health = {at: BackendHealth(segment, "api", name) for at, name in enumerate("ab")}
        watch = HealthWatch(runtime, segment)
        watch.add(UpstreamHealth(balancer, health, 50, SlowStart(10_000, 10)))
        assert percent_of(balancer, 0) == 50
        health[0].set_failing(True, now)
        watch._look()
        assert percent_of(balancer, 0) == 0
        health[0].set_failing(False, now)
        found = []
        for _ in range(6):
            watch._look()
            found.append(percent_of(balancer, 0))
            now += 2
        assert found == pytest.approx([9.1, 16.7, 28.6, 37.5, 44.4, 50], abs=0.5)
        # The same after an ejection.
        health[1].eject(reasons.EJECTED_LATENCY, now + 30)
        now += 30
        health[1].readmit(now)
        watch._look()
        assert percent_of(balancer, 1) == pytest.approx(9.1, abs=0.5)
        await runtime.close()

    run(scenario)


def test_a_worker_that_begins_meanwhile_knows_how_far_a_backend_is() -> None:
    segment = private_segment()
    # What is known lasts as long as somebody has it in view, as the supervisor does.
    known = BackendHealth(segment, "api", "a")
    known.set_failing(True, 5.0)
    known.set_failing(False, 100.0)
    balancer = RoundRobin([b"a", b"b"], [1, 1])
    health = {at: BackendHealth(segment, "api", name) for at, name in enumerate("ab")}
    UpstreamHealth(balancer, health, 50, SlowStart(10_000, 10)).begin(105.0)
    assert percent_of(balancer, 0) == pytest.approx(33.3, abs=0.5)


class Compiled(Generations):
    """Generations of one worker, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.runtime.now = lambda: self.now
        self.generation: Generation | None = None

    def put_in_force(self, *backends: Any, **more: Any) -> Any:
        """Return the balancer of a new generation with backends by id, address and more."""
        before = self.generation
        self.generation, balancer = self.prepared(*backends, **more)
        deque(self.generation.activation(), maxlen=0)
        if before is not None:
            before.release(0.0)
        return balancer

    def prepared(
        self, *backends: Any, slow_start: Any = None, type: str = "round-robin"
    ) -> tuple[Generation, Any]:
        """Return a new generation that is not in force, and its balancer."""
        settings = {
            "listen": {"tls": {"cert": "c", "key": "k"}},
            "upstream": {
                "api": {
                    "route": {"path_prefix": "/"},
                    "backends": [
                        {"id": id_, "address": f"http://{address}", **more}
                        for id_, address, more in backends
                    ],
                    "slow_start": slow_start or {"window_ms": 10_000},
                    "load_balancing": {"type": type},
                }
            },
        }
        number = self.generation.number + 1 if self.generation is not None else 1
        generation = self.compile(settings, number)
        upstream: Any = generation.routes.lookup(b"x", b"/", b"GET")
        return generation, upstream.balancer


A, B = ("a", "10.0.0.1", {}), ("b", "10.0.0.2", {})


def test_a_new_backend_begins_slowly_and_those_of_the_start_do_not() -> None:
    async def scenario() -> None:
        worker = Compiled()
        assert percent_of(worker.put_in_force(A, B), 0) == 50
        # One that is added, one at another address, and one that was drained.
        balancer = worker.put_in_force(A, B, ("c", "10.0.0.3", {}))
        assert percent_of(balancer, 2) == pytest.approx(100 * 10 / 210, abs=0.5)
        worker.now += 5
        worker.environment.health._look()
        # A change of something else changes nothing of it.
        balancer = worker.put_in_force(
            A, B, ("c", "10.0.0.3", {}), slow_start={"window_ms": 10_000, "min_weight_percent": 9}
        )
        assert percent_of(balancer, 2) == pytest.approx(20, abs=0.5)
        worker.now += 60
        worker.environment.health._look()
        assert percent_of(balancer, 2) == pytest.approx(33.3, abs=0.5)
        balancer = worker.put_in_force(A, ("b", "10.0.0.9", {}))
        assert percent_of(balancer, 1) == pytest.approx(9.1, abs=0.5)
        worker.now += 60
        balancer = worker.put_in_force(A, ("b", "10.0.0.9", {"state": "drained"}))
        assert percent_of(balancer, 1) == 0
        balancer = worker.put_in_force(A, ("b", "10.0.0.9", {}))
        assert percent_of(balancer, 1) == pytest.approx(9.1, abs=0.5)
        await worker.runtime.close()

    run(scenario)


def test_another_way_of_balancing_is_as_slow_before_it_is_in_force_and_after() -> None:
    async def scenario() -> None:
        worker = Compiled()
        worker.put_in_force(A, B)
        worker.put_in_force(A, B, ("c", "10.0.0.3", {}))
        worker.now += 5
        backends = A, B, ("c", "10.0.0.3", {}), ("d", "10.0.0.4", {})
        generation, balancer = worker.prepared(*backends, type="random")
        assert percent_of(balancer, 2) == pytest.approx(100 * 50 / 260, abs=3)
        assert percent_of(balancer, 3) == pytest.approx(100 * 10 / 260, abs=3)
        deque(generation.activation(), maxlen=0)
        assert percent_of(balancer, 2) == pytest.approx(100 * 50 / 260, abs=3)
        assert percent_of(balancer, 3) == pytest.approx(100 * 10 / 260, abs=3)
        await worker.runtime.close()

    run(scenario)
