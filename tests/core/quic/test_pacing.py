"""Pacing (RFC 9002 section 7.7)."""

import pytest

from spooky._core.quic.pacer import Pacer
from tests.core.quic.flight import SIZE, Flight

WINDOW, RTT = 600_000, 0.1


def pacer(*, slow_start: bool = False, rtt: float = RTT) -> Pacer:
    """Return a pacer at the time 0."""
    result = Pacer()
    result.set_rate(WINDOW, rtt, slow_start, SIZE, 0.0)
    return result


def sent_within(subject: Pacer, seconds: float) -> int:
    """Return the bytes that a sender with enough data sends, waiting for each deadline."""
    total, now = 0, 0.0
    while now <= seconds:
        while subject.room(now) >= SIZE:
            subject.on_sent(SIZE, now)
            total += SIZE
        now = subject.deadline(SIZE, now)
    return total


def test_a_burst_of_sixteen_datagrams_may_leave_at_once() -> None:
    subject = pacer()
    assert subject.room(0.0) == 16 * SIZE
    for _ in range(16):
        assert subject.deadline(SIZE, 0.0) == 0.0
        subject.on_sent(SIZE, 0.0)
    assert subject.room(0.0) == 0
    assert subject.deadline(SIZE, 0.0) > 0.0


@pytest.mark.parametrize(("slow_start", "gain"), [(False, 1.25), (True, 2.0)])
def test_a_window_is_spread_over_a_round_trip(slow_start: bool, gain: float) -> None:
    sent = sent_within(pacer(slow_start=slow_start), 10 * RTT)
    assert sent == pytest.approx(10 * WINDOW * gain, abs=20 * SIZE)


def test_a_fast_path_may_send_what_two_ticks_of_a_timer_take() -> None:
    subject = pacer(rtt=0.001)
    assert subject.room(0.0) == pytest.approx(WINDOW * 1.25 * 2)
    assert sent_within(subject, 0.1) == pytest.approx(WINDOW * 125, rel=0.05)


def test_a_rest_does_not_add_up_to_a_larger_burst() -> None:
    subject = pacer()
    subject.on_sent(SIZE, 0.0)
    assert subject.room(1000.0) == 16 * SIZE


def test_a_debt_is_waited_for() -> None:
    subject = pacer()
    subject.on_sent(100 * SIZE, 0.0)
    assert subject.room(0.0) == 0
    deadline = subject.deadline(SIZE, 0.0)
    assert deadline == pytest.approx(85 * SIZE / (WINDOW * 1.25 / RTT))
    assert subject.room(deadline + 1e-9) >= SIZE


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    subject = pacer()
    subject.on_sent(16 * SIZE, 5.0)
    assert subject.room(5.0) == subject.room(4.0) == 0


def test_a_path_without_delay_is_not_held_back() -> None:
    subject = pacer(rtt=0.0)
    assert subject.room(0.0) >= WINDOW


def test_sending_is_limited_by_window_and_pacer() -> None:
    flight = Flight()
    assert flight.recovery.sending_room(flight.now) == 12_000
    flight.send(10)
    assert flight.recovery.sending_room(flight.now) == 0
    assert flight.recovery.congestion_room() == 0
    assert flight.recovery.pacing_deadline(flight.now) == 0.0
    flight.wait(0.1).ack(*range(10))
    flight.send(18)
    assert flight.recovery.congestion_room() == 2 * SIZE
    assert flight.recovery.sending_room(flight.now) == 0
    deadline = flight.recovery.pacing_deadline(flight.now)
    # In debt by six datagrams, at twice the window of 24,000 bytes a round trip.
    assert deadline - flight.now == pytest.approx(7 * SIZE / 480_000, rel=0.01)
    assert flight.recovery.sending_room(deadline + 0.001) >= SIZE


def test_the_rate_follows_the_window() -> None:
    flight = Flight()
    for _ in range(6):
        flight.round_trip(0.1)
    # Twice the window of 768,000 bytes a round trip, for 2 ms.
    assert flight.recovery.pacer.room(flight.now + 10) == pytest.approx(
        2 * 768_000 * 0.02, rel=0.01
    )


def test_what_is_not_in_flight_is_not_paced() -> None:
    flight = Flight()
    flight.send(100, in_flight=False, ack_eliciting=False)
    assert flight.recovery.sending_room(flight.now) == 12_000
