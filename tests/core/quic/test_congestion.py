"""Congestion control: RFC 9002 section 7, RFC 9438 and RFC 9406."""

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic.congestion import CongestionController, make_controller
from tests.core.quic.flight import APPLICATION, NEVER, SIZE, Flight

BOTH = pytest.mark.parametrize("algorithm", ["reno", "cubic"])
UNLIMITED = 2**64 - 1
RTT = 0.1


def after_loss(algorithm: str, round_trips: int = 3) -> Flight:
    """Return a sender in congestion avoidance, out of recovery, with nothing in flight."""
    flight = Flight(algorithm=algorithm)
    for _ in range(round_trips):
        flight.round_trip(RTT)
    numbers = flight.fill()
    flight.wait(RTT).ack(*numbers[1:])
    assert flight.lost_numbers == numbers[:1]
    flight.wait(RTT)
    return flight


# --- RFC 9002 section 7 ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "window"), [(1200, 12_000), (1452, 14_520), (1500, 14_720), (9000, 18_000)]
)
@BOTH
def test_7_2_the_initial_window(algorithm: str, size: int, window: int) -> None:
    assert make_controller(algorithm, size).window == window


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="'bbr'"):
        Flight(algorithm="bbr")


@BOTH
def test_7_3_1_slow_start_doubles_the_window(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    for doubled in (24_000, 48_000, 96_000):
        flight.round_trip()
        assert flight.window == doubled
    assert flight.recovery.congestion.in_slow_start()


@pytest.mark.parametrize(("algorithm", "share"), [("reno", 0.5), ("cubic", 0.7)])
def test_7_3_2_a_loss_reduces_the_window_once_a_round_trip(algorithm: str, share: float) -> None:
    flight = Flight(algorithm=algorithm)
    flight.round_trip()
    numbers = flight.fill()
    flight.wait(RTT).ack(*numbers[4:8])
    assert flight.lost_numbers == numbers[:4]
    reduced = flight.window
    assert reduced == int(24_000 * share)
    assert flight.recovery.congestion.slow_start_threshold == reduced
    flight.wait(0.01).ack(*numbers[12:20])
    assert flight.lost_numbers == numbers[:4] + numbers[8:12]
    assert flight.window == reduced


@BOTH
def test_7_3_2_what_was_sent_before_recovery_does_not_grow_the_window(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    numbers = flight.fill()
    flight.wait(RTT).ack(*numbers[1:5])
    reduced = flight.window
    flight.wait(0.01).ack(*numbers[5:])
    assert flight.window == reduced


def test_7_3_3_reno_grows_by_a_datagram_a_window() -> None:
    flight = after_loss("reno")
    for _ in range(5):
        before = flight.window
        flight.round_trip()
        # The rest below a datagram is not sent; it counts next time.
        assert flight.window - before in (0, SIZE)
    assert flight.window >= 48_000 + 4 * SIZE


@BOTH
def test_7_2_the_window_never_falls_below_two_datagrams(algorithm: str) -> None:
    controller = make_controller(algorithm, SIZE)
    for time in range(1, 40):
        controller.on_congestion(time, time + 0.5)
    assert controller.window == 2 * SIZE


@BOTH
def test_7_8_a_window_that_is_not_used_does_not_grow(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    for _ in range(100):
        numbers = flight.send(4)
        flight.wait(RTT).ack(*numbers)
    assert flight.window == 12_000
    flight.round_trip()
    assert flight.window == 24_000


@BOTH
def test_7_8_the_acks_of_a_full_window_grow_it_one_by_one(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    numbers = flight.fill()
    flight.wait(RTT)
    for number in numbers:
        flight.ack(number)
    assert flight.window == 24_000


@BOTH
def test_7_8_congestion_avoidance_needs_a_full_window(algorithm: str) -> None:
    flight = after_loss(algorithm)
    before = flight.window
    for _ in range(50):
        numbers = flight.send(flight.window // SIZE // 2)
        flight.wait(RTT).ack(*numbers)
    assert flight.window == before


@BOTH
def test_14_4_of_rfc_9000_a_lost_mtu_probe_is_no_congestion(algorithm: str) -> None:
    flight = Flight(algorithm=algorithm)
    (probe,) = flight.send(size=1500, is_mtu_probe=True)
    numbers = flight.send(4)
    flight.wait(RTT).ack(*numbers)
    assert flight.lost_numbers == [probe]
    assert flight.recovery.congestion.recovery_start == -NEVER
    assert flight.recovery.bytes_in_flight == 0


def test_a_larger_datagram_raises_the_smallest_window() -> None:
    controller = make_controller("reno", SIZE)
    for time in range(1, 40):
        controller.on_congestion(time, time + 0.5)
    controller.set_max_datagram_size(9000)
    assert controller.window == 18_000


# --- RFC 9002 section 7.6 -------------------------------------------------------------------------


def starve(flight: Flight, seconds: float, count: int = 6) -> list[int]:
    """Send packets over some time, and then one that is acknowledged."""
    numbers = []
    for _ in range(count):
        numbers += flight.send()
        flight.wait(seconds / (count - 1))
    flight.wait(1.0)
    (last,) = flight.send()
    flight.send(3)
    flight.wait(RTT).ack(last)
    return numbers


@pytest.mark.parametrize(("share", "persistent"), [(1.05, True), (0.95, False)])
@BOTH
def test_7_6_1_persistent_congestion_takes_three_probe_timeouts(
    algorithm: str, share: float, persistent: bool
) -> None:
    flight = Flight(algorithm=algorithm)
    for _ in range(4):
        flight.round_trip(RTT)
    # The last acknowledgment, an RTT as all before, takes the variation down a little more.
    variation = flight.recovery.rttvar * 0.75
    timeout = RTT + 4 * variation + 0.025
    starve(flight, 3 * timeout * share)
    assert len(flight.lost) >= 4
    assert (flight.window == 2 * SIZE) == persistent
    assert (flight.recovery.min_rtt == NEVER) == persistent


def test_7_6_2_an_acknowledgment_between_the_losses_disproves_it() -> None:
    flight = Flight()
    for _ in range(4):
        flight.round_trip(RTT)
    numbers = flight.send()
    flight.wait(5.0)
    (between,) = flight.send()
    flight.wait(5.0)
    numbers += flight.send()
    later = flight.send(4)
    flight.wait(RTT).ack(between, later[-1])
    assert flight.lost_numbers[:2] == numbers
    assert flight.window > 2 * SIZE


def test_7_6_2_before_the_first_sample_nothing_is_persistent() -> None:
    flight = Flight()
    flight.send()
    flight.wait(50.0).send()
    later = flight.send(4)
    flight.wait(RTT).ack(later[-1])
    assert len(flight.lost) == 3
    assert flight.window == 6_000


def test_7_6_2_after_persistent_congestion_the_window_grows_again() -> None:
    flight = Flight()
    for _ in range(4):
        flight.round_trip(RTT)
    starve(flight, 10.0)
    assert flight.window == 2 * SIZE
    flight.wait(RTT)
    flight.ack(*range(flight.recovery.application.next_packet_number - 3,
                      flight.recovery.application.next_packet_number))  # fmt: skip
    flight.round_trip(RTT)
    assert flight.window >= 4 * SIZE


# --- RFC 9438 -------------------------------------------------------------------------------------


class CubicModel:
    """The equations of RFC 9438 section 4, in segments of the largest datagram."""

    C, BETA = 0.4, 0.7

    def __init__(self, window: float, maximum: float, start: float) -> None:
        self.window, self.maximum, self.start = window, max(window, maximum), start
        self.prior = maximum
        self.estimate = window
        self.k = math.cbrt((self.maximum - window) / self.C)

    def w_cubic(self, time: float) -> float:
        """Equation 1."""
        return self.C * (time - self.k) ** 3 + self.maximum

    def ack(self, segments: float, rtt: float, now: float) -> None:
        """Sections 4.2 to 4.5."""
        time = now - self.start
        alpha = 3 * (1 - self.BETA) / (1 + self.BETA) if self.estimate < self.prior else 1
        self.estimate += alpha * segments / self.window
        if self.w_cubic(time) < self.estimate:
            self.window = max(self.window, self.estimate)
            return
        target = min(max(self.w_cubic(time + rtt), self.window), 1.5 * self.window)
        self.window += (target - self.window) / self.window * segments


@pytest.mark.parametrize("rtt", [0.005, 0.05, 0.2])
@pytest.mark.parametrize("rounds", [0, 4, 7])
def test_rfc_9438_growth_follows_the_model(rtt: float, rounds: int) -> None:
    """Reno-friendly with short round trips, concave up to the maximum and convex beyond."""
    controller = make_controller("cubic", SIZE)
    for _ in range(rounds):
        controller.on_acked(controller.window, rtt, 0.0)
    before = controller.window
    controller.on_congestion(1.0, 1.0)
    assert controller.window == int(before * 0.7)
    now = 1.0 + rtt
    model = CubicModel(controller.window / SIZE, before / SIZE, now)
    while now < 15.0:
        size = controller.window // 4
        controller.on_acked(size, rtt, now)
        model.ack(size / SIZE, rtt, now)
        assert controller.window / SIZE == pytest.approx(model.window, rel=0.005)
        now += rtt / 4
    assert controller.window > before


def test_rfc_9438_section_4_7_fast_convergence() -> None:
    """A second loss below the last maximum leaves the cubic function a lower one."""
    controller = make_controller("cubic", SIZE)
    for _ in range(6):
        controller.on_acked(controller.window, RTT, 0.0)
    controller.on_congestion(1.0, 1.0)
    second = controller.window
    controller.on_congestion(2.0, 2.0)
    model = CubicModel(controller.window / SIZE, second * (1 + 0.7) / 2 / SIZE, 2.1)
    # It differs from the model of one loss only in the maximum; the prior window is the last.
    model.prior = second / SIZE
    now = 2.1
    for _ in range(1000):
        size = controller.window // 20
        controller.on_acked(size, RTT, now)
        model.ack(size / SIZE, RTT, now)
        assert controller.window / SIZE == pytest.approx(model.window, rel=0.005)
        now += RTT / 20


def test_rfc_9438_section_4_8_persistent_congestion_forgets_the_maximum() -> None:
    """Congestion avoidance begins anew, and at once convex, where slow start ends."""
    controller = make_controller("cubic", SIZE)
    for _ in range(7):
        controller.on_acked(controller.window, RTT, 0.0)
    prior = controller.window
    controller.on_congestion(1.0, 1.0)
    controller.on_persistent_congestion()
    while controller.in_slow_start():
        controller.on_acked(controller.window, RTT, 2.0)
    threshold = controller.window
    model = CubicModel(threshold / SIZE, threshold / SIZE, 2.0)
    model.prior = prior / SIZE
    now = 2.0
    while now < 7.0:
        size = controller.window // 4
        controller.on_acked(size, RTT, now)
        model.ack(size / SIZE, RTT, now)
        assert controller.window / SIZE == pytest.approx(model.window, rel=0.005)
        now += RTT / 4


def test_rfc_9438_section_5_8_time_without_use_does_not_count() -> None:
    def grown(idle: float) -> int:
        controller = make_controller("cubic", SIZE)
        for _ in range(6):
            controller.on_acked(controller.window, RTT, 0.0)
        controller.on_congestion(1.0, 1.0)
        controller.on_acked(2 * SIZE, RTT, 1.1)
        controller.on_underutilized(1.2)
        controller.on_underutilized(1.2 + idle / 2)
        for step in range(10):
            controller.on_acked(20 * SIZE, RTT, 1.2 + idle + step * RTT)
        return controller.window

    assert grown(30.0) == pytest.approx(grown(0.0), rel=1e-3)


# --- RFC 9406 -------------------------------------------------------------------------------------


def one_round(controller: CongestionController, now: float, rtt: float, samples: int = 10) -> float:
    """Acknowledge a window in equal parts; return the time after it."""
    part = controller.window // samples
    for sample in range(samples):
        # The first was sent as the last round ended, the others in the course of it.
        controller.on_rtt_sample(rtt, now - rtt if sample else now, now + sample * 1e-4)
        controller.on_acked(part, rtt, now)
    return now + rtt


@BOTH
def test_rfc_9406_a_growing_delay_ends_slow_start(algorithm: str) -> None:
    controller = make_controller(algorithm, SIZE)
    now = 1.0
    for _ in range(3):
        now = one_round(controller, now, 0.080)
    assert controller.window == 8 * 12_000
    # An eighth of 80 ms is 10 ms.
    before = controller.window
    now = one_round(controller, now, 0.0901)
    # Seven samples double, then conservative slow start adds a quarter.
    assert controller.window == before + 7 * before // 10 + 3 * (before // 10 // 4)
    assert controller.in_slow_start()
    for _ in range(4):
        before = controller.window
        now = one_round(controller, now, 0.0901)
        assert controller.window == before + 10 * (before // 10 // 4)
        assert controller.in_slow_start()
    before = controller.window
    controller.on_rtt_sample(0.0901, now, now)
    assert not controller.in_slow_start()
    assert controller.slow_start_threshold == before


@pytest.mark.parametrize(
    ("base", "later", "found"),
    [
        (0.080, 0.0899, False),
        (0.080, 0.0901, True),
        (0.010, 0.0139, False),  # At least 4 ms.
        (0.010, 0.0141, True),
        (0.400, 0.4159, False),  # At most 16 ms.
        (0.400, 0.4161, True),
    ],
)
def test_rfc_9406_section_4_2_the_threshold(base: float, later: float, found: bool) -> None:
    controller = make_controller("reno", SIZE)
    now = one_round(controller, one_round(controller, 1.0, base), base)
    before = controller.window
    one_round(controller, now, later)
    assert (controller.window < 2 * before // 10 * 10) == found


def test_rfc_9406_section_4_2_eight_samples_are_needed() -> None:
    controller = make_controller("reno", SIZE)
    now = one_round(controller, one_round(controller, 1.0, 0.05), 0.05)
    for _ in range(8):
        before = controller.window
        now = one_round(controller, now, 0.5, samples=7)
        assert controller.window == before + 7 * (before // 7)


def test_rfc_9406_a_delay_that_falls_again_resumes_slow_start() -> None:
    controller = make_controller("reno", SIZE)
    now = one_round(controller, one_round(controller, 1.0, 0.05), 0.05)
    now = one_round(controller, now, 0.07)
    now = one_round(controller, now, 0.06)
    before = controller.window
    one_round(controller, now, 0.06)
    assert controller.window == before + 10 * (before // 10)


def test_rfc_9406_only_the_first_slow_start_is_watched() -> None:
    controller = make_controller("reno", SIZE)
    now = one_round(controller, one_round(controller, 1.0, 0.05), 0.05)
    controller.on_congestion(now, now)
    threshold = controller.slow_start_threshold
    controller.on_persistent_congestion()
    for rtt in (0.05, 0.2, 0.9):
        now = one_round(controller, now, rtt)
    assert controller.slow_start_threshold == threshold
    assert controller.window == min(threshold, 2 * SIZE * 8)


def test_rfc_9406_on_a_path_whose_delay_grows_with_what_is_in_flight() -> None:
    """A bottleneck of 1.2 MB/s and 50 ms: slow start ends before its queue is deep."""
    flight = Flight(algorithm="cubic")
    capacity, base = 1_200_000, 0.05
    departs = flight.now
    underway: collections.deque[tuple[float, int]] = collections.deque()
    while flight.recovery.congestion.in_slow_start():
        for number in flight.fill():
            departs = max(departs, flight.now) + SIZE / capacity
            underway.append((departs + base, number))
        flight.now, number = underway.popleft()
        flight.ack(number)
    assert flight.lost == []
    # Found a round after the window passed what fits, and then five rounds of a quarter more.
    assert 2 * capacity * base < flight.window < 11 * capacity * base


# --- ECN: RFC 9000 section 13.4.2 and RFC 9002 section 7.1 ----------------------------------------


def marked(count: int = 5, **options: object) -> tuple[Flight, list[int]]:
    """Return a sender and what it sent with ECT(0)."""
    flight = Flight(**options)  # type: ignore[arg-type]
    return flight, flight.send(count, ecn=2)


def test_13_4_2_1_counts_that_agree_prove_the_path() -> None:
    flight, numbers = marked(10)
    assert flight.recovery.ecn.state == "unknown"
    assert flight.recovery.ecn_codepoint() == 0
    flight.wait(RTT).ack(*numbers)
    assert flight.ecn(10) == 0
    assert flight.recovery.ecn.state == "capable"
    assert flight.recovery.ecn_codepoint() == 2


@pytest.mark.parametrize(
    "counts", [(4, 0, 0), (0, 4, 0), (6, 0, 0), (5, 1, 0), (0, 0, 5), (5, 0, 1), (2**62 - 1, 5, 0)]
)
def test_13_4_2_1_counts_that_disagree_end_ecn(counts: tuple[int, int, int]) -> None:
    flight, numbers = marked()
    assert flight.recovery.ecn_codepoint() == 2
    flight.wait(RTT).ack(*numbers)
    assert flight.ecn(*counts) == 0
    assert flight.recovery.ecn.state == "failed"
    assert flight.recovery.ecn_codepoint() == 0
    assert flight.window >= 12_000


def test_13_4_2_1_missing_counts_end_ecn() -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers)
    flight.ecn(0, present=False)
    assert flight.recovery.ecn.state == "failed"


def test_13_4_2_1_counts_may_be_missing_where_nothing_was_marked() -> None:
    flight = Flight()
    numbers = flight.send(3)
    flight.wait(RTT).ack(*numbers)
    flight.ecn(0, present=False)
    assert flight.recovery.ecn.state == "testing"


def test_13_4_2_1_counts_that_fall_end_ecn() -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers)
    flight.ecn(5)
    numbers = flight.send(2, ecn=2)
    flight.wait(RTT).ack(*numbers)
    flight.ecn(4, 3)
    assert flight.recovery.ecn.state == "failed"


@pytest.mark.parametrize(
    ("first", "second"), [((1, 1), (3, 0)), ((2, 0), (1, 2))], ids=["CE", "ECT(0)"]
)
def test_13_4_2_1_one_count_that_falls_is_not_made_good_by_the_other(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    """Their sum is what it should be at least."""
    flight, numbers = marked(4)
    flight.wait(RTT).ack(*numbers[:2])
    flight.ecn(*first)
    assert flight.recovery.ecn.state == "capable"
    flight.ack(numbers[2])
    flight.ecn(*second)
    assert flight.recovery.ecn.state == "failed"


def test_13_4_2_1_an_older_frame_that_comes_late_is_not_judged() -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers)
    flight.ecn(5)
    flight.ack(*numbers[:2])
    flight.ecn(2)
    assert flight.recovery.ecn.state == "capable"


@pytest.mark.parametrize(("algorithm", "share"), [("reno", 0.5), ("cubic", 0.7)])
def test_7_1_a_ce_mark_is_answered_as_a_loss_is(algorithm: str, share: float) -> None:
    flight, numbers = marked(algorithm=algorithm)
    flight.wait(RTT).ack(*numbers)
    # What the ACK frame added is reduced with the rest.
    assert flight.window == 18_000
    assert flight.ecn(4, 1) == 1
    assert flight.window == int(18_000 * share)
    later = flight.send(1, ecn=2)
    flight.wait(RTT).ack(*later)
    assert flight.ecn(5, 1) == 0


def test_7_1_a_second_mark_in_the_same_round_trip_changes_nothing() -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers[:2])
    flight.ecn(1, 1)
    reduced = flight.window
    flight.wait(0.001).ack(*numbers)
    flight.ecn(1, 4)
    assert flight.recovery.ecn.state == "capable"
    assert flight.window == reduced


def test_a_4_of_rfc_9000_ecn_ends_where_everything_marked_is_lost() -> None:
    flight, _ = marked(10)
    numbers = flight.send(3)
    flight.wait(RTT).ack(*numbers)
    flight.ecn(0, present=False)
    assert len(flight.lost) == 10
    assert flight.recovery.ecn.state == "failed"


def test_13_4_2_of_rfc_9000_a_new_path_is_tested_again() -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers)
    flight.ecn(0, present=False)
    flight.recovery.reset_for_path(flight.now)
    assert flight.recovery.ecn_codepoint() == 2
    numbers = flight.send(2, ecn=2)
    flight.wait(RTT).ack(*numbers)
    flight.ecn(7)
    assert flight.recovery.ecn.state == "capable"


@given(st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1))
def test_ecn_survives_any_counts(ect0: int, ect1: int, ce: int) -> None:
    flight, numbers = marked()
    flight.wait(RTT).ack(*numbers)
    flight.recovery.on_ecn_counts(APPLICATION, True, ect0, ect1, ce, flight.now)
    valid = ect1 == 0 and ect0 + ce == 5
    assert flight.recovery.ecn.state == ("capable" if valid else "failed")
