"""When timers fire, in both builds."""

import gc
import itertools
import math
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from spooky import _core
from spooky._core import timers as compiled
from spooky._core.pure import timers as pure

BUILDS = [pure, compiled] if _core.COMPILED else [pure]
NOW = 1000.0


@pytest.fixture(params=BUILDS, ids=lambda build: "compiled" if build is compiled else "pure")
def timers(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def wheel(timers: ModuleType) -> Any:
    return timers.TimerWheel(NOW)


@pytest.fixture
def fired() -> list[str]:
    return []


@pytest.fixture
def say(fired: list[str]) -> Callable[[str], Callable[[], None]]:
    """Return a maker of callbacks that write a name down."""
    return lambda name: lambda: fired.append(name)


Say = Callable[[str], Callable[[], None]]


@pytest.mark.parametrize(
    "delay", [0.0, 1e-6, 0.004, 0.01, 0.63, 0.64, 0.65, 41.0, 2700.0, 1e5, 1e7, 1e9, 1e12, 1e15]
)
def test_a_timer_fires_at_its_deadline_and_not_before(
    wheel: Any, fired: list[str], say: Say, delay: float
) -> None:
    deadline = NOW + delay
    timer = wheel.schedule(deadline, say("it"))
    wheel.advance(math.nextafter(deadline, -math.inf))
    assert fired == []
    assert timer.active
    wheel.advance(deadline)
    assert fired == ["it"]
    assert not timer.active
    assert len(wheel) == 0
    wheel.advance(deadline + 1e6)
    assert fired == ["it"]


def test_timers_fire_by_deadline_then_in_the_order_scheduled(
    wheel: Any, fired: list[str], say: Say
) -> None:
    for name, delay in (("c", 50.0), ("b", 0.002), ("a", 0.001), ("d", 50.0), ("e", 7000.0)):
        wheel.schedule(NOW + delay, say(name))
    wheel.advance(NOW + 10_000.0)
    assert fired == ["a", "b", "c", "d", "e"]


def test_a_past_deadline_fires_at_the_next_advance(wheel: Any, fired: list[str], say: Say) -> None:
    wheel.advance(NOW + 5.0)
    wheel.schedule(NOW + 1.0, say("late"))
    assert fired == []
    assert wheel.next_deadline() <= NOW + 5.0
    wheel.advance(NOW + 5.0)
    assert fired == ["late"]


def test_infinity_never_fires_but_at_infinity(wheel: Any, fired: list[str], say: Say) -> None:
    wheel.schedule(math.inf, say("never"))
    wheel.advance(NOW + 1e15)
    assert fired == []
    assert len(wheel) == 1
    wheel.advance(math.inf)
    assert fired == ["never"]


def test_the_clock_may_stand_still_or_step_back(wheel: Any, fired: list[str], say: Say) -> None:
    wheel.advance(NOW + 10.0)
    wheel.schedule(NOW + 9.0, say("it"))
    wheel.advance(NOW + 8.0)
    assert fired == []
    wheel.advance(NOW + 9.0)
    assert fired == ["it"]


# --- cancel and postpone ----------------------------------------------------------------------
def test_a_cancelled_timer_never_fires_and_drops_its_callback(wheel: Any) -> None:
    class Owner:
        def on_timeout(self) -> None:
            raise AssertionError

    owner = Owner()
    gone = weakref.ref(owner)
    timer = wheel.schedule(NOW + 1.0, owner.on_timeout)
    del owner
    assert gone() is not None
    timer.cancel()
    assert gone() is None  # At once, not when the collector runs.
    timer.cancel()
    assert not timer.active
    assert len(wheel) == 0
    assert wheel.next_deadline() is None
    wheel.advance(NOW + 2.0)


def test_a_fired_timer_drops_its_callback(wheel: Any) -> None:
    class Callback:
        def __call__(self) -> None:
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    timer = wheel.schedule(NOW, callback)
    del callback
    wheel.advance(NOW)
    assert gone() is None
    assert not timer.active


def test_a_dropped_wheel_is_collected_with_what_its_timers_hold(timers: ModuleType) -> None:
    class Owner:
        def __init__(self) -> None:
            self.wheel = timers.TimerWheel(NOW)
            self.timer = self.wheel.schedule(NOW + 60.0, self.on_timeout)

        def on_timeout(self) -> None:
            pass

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None


def test_a_postponed_timer_fires_at_the_new_deadline(
    wheel: Any, fired: list[str], say: Say
) -> None:
    timer = wheel.schedule(NOW + 1.0, say("it"))
    timer.postpone(NOW + 300.0)
    assert timer.deadline == NOW + 300.0
    wheel.advance(NOW + 299.9)
    assert fired == []
    timer.postpone(NOW + 5000.0)
    timer.postpone(NOW + 299.95)  # Earlier again, than both where it was and where it is.
    wheel.advance(NOW + 299.96)
    assert fired == ["it"]


def test_a_timer_drawn_in_fires_early(wheel: Any, fired: list[str], say: Say) -> None:
    timer = wheel.schedule(NOW + 500.0, say("it"))
    timer.postpone(NOW + 0.5)
    assert wheel.next_deadline() <= NOW + 0.5
    wheel.advance(NOW + 0.5)
    assert fired == ["it"]
    wheel.advance(NOW + 500.0)
    assert fired == ["it"]


def test_postponing_reactivates_nothing(wheel: Any, fired: list[str], say: Say) -> None:
    cancelled, done = wheel.schedule(NOW + 1.0, say("no")), wheel.schedule(NOW, say("done"))
    cancelled.cancel()
    wheel.advance(NOW)
    for timer in (cancelled, done):
        timer.postpone(NOW + 0.5)
        assert not timer.active
    wheel.advance(NOW + 9.0)
    assert fired == ["done"]
    assert len(wheel) == 0


# --- from within callbacks --------------------------------------------------------------------
def test_what_a_callback_schedules_waits_for_the_next_advance(wheel: Any, fired: list[str]) -> None:
    def again() -> None:
        fired.append("again")
        wheel.schedule(NOW, again)

    wheel.schedule(NOW, again)
    wheel.advance(NOW)
    assert fired == ["again"]
    wheel.advance(NOW)
    assert fired == ["again", "again"]
    assert len(wheel) == 1


def test_a_callback_may_cancel_or_postpone_what_is_due_with_it(
    wheel: Any, fired: list[str], say: Say
) -> None:
    def first() -> None:
        fired.append("first")
        cancelled.cancel()
        postponed.postpone(NOW + 30.0)
        later.postpone(NOW + 3.5)  # Still due.
        earlier.postpone(NOW + 0.5)

    wheel.schedule(NOW + 1.0, first)
    cancelled = wheel.schedule(NOW + 2.0, say("cancelled"))
    postponed = wheel.schedule(NOW + 2.0, say("postponed"))
    later = wheel.schedule(NOW + 2.0, say("later"))
    earlier = wheel.schedule(NOW + 2.0, say("earlier"))
    wheel.schedule(NOW + 60.0, say("last"))
    wheel.advance(NOW + 4.0)
    assert fired == ["first", "later", "earlier"]
    assert len(wheel) == 2
    wheel.advance(NOW + 60.0)
    assert fired == ["first", "later", "earlier", "postponed", "last"]


def test_a_callback_may_cancel_and_postpone_its_own_timer(wheel: Any, fired: list[str]) -> None:
    def callback() -> None:
        fired.append("it")
        timer.cancel()
        timer.postpone(NOW + 1.0)

    timer = wheel.schedule(NOW, callback)
    wheel.advance(NOW)
    wheel.advance(NOW + 2.0)
    assert fired == ["it"]
    assert len(wheel) == 0


def test_an_exception_leaves_the_rest_for_the_next_advance(
    wheel: Any, fired: list[str], say: Say
) -> None:
    def fail() -> None:
        raise OSError("callback")

    wheel.schedule(NOW + 1.0, say("a"))
    wheel.schedule(NOW + 2.0, fail)
    third = wheel.schedule(NOW + 3.0, say("c"))
    fourth = wheel.schedule(NOW + 4.0, say("d"))
    with pytest.raises(OSError, match="callback"):
        wheel.advance(NOW + 10.0)
    assert fired == ["a"]
    assert third.active
    assert len(wheel) == 2
    assert wheel.next_deadline() == NOW + 3.0
    fourth.postpone(NOW + 2.5)
    third.postpone(NOW + 99.0)
    assert wheel.next_deadline() == NOW + 2.5
    wheel.advance(NOW + 10.0)
    assert fired == ["a", "d"]
    wheel.advance(NOW + 99.0)
    assert fired == ["a", "d", "c"]


def test_advance_does_not_nest(wheel: Any, fired: list[str], say: Say) -> None:
    wheel.schedule(NOW, lambda: wheel.advance(NOW + 9.0))
    wheel.schedule(NOW, say("next"))
    with pytest.raises(RuntimeError, match="advance"):
        wheel.advance(NOW)
    wheel.advance(NOW)
    assert fired == ["next"]


# --- arguments and bounds ---------------------------------------------------------------------
def test_times_must_be_numbers(timers: ModuleType, wheel: Any, say: Say) -> None:
    timer = wheel.schedule(NOW, say("it"))
    calls: list[Callable[[], object]] = [
        lambda: wheel.schedule(math.nan, say("nan")),
        lambda: wheel.advance(math.nan),
        lambda: timer.postpone(math.nan),
        lambda: timers.TimerWheel(math.nan),
        lambda: timers.TimerWheel(math.inf),
        lambda: timers.TimerWheel(0.0, 0.0),
        lambda: timers.TimerWheel(0.0, -1.0),
        lambda: timers.TimerWheel(0.0, math.nan),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"number|positive"):
            call()
    assert len(wheel) == 1


def test_a_huge_jump_touches_each_timer_a_bounded_number_of_times(timers: ModuleType) -> None:
    """A day in one step at a microsecond's resolution is 86 billion ticks."""
    fired = []
    wheel = timers.TimerWheel(0.0, 1e-6)
    for index in range(1000):
        wheel.schedule(index * 60.0, lambda: fired.append(0))
    wheel.advance(86_400.0)
    assert len(fired) == 1000


def test_following_next_deadline_fires_everything_on_time(timers: ModuleType) -> None:
    """Whoever sleeps until ``next_deadline`` never wakes too late, and not too often."""
    now, wakes = 0.0, 0
    late: list[float] = []
    wheel = timers.TimerWheel(now, 0.01)
    delays = [0.0003 * index * index for index in range(400)]
    for delay in delays:
        wheel.schedule(delay, lambda delay=delay: late.append(now - delay))
    while (deadline := wheel.next_deadline()) is not None:
        assert deadline >= now
        now, wakes = deadline, wakes + 1
        wheel.advance(now)
    assert len(late) == len(delays)
    assert max(late) == 0.0
    assert wakes <= 2 * len(delays)


def test_nobody_is_woken_for_a_cancelled_timer(timers: ModuleType, say: Say) -> None:
    wheel = timers.TimerWheel(NOW)
    wheel.schedule(NOW + 100.0, say("far"))
    wheel.schedule(NOW + 1.0, say("near")).cancel()
    assert wheel.next_deadline() == NOW + 100.0


def test_cancelling_some_timers_of_a_moment_leaves_the_others(
    wheel: Any, fired: list[str], say: Say
) -> None:
    """Whichever two of four go, in whichever order."""
    for one, other in itertools.permutations(range(4), 2):
        fired.clear()
        four = [wheel.schedule(NOW + 1.0, say(str(number))) for number in range(4)]
        four[one].cancel()
        four[other].cancel()
        wheel.advance(NOW + 1.0)
        assert fired == [str(number) for number in range(4) if number not in (one, other)]


def test_a_timer_whose_time_comes_close_is_not_overlooked(timers: ModuleType, say: Say) -> None:
    """Level 1 holds it until its stretch of 64 ticks begins; then it must precede later ones."""
    wheel = timers.TimerWheel(0.0, 0.01)
    wheel.schedule(0.70, say("first"))
    wheel.advance(0.65)
    wheel.schedule(0.85, say("second"))
    assert wheel.next_deadline() <= 0.70


def test_cancelled_timers_take_no_room(timers: ModuleType) -> None:
    """A request timeout is cancelled long before it is due, ten thousand times a second."""
    wheel = timers.TimerWheel(NOW)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10_000):
        wheel.schedule(NOW + 30.0, gc.collect).cancel()
    gc.collect()
    assert len(gc.get_objects()) - before < 500
