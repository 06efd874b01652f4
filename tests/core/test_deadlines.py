"""How long a client is waited for that is held to a rate, against a model of its allowance."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.deadlines import Deadlines
from spooky._core.timers import TimerWheel
from spooky._core.turns import Turns
from tests.support.loop import Loop

RATE = 100.0
GRACE = 10.0
IDLE = 4.0
TICK = 0.01
SLACK = 0.05
"""Timers fire at the end of their tick, and the allowance is a sum of rounded numbers."""


class Waiting(Turns):
    """A runtime, and the owner of deadlines.

    Attributes:
        ended: Why the client was given up, and when; nothing happens after that.
        unseen: Bytes that moved since it was asked.
    """

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__(Loop(), lambda: self.time, TICK)
        self._wheel = TimerWheel(0.0, TICK)
        self.deadlines = Deadlines(self, self)
        self.ended: tuple[Any, float] | None = None
        self.unseen = 0

    def report(self, flushable: Any) -> None:
        raise AssertionError("nothing is flushed")

    def on_deadline(self, reason: Any) -> None:
        self.ended = reason, self.time

    def client_moved(self) -> int:
        moved, self.unseen = self.unseen, 0
        return moved

    def pass_time(self, seconds: float) -> None:
        """Let time pass, by the ticks at which timers fire."""
        end = self.time + seconds
        while (due := self._wheel.next_deadline()) is not None and due <= end:
            self.time = max(self.time, due)
            self._wheel.advance(self.time)
            self.time += TICK / 10
        self.time = max(self.time, end)
        self._wheel.advance(self.time)

    def hold(self, rate: float = RATE) -> None:
        self.deadlines.hold_to_rate(rate, GRACE, reasons.CLIENT_BODY_SLOW)

    def expect(self, moved: int) -> None:
        self.deadlines.expect_movement(IDLE, reasons.CLIENT_BODY_TIMEOUT, moved)


PIECES = st.lists(
    st.tuples(st.booleans(), st.floats(0.0, IDLE - 0.1), st.integers(0, 900)), min_size=1
)


@given(PIECES)
def test_time_that_a_client_is_waited_for_is_charged_and_each_byte_credited(
    pieces: list[tuple[bool, float, int]],
) -> None:
    waiting = Waiting()
    waiting.hold()
    allowance = GRACE
    for is_waited_for, seconds, size in pieces:
        if is_waited_for:
            waiting.expect(0)
        else:
            waiting.deadlines.client_acted()
        began = waiting.time
        waiting.pass_time(seconds)
        if is_waited_for and allowance <= seconds:
            if waiting.ended is None:
                assert allowance >= seconds - SLACK, "it is given up when nothing is left"
                return
            reason, at = waiting.ended
            assert reason is reasons.CLIENT_BODY_SLOW
            assert at - began == pytest.approx(max(allowance, 0.0), abs=SLACK)
            return
        assert waiting.ended is None
        if is_waited_for:
            allowance -= waiting.time - began
            waiting.expect(size)
            waiting.deadlines.client_acted()
            allowance = min(GRACE, allowance + size / RATE)
        assert waiting.deadlines.allowance == pytest.approx(allowance, abs=1e-6)


@given(st.lists(st.floats(0.0, IDLE - 0.1), min_size=1))
def test_who_is_as_fast_as_the_rate_is_never_given_up(pauses: list[float]) -> None:
    waiting = Waiting()
    waiting.hold()
    waiting.expect(0)
    for pause in pauses:
        waiting.pass_time(pause)
        assert waiting.ended is None
        waiting.expect(int(RATE * (pause + TICK)) + 1)


@given(st.integers(1, int(RATE * 0.8)), st.floats(0.05, 1.0))
def test_who_is_slower_is_given_up_however_evenly_it_drips(rate: int, pause: float) -> None:
    waiting = Waiting()
    waiting.hold()
    waiting.expect(0)
    carried = 0.0
    while waiting.ended is None:
        waiting.pass_time(pause)
        carried += rate * pause
        size, carried = int(carried), carried - int(carried)
        if waiting.ended is None:
            waiting.expect(size)
        assert waiting.time <= GRACE / (1 - rate / RATE) + 2 * pause + SLACK
    assert waiting.ended[0] is reasons.CLIENT_BODY_SLOW


def test_who_moves_nothing_is_given_up_for_that() -> None:
    waiting = Waiting()
    waiting.hold()
    waiting.expect(1_000)
    waiting.pass_time(2 * IDLE)
    assert waiting.ended is not None
    assert waiting.ended[0] is reasons.CLIENT_BODY_TIMEOUT
    assert waiting.ended[1] == pytest.approx(IDLE, abs=SLACK)


def test_what_moved_unseen_counts_when_the_time_is_over() -> None:
    """A stream that drains tells nobody until there is room."""
    waiting = Waiting()
    waiting.hold()
    waiting.expect(0)
    for _ in range(100):
        waiting.unseen += int(RATE)
        waiting.pass_time(1.0)
    assert waiting.ended is None
    for _ in range(30):
        waiting.unseen += int(RATE / 4)
        waiting.pass_time(1.0)
    assert waiting.ended is not None
    assert waiting.ended[0] is reasons.CLIENT_BODY_SLOW


@pytest.mark.parametrize("rate", [0.0, 1e-9])
def test_without_a_rate_who_moves_a_byte_now_and_then_is_waited_for_without_end(
    rate: float,
) -> None:
    waiting = Waiting()
    waiting.hold(rate)
    waiting.expect(0)
    for _ in range(1_000):
        waiting.pass_time(IDLE - 0.1)
        waiting.expect(1)
    assert waiting.ended is None


def test_another_direction_has_an_allowance_of_its_own() -> None:
    waiting = Waiting()
    waiting.hold()
    waiting.expect(0)
    waiting.pass_time(IDLE - 0.5)
    waiting.deadlines.client_acted()
    assert waiting.deadlines.allowance == pytest.approx(GRACE - IDLE + 0.5)
    waiting.hold()
    assert waiting.deadlines.allowance == pytest.approx(GRACE - IDLE + 0.5)
    waiting.deadlines.hold_to_rate(RATE, GRACE, reasons.CLIENT_READ_SLOW)
    assert waiting.deadlines.allowance == GRACE
