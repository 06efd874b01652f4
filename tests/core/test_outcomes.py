"""Counting how tries end: what is whose fault, what a success ends, and both builds alike."""

import math
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import outcomes as compiled
from spooky._core import reasons
from spooky._core.pure import outcomes as pure
from spooky._core.shared import WORDS
from spooky.observe.segment import private_segment

BOTH = pytest.mark.parametrize("kernel", [compiled, pure], ids=["selected", "pure"])

ANSWERS = st.tuples(
    st.just("answered"),
    st.integers(100, 599) | st.sampled_from([499, 500, 501, 502, 504, 505]),
    st.floats(-5, 1e9) | st.sampled_from([0.0, 0.001, 1.0, math.ldexp(1, 50)]),
)
FAILURES = st.tuples(
    st.just("failed"), st.sampled_from(reasons.TABLE), st.sampled_from([0, 200, 404, 500, 503])
)
EVENTS = st.lists(ANSWERS | FAILURES, max_size=40)


class Counted:
    """A tally with its words."""

    def __init__(self, kernel: ModuleType, errors: int = 0, gateway_errors: int = 0) -> None:
        segment = private_segment()
        words, alarm = segment.words(1), segment.words(3)
        assert words is not None
        assert alarm is not None
        self.words, self.alarm = words, alarm
        self.tally = kernel.Tally(words, alarm, errors, gateway_errors)

    def __call__(self, *events: tuple[Any, ...]) -> list[int]:
        for name, *arguments in events:
            getattr(self.tally, name)(*arguments)
        return [self.words.load(at) for at in range(WORDS)]

    @property
    def alarms(self) -> int:
        return self.alarm.load(0)


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@given(events=EVENTS, errors=st.integers(0, 4), gateway_errors=st.integers(0, 4))
@settings(max_examples=200)
def test_both_builds_count_the_same(
    events: list[tuple[Any, ...]], errors: int, gateway_errors: int
) -> None:
    one, other = (Counted(kernel, errors, gateway_errors) for kernel in (compiled, pure))
    assert one(*events) == other(*events)
    assert one.alarms == other.alarms


@BOTH
def test_a_success_ends_a_row_of_errors_and_another_error_one_of_gateway_errors(
    kernel: ModuleType,
) -> None:
    counted = Counted(kernel)
    refused = ("failed", reasons.CONNECT_REFUSED)
    assert counted(refused, ("answered", 503, 1.0))[:4] == [2, 2, 2, 2]
    assert counted(("answered", 500, 1.0))[:4] == [3, 3, 3, 0]
    assert counted(refused, ("answered", 404, 1.024)) == [5, 4, 0, 0, 10 * 1024, 1, 0]


@BOTH
def test_the_alarm_is_raised_from_the_limit_on_until_a_success(kernel: ModuleType) -> None:
    counted = Counted(kernel, 4, 2)
    seen = []
    for event in (
        ("answered", 500, 1.0),
        ("answered", 503, 1.0),
        ("answered", 503, 1.0),  # Two gateway errors.
        ("answered", 500, 1.0),  # Four errors.
        ("answered", 200, 1.0),
        ("answered", 500, 1.0),
    ):
        counted(event)
        seen.append(counted.alarms)
    assert seen == [0, 0, 1, 2, 2, 2]
    unlimited = Counted(kernel)
    unlimited(*[("answered", 503, 1.0)] * 50)
    assert unlimited.alarms == 0


@BOTH
def test_what_is_not_the_backends_fault_is_not_held_against_it(kernel: ModuleType) -> None:
    outcomes = {reason: kernel.outcome_of_reason(reason) for reason in reasons.TABLE}
    for reason in (
        reasons.CLIENT_RESET, reasons.REQUEST_TIMEOUT, reasons.REMOVED, reasons.DRAIN_TIMEOUT,
        reasons.RESPONSE_TOO_LARGE, reasons.NO_BACKEND, reasons.INTERNAL_ERROR, reasons.COMPLETED,
    ):  # fmt: skip
        assert outcomes[reason] == kernel.UNCOUNTED
    assert Counted(kernel)(("failed", reasons.CLIENT_RESET)) == [0] * WORDS
    # What had been answered by then tells of the backend, but not how fast it is.
    refused = ("failed", reasons.CONNECT_REFUSED)
    given_up = ("failed", reasons.CLIENT_RESET, 200)
    assert Counted(kernel)(refused, given_up) == [2, 1, 0, 0, 0, 0, 0]
    assert Counted(kernel)(("failed", reasons.CLIENT_RESET, 500))[:4] == [1, 1, 1, 0]
    assert Counted(kernel)(("failed", reasons.UPSTREAM_RESET, 200))[:4] == [1, 1, 1, 1]
    for reason in (
        reasons.CONNECT_REFUSED, reasons.CONNECT_TIMEOUT, reasons.UPSTREAM_RESET,
        reasons.UPSTREAM_HEAD_TIMEOUT, reasons.UPSTREAM_CONNECTION_LOST,
    ):  # fmt: skip
        assert outcomes[reason] == kernel.GATEWAY_ERROR
    assert outcomes[reasons.APPLICATION_ERROR] == kernel.ERROR


@BOTH
def test_latency_units_are_a_logarithm(kernel: ModuleType) -> None:
    assert [kernel.latency_units(ms) for ms in (0.0, 0.001, 0.002, 0.004)] == [0, 0, 1024, 2048]
    for ms in (0.05, 1.0, 3.0, 777.0, 60_000.0):
        exact = math.log2(ms * 1000) * 1024
        assert exact - 100 <= kernel.latency_units(ms) <= exact + 1


@BOTH
def test_without_room_in_the_segment_nothing_is_counted(kernel: ModuleType) -> None:
    tally = kernel.Tally(None, None, 1, 1)
    tally.answered(200, 1.0)
    tally.answered(500, 1.0)
    tally.failed(reasons.CONNECT_REFUSED)
