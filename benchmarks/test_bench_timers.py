"""What a timeout costs, compiled and as the twin does it."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from spooky._core import timers as compiled
from spooky._core.pure import timers as pure

SIDES = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


def ignore() -> None:
    """Be a callback."""


def busy_wheel(kernel: ModuleType) -> pure.TimerWheel:
    """Return a wheel with 10,000 timers in it."""
    wheel = kernel.TimerWheel(0.0)
    for number in range(10_000):
        wheel.schedule(1.0 + number % 60, ignore)
    return wheel


@SIDES
@pytest.mark.benchmark(group="timers: schedule and cancel, 10,000 others")
def test_schedule_and_cancel(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    wheel = busy_wheel(kernel)

    def schedule_and_cancel() -> None:
        wheel.schedule(30.0, ignore).cancel()

    benchmark(schedule_and_cancel)
    assert len(wheel) == 10_000


@SIDES
@pytest.mark.benchmark(group="timers: postpone, 10,000 others")
def test_postpone(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    timer = busy_wheel(kernel).schedule(30.0, ignore)
    benchmark(timer.postpone, 60.0)
    assert timer.deadline == 60.0


@SIDES
@pytest.mark.benchmark(group="timers: fire 1,000")
def test_fire(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    wheel = kernel.TimerWheel(0.0)
    now = 0.0

    def schedule() -> None:
        for number in range(1_000):
            wheel.schedule(now + number * 0.001, ignore)

    def fire() -> None:
        nonlocal now
        now += 1.0
        wheel.advance(now)

    benchmark.pedantic(fire, setup=schedule, rounds=100)
    assert len(wheel) == 0
