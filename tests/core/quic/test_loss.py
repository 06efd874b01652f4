"""When packets are lost, and when probes are sent (RFC 9002 section 6)."""

import pytest

from spooky._core.quic.sent_packet import SentPacket
from tests.core.quic.flight import APPLICATION, HANDSHAKE, INITIAL, NEVER, SIZE, Flight

RTT = 0.1
TICK = 1e-9


def settled(**options: object) -> Flight:
    """Return a sender whose RTT is known and does not vary any more."""
    flight = Flight(**options)  # type: ignore[arg-type]
    for _ in range(60):
        (number,) = flight.send()
        flight.wait(RTT).ack(number)
    flight.acked.clear()
    return flight


def near(seconds: float) -> object:
    """Return what a time equals but for rounding."""
    return pytest.approx(seconds, abs=1e-6)


# --- 6.1: acknowledgment-based detection ----------------------------------------------------------


def test_6_1_1_three_packets_later_it_is_lost() -> None:
    flight = Flight()
    first, second, third, fourth = flight.send(4)
    flight.wait(RTT).ack(second, third)
    assert flight.lost == []
    flight.ack(fourth)
    assert flight.lost_numbers == [first]
    assert flight.recovery.bytes_in_flight == 0


def test_6_1_2_after_nine_eighths_of_the_rtt_it_is_lost() -> None:
    flight = settled()
    first, second = flight.send(2)
    sent_at = flight.now
    flight.wait(RTT).ack(second)
    assert flight.lost == []
    assert flight.recovery.deadline() == near(sent_at + RTT * 9 / 8)
    flight.now = flight.recovery.deadline() - TICK
    assert flight.recovery.on_timeout(flight.now, flight.lost) == 0
    assert flight.lost == []
    assert flight.expire() == 0
    assert flight.lost_numbers == [first]
    assert flight.recovery.deadline() == NEVER


def test_6_1_2_the_latest_sample_counts_where_it_is_larger() -> None:
    flight = settled()
    _, second = flight.send(2)
    sent_at = flight.now
    flight.wait(4 * RTT).ack(second)
    assert flight.lost == []
    assert flight.recovery.deadline() == near(sent_at + 4 * RTT * 9 / 8)


def test_6_1_2_the_time_threshold_is_at_least_the_granularity() -> None:
    flight = Flight()
    _, second = flight.send(2)
    sent_at = flight.now
    flight.wait(1e-5).ack(second)
    assert flight.recovery.deadline() == near(sent_at + 0.001)


def test_what_was_sent_later_is_not_lost() -> None:
    flight = Flight()
    numbers = flight.send(10)
    flight.wait(RTT).ack(numbers[2])
    flight.wait(10.0).ack(numbers[2])
    assert flight.lost_numbers == []
    flight.expire()
    assert flight.lost_numbers == numbers[:2]
    assert flight.recovery.bytes_in_flight == 7 * SIZE


def test_a_late_acknowledgment_of_a_lost_packet_is_ignored() -> None:
    flight = Flight()
    numbers = flight.send(4)
    flight.wait(RTT).ack(numbers[3])
    assert flight.lost_numbers == [numbers[0]]
    assert flight.ack(*numbers) == 2
    assert flight.ack(*numbers) == 0
    assert flight.recovery.bytes_in_flight == 0


def test_spaces_are_apart() -> None:
    flight = Flight(confirmed=False)
    flight.send(3, epoch=INITIAL)
    flight.send(3, epoch=HANDSHAKE)
    numbers = flight.send(9)
    flight.wait(RTT).ack(*numbers)
    assert flight.lost == []
    assert flight.recovery.bytes_in_flight == 6 * SIZE


def test_an_ack_only_packet_takes_a_number_and_is_not_remembered() -> None:
    flight = Flight()
    (first,) = flight.send()
    silent = flight.send(3, ack_eliciting=False, in_flight=False)
    assert flight.recovery.bytes_in_flight == SIZE
    assert flight.ack(*silent) == 0
    assert flight.recovery.application.largest_acknowledged == silent[-1]
    (later,) = flight.send()
    flight.ack(later)
    assert flight.lost_numbers == [first]


# --- 6.2: probe timeout ---------------------------------------------------------------------------


def test_6_2_1_the_probe_timeout() -> None:
    flight = Flight()
    (number,) = flight.send()
    flight.wait(RTT).ack(number)
    assert flight.recovery.probe_timeout() == near(RTT + 4 * RTT / 2 + 0.025)
    flight.recovery.max_ack_delay = 0.5
    assert flight.recovery.probe_timeout() == near(RTT + 4 * RTT / 2 + 0.5)
    assert flight.recovery.deadline() == NEVER
    flight.send()
    assert flight.recovery.deadline() == near(flight.now + RTT + 4 * RTT / 2 + 0.5)


def test_6_2_1_the_variation_counts_at_least_the_granularity() -> None:
    flight = settled()
    flight.send()
    assert flight.recovery.deadline() == near(flight.now + RTT + 0.001 + 0.025)


def test_6_2_1_every_ack_eliciting_packet_moves_the_timeout() -> None:
    flight = Flight()
    flight.send()
    before = flight.recovery.deadline()
    flight.wait(0.3).send()
    assert flight.recovery.deadline() == near(before + 0.3)
    flight.wait(0.3).send(ack_eliciting=False)
    assert flight.recovery.deadline() == near(before + 0.3)


def test_6_2_1_the_timeout_doubles_and_an_acknowledgment_resets_it() -> None:
    flight = settled()
    (number,) = flight.send()
    timeout = flight.recovery.probe_timeout()
    for backoff in (1, 2, 4, 8, 16):
        assert flight.recovery.deadline() == near(flight.now + timeout * backoff)
        assert flight.expire() == 2
        assert flight.recovery.probe_epoch == APPLICATION
        (number,) = flight.send()
    assert flight.recovery.pto_count == 5
    assert flight.lost == []
    flight.ack(number)
    assert flight.recovery.pto_count == 0


def test_6_2_1_the_earliest_space_is_probed() -> None:
    flight = Flight(confirmed=False)
    flight.send(epoch=HANDSHAKE)
    flight.wait(0.2).send(epoch=INITIAL)
    assert flight.recovery.deadline() == near(flight.now - 0.2 + 0.333 + 4 * 0.1665)
    assert flight.expire() == 2
    assert flight.recovery.probe_epoch == HANDSHAKE


def test_6_2_1_no_probe_of_application_data_before_the_handshake_is_confirmed() -> None:
    flight = Flight(confirmed=False)
    flight.send()
    assert flight.recovery.deadline() == NEVER
    flight.recovery.handshake_confirmed = True
    assert flight.recovery.deadline() == near(flight.now + 0.333 + 4 * 0.1665 + 0.025)


def test_6_2_a_loss_time_comes_before_probes() -> None:
    flight = settled()
    numbers = flight.send(3)
    flight.wait(RTT).ack(numbers[1])
    flight.send()
    assert flight.expire() == 0
    assert flight.recovery.pto_count == 0
    assert flight.expire() == 2


def test_6_2_4_probes_repeat_the_oldest() -> None:
    flight = Flight()
    recovery = flight.recovery
    assert recovery.oldest_ack_eliciting(APPLICATION, 2) == []
    flight.send(is_mtu_probe=True)
    flight.send(ack_eliciting=False)
    first, second = flight.send(2)
    (third,) = flight.send()
    for count, expected in ((1, [first]), (2, [first, second]), (4, [first, second, third])):
        oldest = recovery.oldest_ack_eliciting(APPLICATION, count)
        assert [packet.number for packet in oldest] == expected
    flight.ack(first)
    (oldest,) = recovery.oldest_ack_eliciting(APPLICATION, 1)
    assert oldest.number == second


# --- 6.2.2.1: before the address is validated -----------------------------------------------------


def test_6_2_2_1_a_client_probes_with_nothing_in_flight() -> None:
    flight = Flight(client=True, confirmed=False)
    (number,) = flight.send(epoch=INITIAL)
    flight.wait(RTT).ack(number, epoch=INITIAL)
    timeout = RTT + 4 * RTT / 2
    assert flight.recovery.bytes_in_flight == 0
    assert flight.recovery.deadline() == near(flight.now + timeout)
    assert flight.expire() == 1
    assert flight.recovery.probe_epoch == INITIAL
    assert flight.recovery.deadline() == near(flight.now + 2 * timeout)
    flight.recovery.has_handshake_keys = True
    assert flight.expire() == 1
    assert flight.recovery.probe_epoch == HANDSHAKE


def test_6_2_2_1_a_client_probes_though_0_rtt_is_in_flight() -> None:
    flight = Flight(client=True, confirmed=False)
    (number,) = flight.send(epoch=INITIAL)
    flight.send()
    flight.wait(RTT).ack(number, epoch=INITIAL)
    assert flight.recovery.deadline() == near(flight.now + RTT + 4 * RTT / 2)
    assert flight.expire() == 1


def test_6_2_2_1_an_acknowledged_handshake_packet_ends_that() -> None:
    flight = Flight(client=True, confirmed=False)
    (number,) = flight.send(epoch=HANDSHAKE)
    flight.wait(RTT).ack(number, epoch=HANDSHAKE)
    assert flight.recovery.peer_completed_address_validation
    assert flight.recovery.deadline() == NEVER


def test_6_2_1_a_client_keeps_its_backoff_while_the_server_may_be_blocked() -> None:
    flight = Flight(client=True, confirmed=False)
    (number,) = flight.send(epoch=INITIAL)
    flight.expire()
    flight.wait(RTT).ack(number, epoch=INITIAL)
    assert flight.recovery.pto_count == 1
    (number,) = flight.send(epoch=HANDSHAKE)
    flight.wait(RTT).ack(number, epoch=HANDSHAKE)
    assert flight.recovery.pto_count == 0


def test_6_2_2_1_a_server_that_may_not_send_sets_no_timer() -> None:
    flight = Flight(confirmed=False)
    flight.send(3, epoch=INITIAL)
    armed = flight.recovery.deadline()
    flight.recovery.amplification_limited = True
    assert flight.recovery.deadline() == NEVER
    flight.recovery.amplification_limited = False
    assert flight.recovery.deadline() == armed
    assert armed < NEVER


def test_6_4_discarded_keys_take_their_packets_out_of_flight() -> None:
    flight = Flight(confirmed=False)
    flight.send(3, epoch=INITIAL)
    flight.send(2, epoch=HANDSHAKE)
    flight.expire()
    flight.recovery.discard_space(INITIAL, flight.now)
    assert flight.recovery.bytes_in_flight == 2 * SIZE
    assert flight.recovery.pto_count == 0
    assert flight.expire() == 2
    assert flight.recovery.probe_epoch == HANDSHAKE


def test_6_3_what_a_retry_refused_is_taken_back_and_its_numbers_stay_used() -> None:
    flight = Flight(client=True, confirmed=False)
    numbers = flight.send(2, epoch=INITIAL)
    packets: list[SentPacket] = []
    flight.recovery.forget_sent(INITIAL, packets, flight.now)
    assert [packet.number for packet in packets] == numbers
    assert flight.recovery.bytes_in_flight == 0
    assert flight.send(epoch=INITIAL) == [2]
    assert flight.recovery.deadline() < NEVER


# --- acknowledgments of what was not sent ---------------------------------------------------------


@pytest.mark.parametrize("number", [3, 4, 2**62 - 1])
def test_13_1_of_rfc_9000_an_unsent_packet_cannot_be_acknowledged(number: int) -> None:
    flight = Flight()
    flight.send(3)
    with pytest.raises(ValueError, match="never sent"):
        flight.ack(0, number)
    assert flight.acked == []


@pytest.mark.parametrize("seed", range(8))
def test_21_4_of_rfc_9000_an_optimistic_ack_is_found(seed: int) -> None:
    """Attack 20: whoever acknowledges everything acknowledges a number that was skipped."""
    flight = Flight(seed=seed)
    sent = flight.send(400)
    skipped = sorted(set(range(sent[-1] + 1)) - set(sent))
    assert 1 <= len(skipped) <= 3
    assert 64 <= skipped[0] < 128
    honest = [number for number in sent if number < skipped[0]]
    assert flight.wait(RTT).ack(*honest) == len(honest)
    with pytest.raises(ValueError, match="skipped"):
        flight.ack(*range(skipped[0] + 5))


def test_21_4_of_rfc_9000_skipped_numbers_trouble_no_honest_peer() -> None:
    flight = Flight()
    received: list[int] = []
    for _ in range(300):
        received += flight.send(10)
        flight.wait(RTT).ack(*received[-500:])
    assert len(flight.acked) == 3000
    assert flight.lost == []
    assert 3 <= received[-1] + 1 - len(received) <= 7


def test_21_4_of_rfc_9000_what_is_skipped_depends_on_the_seed() -> None:
    def skipped(seed: int) -> frozenset[int]:
        sent = Flight(seed=seed).send(300)
        return frozenset(range(300)) - set(sent)

    assert len({skipped(seed) for seed in range(20)}) > 15
    assert skipped(7) == skipped(7)


def test_numbers_must_increase() -> None:
    flight = Flight()
    flight.send(2)
    packet = SentPacket()
    packet.number = 1
    with pytest.raises(ValueError, match="increase"):
        flight.recovery.on_packet_sent(APPLICATION, packet, flight.now)
