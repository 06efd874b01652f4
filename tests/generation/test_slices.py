"""A large change is prepared, put in force and given up in steps that are of one thing each."""

from collections import deque
from collections.abc import Generator
from typing import Any

from spooky._core.admission import Upstream
from spooky.generation.compile import compile_steps
from spooky.upstream.health import BackendHealth
from tests.support.generations import Generations
from tests.support.proxy import run

UPSTREAMS = 10


def settings(**more: Any) -> dict[str, Any]:
    """Return a configuration of many upstreams, each with two backends and two routes."""
    return {
        "listen": {"tls": {"cert": "c", "key": "k"}},
        "upstream": {
            f"upstream-{number}": {
                "route": {"path_prefix": f"/{number}"},
                "backends": [
                    {"id": f"backend-{i}", "address": f"http://10.0.{number}.{i}"} for i in (1, 2)
                ],
                **more,
            }
            for number in range(UPSTREAMS)
        },
        "routes": [
            {"path_prefix": f"/more/{number}", "upstream": f"upstream-{number}"}
            for number in range(UPSTREAMS)
        ],
    }


def at_most_one_at_a_time(steps: Generator[None, None, Any], count: Any) -> int:
    """Take all steps; return by how much the count changed, at each of them by one at most."""
    first = before = count()
    for _ in steps:
        now = count()
        assert abs(now - before) <= 1
        before = now
    assert abs(count() - before) <= 1
    return int(count() - first)


def test_each_step_of_preparing_makes_one_backend_at_most() -> None:
    async def scenario() -> None:
        made = Generations()
        steps = compile_steps(*made.arguments(settings(), 1))
        assert at_most_one_at_a_time(steps, lambda: len(made.pools)) == 2 * UPSTREAMS
        await made.runtime.close()

    run(scenario)


def test_each_step_of_coming_in_force_changes_one_thing_at_most() -> None:
    async def scenario() -> None:
        made = Generations()
        deque(made.compile(settings(), 1).activation(), maxlen=0)
        wanted = settings() | {"performance": {"h2_pool_idle_timeout_ms": 7_000}}
        changed = made.compile(wanted, 2)

        def count() -> int:
            return sum(pool.settings.idle_timeout == 7.0 for pool in made.pools)

        steps = changed.activation()
        assert count() == 0
        assert at_most_one_at_a_time(steps, count) == 2 * UPSTREAMS
        await made.runtime.close()

    run(scenario)


def test_each_step_of_giving_up_lets_go_of_one_upstream_at_most() -> None:
    async def scenario() -> None:
        made = Generations()
        steps = made.compile(settings(), 1).release_steps(0.0)
        parts = made.environment.parts
        assert at_most_one_at_a_time(steps, lambda: len(parts)) == -UPSTREAMS
        assert made.pools == []
        await made.runtime.close()

    run(scenario)


def test_one_thing_that_cannot_come_in_force_keeps_no_other_from_it(caplog: Any) -> None:
    async def scenario() -> None:
        made = Generations()
        generation = made.compile(settings(), 1)
        parts = list(made.environment.parts.values())
        came: list[int] = []

        def fail() -> None:
            raise ValueError("defect")

        for number, part in enumerate(parts):
            part.activations[:] = [lambda number=number: came.append(number), fail]  # type: ignore[misc]
        deque(generation.activation(), maxlen=0)
        assert came == list(range(UPSTREAMS))
        assert len(caplog.records) == UPSTREAMS
        await made.runtime.close()

    run(scenario)


def test_whoever_is_asked_before_its_turn_knows_what_cannot_serve() -> None:
    """Another way of balancing begins with loads of its own, which know nothing yet."""

    async def scenario() -> None:
        made = Generations()
        first = made.compile(settings(), 1)
        deque(first.activation(), maxlen=0)
        health = BackendHealth(made.environment.counters.segment, "upstream-3", "backend-1")
        health.set_failing(True, made.runtime.now())
        checked = {"outlier_detection": {"enabled": True}, "panic_threshold_percent": 0}
        otherwise = settings(load_balancing={"type": "random"}, **checked)
        changed = made.compile(otherwise, 2)
        upstream = changed.routes.lookup(b"x", b"/3", b"GET")
        assert isinstance(upstream, Upstream)
        assert {upstream.balancer.pick() for _ in range(50)} == {1}
        # What is in force goes by its own.
        before = first.routes.lookup(b"x", b"/3", b"GET")
        assert isinstance(before, Upstream)
        assert {before.balancer.pick() for _ in range(50)} == {0, 1}
        await made.runtime.close()

    run(scenario)
