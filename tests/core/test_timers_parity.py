"""The compiled wheel and its twin fire the same timers in the same order."""

import math
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import timers as compiled
from spooky._core.pure import timers as pure

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

# Close and far, on and between ticks, in the past, at level boundaries of the wheel, and nowhere.
DELAYS = (
    st.integers(-5, 5).map(lambda n: n / 200)
    | st.integers(0, 200).map(lambda n: n / 100)
    | st.integers(0, 500).map(lambda n: n / 10)
    | st.sampled_from([0.63, 0.64, 40.95, 40.96, 2621.43, 2621.44, 167772.16, 1e9, math.inf])
)
WHICH = st.integers(0, 12)
SCHEDULES = st.tuples(st.just("schedule"), WHICH, DELAYS)
OPERATIONS = st.one_of(
    SCHEDULES,
    st.tuples(st.just("cancel"), WHICH, DELAYS),
    st.tuples(st.just("postpone"), WHICH, DELAYS),
    st.tuples(st.just("advance"), WHICH, DELAYS.filter(math.isfinite)),
)
# What the callback of a timer does, by the timer's number: operations or an exception.
REACTIONS = st.dictionaries(WHICH, st.just("raise") | st.lists(OPERATIONS, max_size=3), max_size=8)


class Run:
    """One wheel under a script, and what came of it."""

    def __init__(self, build: ModuleType, reactions: dict[int, object]) -> None:
        self.now = 0.0
        self.wheel = build.TimerWheel(0.0, 0.01)
        self.reactions = reactions
        self.timers: list[object] = []
        self.fired: list[tuple[int, float]] = []

    def do(self, operation: tuple[str, int, float]) -> None:
        name, which, delay = operation
        if name == "schedule":
            number = len(self.timers)
            callback = lambda: self.react(number)  # noqa: E731 - the number is bound by the call
            self.timers.append(self.wheel.schedule(self.now + delay, callback))
        elif name == "advance":
            self.now += max(delay, -0.02)
            self.advance()
        elif self.timers:
            timer = self.timers[which % len(self.timers)]
            timer.cancel() if name == "cancel" else timer.postpone(self.now + delay)

    def advance(self) -> None:
        try:
            self.wheel.advance(self.now)
        except (OSError, RuntimeError) as error:
            self.fired.append((-1, float(len(str(error)))))

    def react(self, number: int) -> None:
        self.fired.append((number, self.now))
        reaction = self.reactions.get(number, [])
        if reaction == "raise":
            raise OSError("callback")
        for operation in reaction:
            self.do(operation)

    def state(self) -> object:
        alive = [(timer.active, timer.deadline) for timer in self.timers]
        return (self.fired, len(self.wheel), alive)

    def check_next_deadline(self) -> None:
        deadlines = [timer.deadline for timer in self.timers if timer.active]
        told = self.wheel.next_deadline()
        if deadlines:
            assert told is not None
            assert told <= min(deadlines)
        else:
            assert told is None


@settings(max_examples=400)
@given(
    timers=st.lists(SCHEDULES, max_size=8),
    script=st.lists(OPERATIONS, max_size=40),
    reactions=REACTIONS,
)
def test_both_builds_fire_the_same(
    timers: list[tuple[str, int, float]],
    script: list[tuple[str, int, float]],
    reactions: dict[int, object],
) -> None:
    runs = [Run(compiled, reactions), Run(pure, reactions)]
    for operation in timers + script:
        for run in runs:
            run.do(operation)
            run.check_next_deadline()
        assert runs[0].state() == runs[1].state()
    for run in runs:  # Let all that is left happen.
        for _ in range(3):
            run.now += 1e10
            run.advance()
    assert runs[0].state() == runs[1].state()
