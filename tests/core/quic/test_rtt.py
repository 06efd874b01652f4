"""Round-trip time samples (RFC 9002 section 5)."""

import pytest

from tests.core.quic.flight import APPLICATION, HANDSHAKE, INITIAL, NEVER, Flight

TICK = 1e-9


def near(seconds: float) -> object:
    """Return what a time equals but for rounding."""
    return pytest.approx(seconds, abs=TICK)


def sample(flight: Flight, rtt: float, delay: float = 0.0, epoch: int = APPLICATION) -> None:
    """Send a packet, and receive its ACK."""
    (number,) = flight.send(epoch=epoch)
    flight.wait(rtt).ack(number, epoch=epoch, delay=delay)


def test_6_2_2_the_initial_rtt() -> None:
    recovery = Flight().recovery
    assert (recovery.smoothed_rtt, recovery.rttvar) == (0.333, 0.1665)
    assert recovery.min_rtt == NEVER


def test_5_3_the_first_sample() -> None:
    flight = Flight()
    sample(flight, 0.1, delay=0.02)
    recovery = flight.recovery
    assert recovery.latest_rtt == recovery.min_rtt == recovery.smoothed_rtt == near(0.1)
    assert recovery.rttvar == near(0.05)


def test_5_3_later_samples_are_smoothed_without_the_delay() -> None:
    flight = Flight()
    sample(flight, 0.1)
    sample(flight, 0.2, delay=0.02)
    assert flight.recovery.latest_rtt == near(0.2)
    assert flight.recovery.min_rtt == near(0.1)
    assert flight.recovery.rttvar == near(0.75 * 0.05 + 0.25 * 0.08)
    assert flight.recovery.smoothed_rtt == near(0.875 * 0.1 + 0.125 * 0.18)


def test_5_3_a_delay_never_brings_a_sample_below_the_minimum() -> None:
    flight = Flight()
    sample(flight, 0.1)
    sample(flight, 0.11, delay=0.02)
    assert flight.recovery.smoothed_rtt == near(0.875 * 0.1 + 0.125 * 0.11)


@pytest.mark.parametrize(("confirmed", "believed"), [(True, 0.025), (False, 0.09)])
def test_5_3_the_delay_is_limited_by_max_ack_delay_once_the_handshake_is_confirmed(
    confirmed: bool, believed: float
) -> None:
    flight = Flight(confirmed=confirmed)
    sample(flight, 0.1)
    sample(flight, 0.2, delay=0.09)
    assert flight.recovery.smoothed_rtt == near(0.875 * 0.1 + 0.125 * (0.2 - believed))


def test_5_3_the_delay_of_an_initial_packet_is_ignored() -> None:
    flight = Flight(confirmed=False)
    sample(flight, 0.1, epoch=INITIAL)
    sample(flight, 0.2, delay=0.02, epoch=INITIAL)
    assert flight.recovery.smoothed_rtt == near(0.875 * 0.1 + 0.125 * 0.2)
    sample(flight, 0.2, delay=0.02, epoch=HANDSHAKE)
    assert flight.recovery.smoothed_rtt == near(0.875 * 0.1125 + 0.125 * 0.18)


def test_5_1_only_the_largest_newly_acknowledged_packet_gives_a_sample() -> None:
    flight = Flight()
    first, second = flight.send(2)
    flight.wait(0.1).ack(second)
    flight.wait(0.9).ack(first, second)
    assert flight.recovery.latest_rtt == near(0.1)


def test_5_1_a_packet_that_elicits_no_ack_gives_no_sample() -> None:
    flight = Flight()
    (padding,) = flight.send(ack_eliciting=False)
    flight.wait(0.1).ack(padding)
    assert flight.recovery.min_rtt == NEVER
    assert flight.recovery.bytes_in_flight == 0
    assert flight.recovery.application.ack_eliciting_in_flight == 0


def test_9_4_of_rfc_9000_a_new_path_starts_afresh() -> None:
    flight = Flight()
    flight.round_trip(0.1)
    flight.round_trip(0.1)
    (old,) = flight.send()
    flight.recovery.reset_for_path(flight.now)
    recovery = flight.recovery
    assert (recovery.smoothed_rtt, recovery.min_rtt) == (0.333, NEVER)
    assert (recovery.bytes_in_flight, flight.window) == (0, 12000)
    (new,) = flight.send()
    flight.wait(0.3).ack(old)
    assert [packet.number for packet in flight.acked][-1] == old
    assert recovery.min_rtt == NEVER
    assert (recovery.bytes_in_flight, flight.window) == (1200, 12000)
    flight.ack(old, new)
    assert recovery.min_rtt == near(0.3)


def test_9_4_of_rfc_9000_losses_of_the_old_path_say_nothing_of_the_new_one() -> None:
    flight = Flight()
    flight.send(5)
    flight.recovery.reset_for_path(flight.now)
    numbers = flight.send(5)
    flight.wait(0.1).ack(*numbers)
    assert flight.lost_numbers == [0, 1, 2, 3, 4]
    assert flight.recovery.congestion.recovery_start == -NEVER
    assert flight.recovery.bytes_in_flight == 0
