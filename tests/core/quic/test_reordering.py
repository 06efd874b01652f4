"""Packets that are only late: RFC 9002 section 6.1, RFC 8985 section 6.2, RFC 9438 section 4.9."""

import pytest

from tests.core.quic.flight import APPLICATION, NEVER, SIZE, Flight

BOTH = pytest.mark.parametrize("algorithm", ["reno", "cubic"])
RTT = 0.1
FIRST_THRESHOLDS = (3, 9 / 8)


def thresholds(flight: Flight) -> tuple[int, float]:
    reordering = flight.recovery.reordering
    return reordering.packet_threshold, reordering.time_threshold


def overtaken(flight: Flight, distance: int) -> int:
    """Have a packet declared lost by the ACK of one so many numbers later; return its number."""
    late, *others = flight.send(distance + 1)
    flight.wait(RTT).ack(*others)
    assert flight.lost_numbers[-1:] == [late]
    return late


@BOTH
def test_a_packet_that_was_only_late_takes_the_reduction_back(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    flight.round_trip(RTT)
    late, *others = flight.fill()
    flight.wait(RTT).ack(*others)
    controller = flight.recovery.congestion
    assert flight.lost_numbers == [late]
    assert flight.window < 24_000
    flight.wait(0.01).ack(late)
    assert flight.window == 24_000
    assert controller.in_slow_start()
    assert controller.recovery_start == -NEVER
    flight.round_trip(RTT)
    assert flight.window > 24_000


@BOTH
def test_what_grew_since_the_reduction_stays(algorithm: str) -> None:
    """A window that is larger by now than before is not made smaller."""
    flight = Flight(algorithm=algorithm)
    late = overtaken(flight, 3)
    for _ in range(200):
        numbers = flight.fill()
        flight.wait(0.0001).ack(*numbers)
    grown = flight.window
    assert grown > 12_000
    flight.ack(late)
    assert flight.window == grown


def test_cubic_goes_on_where_it_was() -> None:
    """RFC 9438 section 4.9.2: the curve and Reno's estimate too."""
    straight, disturbed = Flight(algorithm="cubic"), Flight(algorithm="cubic")
    for flight in (straight, disturbed):
        flight.round_trip(RTT)
        _, *others = flight.fill()
        flight.wait(RTT).ack(*others)
        flight.wait(3 * RTT)
        for _ in range(5):
            flight.round_trip(RTT)
    for flight in (straight, disturbed):
        late, *others = flight.fill()
        if flight is disturbed:
            flight.wait(RTT).ack(*others)
            flight.ack(late)
        else:
            flight.wait(RTT).ack(late, *others)
    for _ in range(20):
        for flight in (straight, disturbed):
            flight.round_trip(RTT)
    # What was acknowledged while the packet counted as lost did not grow the window.
    assert disturbed.window == pytest.approx(straight.window, abs=2 * SIZE)


@BOTH
def test_one_that_is_really_lost_keeps_the_reduction(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    late, lost, *others = flight.send(8)
    flight.wait(RTT).ack(*others)
    assert flight.lost_numbers == [late, lost]
    reduced = flight.window
    flight.ack(late)
    assert flight.window == reduced


def test_a_mark_keeps_the_reduction() -> None:
    """RFC 9002 section 7.1: a CE mark says that there is congestion, whatever was lost."""
    flight = Flight()
    late, *others = flight.send(8, ecn=2)
    flight.wait(RTT).ack(*others)
    flight.ecn(6, ce=1)
    reduced = flight.window
    flight.ack(late)
    assert flight.window == reduced < 12_000


def test_persistent_congestion_is_not_taken_back() -> None:
    flight = Flight()
    flight.round_trip(RTT)
    (first,) = flight.wait(RTT).send()
    flight.wait(5.0)
    second, *others = flight.send(5)
    flight.wait(RTT).ack(*others)
    assert flight.lost_numbers == [first, second]
    assert flight.window == 2 * SIZE
    flight.ack(first, second)
    assert flight.window <= 4 * SIZE


def test_after_more_losses_than_are_watched_none_is_forgiven() -> None:
    flight = Flight()
    while flight.window < 200 * SIZE:
        flight.round_trip(RTT)
    numbers = flight.send(150)
    flight.wait(RTT).ack(*numbers[140:])
    assert len(flight.lost) == 140
    reduced = flight.window
    flight.ack(*numbers[:140])
    assert flight.window == reduced


def test_the_packet_threshold_rises_to_what_would_have_waited() -> None:
    flight = Flight()
    flight.ack(overtaken(flight, 7))
    assert flight.recovery.reordering.packet_threshold == 8
    late, *others = flight.send(8)
    flight.ack(*others)
    assert flight.lost_numbers[-1] != late
    (following,) = flight.send()
    flight.ack(following)
    assert flight.lost_numbers[-1] == late


def test_the_packet_threshold_has_a_limit() -> None:
    flight = Flight()
    flight.ack(overtaken(flight, 1000))
    assert flight.recovery.reordering.packet_threshold == 300


def test_the_time_threshold_rises_to_two_round_trips_at_most() -> None:
    """RFC 8985 section 6.2."""
    flight = Flight()
    for _ in range(60):
        numbers = flight.send()
        flight.wait(RTT).ack(*numbers)
    for waited, expected in ((0.5, 1.5), (0.9, 1.9), (1.4, 2.0)):
        late, other = flight.send(2)
        flight.wait(RTT).ack(other)
        flight.expire()
        assert flight.lost_numbers[-1] == late
        flight.now = flight.lost[-1].time_sent + RTT * (1 + waited)
        flight.ack(late)
        assert flight.recovery.reordering.time_threshold == pytest.approx(expected, rel=0.01)


def test_after_sixteen_real_losses_the_thresholds_are_the_first_again() -> None:
    """RFC 8985 section 6.2."""
    flight = Flight()
    flight.ack(overtaken(flight, 5))
    raised = thresholds(flight)
    assert raised > FIRST_THRESHOLDS
    flight.wait(RTT)
    for count in range(18):
        assert (thresholds(flight) == raised) == (count < 17), count
        overtaken(flight, 6)
        flight.wait(10 * RTT)
    assert thresholds(flight) == FIRST_THRESHOLDS


def test_what_comes_after_all_hope_changes_nothing() -> None:
    flight = Flight()
    late = overtaken(flight, 3)
    reduced = flight.window
    flight.wait(3 * RTT)
    numbers = flight.send()
    flight.wait(1.1 * RTT).ack(*numbers)
    flight.ack(late)
    assert thresholds(flight) == FIRST_THRESHOLDS
    assert flight.window < reduced + 2 * SIZE


def test_a_path_without_delay_has_thresholds_too() -> None:
    flight = Flight()
    late, *others = flight.send(5)
    flight.ack(*others)
    assert flight.lost_numbers == [late]
    flight.ack(late)
    assert thresholds(flight) == (5, 9 / 8)


def test_another_path_begins_with_the_first_thresholds() -> None:
    """RFC 9000 section 9.4; and what was lost on the old one says nothing of the new."""
    flight = Flight()
    late = overtaken(flight, 5)
    flight.recovery.reset_for_path(flight.now)
    flight.ack(late)
    assert thresholds(flight) == FIRST_THRESHOLDS


def test_other_spaces_are_not_watched() -> None:
    """Their numbers are others, and their packets few."""
    flight = Flight(confirmed=False)
    late, *others = flight.send(5, epoch=0)
    flight.wait(RTT).ack(*others, epoch=0)
    assert flight.lost_numbers == [late]
    numbers = flight.send(5, epoch=APPLICATION)
    flight.wait(RTT).ack(*numbers)
    flight.ack(late, epoch=0)
    assert thresholds(flight) == FIRST_THRESHOLDS
