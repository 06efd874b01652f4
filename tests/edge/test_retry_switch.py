"""Retry that switches itself on in a flood, and off when it is over (attack 13)."""

import os
from collections.abc import Callable

import pytest

from spooky.edge.limits import ConnectionCap
from spooky.edge.retry_switch import CALM_SECONDS, WINDOW_SECONDS, RetrySwitch
from spooky.observe.counters import Counters

MAXIMUM = 100
RATE = 50.0


class Clock:
    """A runtime whose time a test makes."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def schedule(self, deadline: float, call: Callable[[], None]) -> "Clock":
        self._due.append((deadline, call))
        return self

    def cancel(self) -> None:
        self._due.clear()

    def go_on(self, seconds: float) -> None:
        end = self.time + seconds
        while self._due and self._due[0][0] <= end:
            self.time, call = self._due.pop(0)
            call()
        self.time = end


class Gate:
    """A switch, and what it goes by."""

    def __init__(self, other: "Gate | None" = None) -> None:
        self.clock = other.clock if other is not None else Clock()
        self.counters = other.counters if other is not None else Counters()
        self.cap = ConnectionCap(self.counters, "quic", MAXIMUM, MAXIMUM)
        self.switch = RetrySwitch(self.clock, self.cap, self.counters)  # type: ignore[arg-type]

    def attempt(self, count: int = 1) -> bool:
        for _ in range(count):
            self.switch.note_attempt(os.urandom(8), self.clock.time, RATE)
        return self.switch.is_on

    @property
    def gauge(self) -> int:
        return self.counters.values[self.counters.slot("quic_retry_active")]


def test_half_open_connections_turn_it_on_and_their_end_turns_it_off() -> None:
    gate = Gate()
    for _ in range(24):
        assert gate.cap.open() is None
    assert not gate.attempt()
    assert gate.cap.open() is None
    assert gate.attempt()
    assert gate.gauge == 1
    for _ in range(14):
        gate.cap.closed(was_established=False)
    gate.clock.go_on(10 * CALM_SECONDS)
    assert gate.switch.is_on, "between the two thresholds all stays as it is"
    for _ in range(2):
        gate.cap.closed(was_established=False)
    gate.clock.go_on(CALM_SECONDS - 1)
    assert gate.switch.is_on
    gate.clock.go_on(2 * WINDOW_SECONDS)
    assert not gate.switch.is_on
    assert gate.gauge == 0
    gate.clock.go_on(100)


def test_attempts_turn_it_on_whatever_becomes_of_them() -> None:
    gate = Gate()
    assert not gate.attempt(int(RATE / 2))
    gate.clock.go_on(WINDOW_SECONDS)
    assert not gate.attempt(int(RATE / 2)), "so many may come again"
    assert gate.attempt()
    for _ in range(20):
        gate.clock.go_on(WINDOW_SECONDS)
        assert gate.attempt(int(RATE / 3)), "a flood that gets nothing is still one"
    gate.clock.go_on(CALM_SECONDS + 2 * WINDOW_SECONDS)
    assert not gate.switch.is_on


def test_attempts_count_over_all_workers_and_listeners() -> None:
    """As many share a flood, each sees little of it; they turn it on, and none turns it off."""
    first = Gate()
    gates = [first, *(Gate(first) for _ in range(7))]
    share = int(RATE / len(gates))
    for _ in range(3):
        for gate in gates:
            gate.attempt(share)
        first.clock.go_on(WINDOW_SECONDS)
    assert any(gate.switch.is_on for gate in gates)
    for _ in range(20):
        for _ in range(share):
            for gate in gates:
                gate.attempt()
        first.clock.go_on(WINDOW_SECONDS)
    assert all(gate.switch.is_on for gate in gates)
    first.clock.go_on(CALM_SECONDS + 2 * WINDOW_SECONDS)
    assert not any(gate.switch.is_on for gate in gates)


@pytest.mark.parametrize("times", [1, 2])
def test_it_ends_with_its_listener(times: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    gate = Gate()
    gate.attempt(100)
    for _ in range(times):
        gate.switch.close()
    assert gate.gauge == 0
    assert "few handshakes" not in caplog.text, "that is not why"
    gate.clock.go_on(100)


def test_a_first_packet_that_comes_again_is_no_other_attempt() -> None:
    gate = Gate()
    for _ in range(10 * int(RATE)):
        assert not gate.switch.note_attempt(b"the same", gate.clock.time, RATE)


def test_the_gauge_counts_listeners() -> None:
    one = Gate()
    other = Gate(one)
    one.attempt(2 * int(RATE))
    other.attempt()
    assert one.gauge == 2
    other.switch.close()
    assert one.gauge == 1
