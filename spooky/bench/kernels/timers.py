"""What a timeout costs."""

from typing import Final

from spooky._core.timers import TimerWheel
from spooky.bench.kernels.case import Case, State, Work
from spooky.bench.kernels.loops import calls

OTHERS: Final = 10_000
FIRED: Final = 1_000


def _ignore() -> None:
    """Be a callback."""


def _busy_wheel() -> TimerWheel:
    wheel = TimerWheel(0.0)
    for number in range(OTHERS):
        wheel.schedule(1.0 + number % 60, _ignore)
    return wheel


def _schedule_and_cancel() -> Work:
    wheel = _busy_wheel()

    def schedule_and_cancel() -> None:
        wheel.schedule(30.0, _ignore).cancel()

    return calls(lambda _: len(wheel) == OTHERS, schedule_and_cancel)


def _postpone() -> Work:
    timer = _busy_wheel().schedule(30.0, _ignore)
    return calls(lambda _: timer.deadline == 60.0, timer.postpone, 60.0)


def _fire() -> Work:
    wheel = TimerWheel(0.0)
    now = 0.0

    def schedule() -> State:
        for number in range(FIRED):
            wheel.schedule(now + number * 0.001, _ignore)
        return ()

    def fire() -> None:
        nonlocal now
        now += 1.0
        wheel.advance(now)

    return Work(run=fire, right=lambda _: len(wheel) == 0, calls=FIRED, before=schedule)


CASES: Final = (
    Case("timers: schedule and cancel, 10,000 others", _schedule_and_cancel),
    Case("timers: postpone, 10,000 others", _postpone),
    Case("timers: fire, 1,000 at once", _fire),
)
