"""What holds of loss recovery whatever a peer acknowledges, and whenever."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spooky._core.quic.ranges import RangeSet
from tests.core.quic.flight import APPLICATION, HANDSHAKE, INITIAL, NEVER, SIZE, Flight

EPOCHS = st.sampled_from([INITIAL, HANDSHAKE, APPLICATION])
SECONDS = st.floats(0, 0.5)


class RecoveryMachine(RuleBasedStateMachine):
    """A sender against a dictionary of what it has in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.flight = Flight(algorithm="cubic", confirmed=True)
        self.outstanding: list[dict[int, int]] = [{}, {}, {}]
        self.all_sent: list[list[int]] = [[], [], []]
        self.resolved = 0

    def settle(self, epoch: int) -> None:
        """Take what was acknowledged or lost since the last call out of the model."""
        for packet in self.flight.acked + self.flight.lost:
            assert self.outstanding[epoch].pop(packet.number) == packet.size
        self.flight.acked.clear()
        self.flight.lost.clear()

    @rule(epoch=EPOCHS, count=st.integers(1, 40), size=st.integers(30, 1500), ecn=st.booleans())
    def send(self, epoch: int, count: int, size: int, ecn: bool) -> None:
        numbers = self.flight.send(count, epoch=epoch, size=size, ecn=2 if ecn else 0)
        self.outstanding[epoch] |= dict.fromkeys(numbers, size)
        self.all_sent[epoch] += numbers

    @rule(epoch=EPOCHS, count=st.integers(1, 5))
    def send_acks(self, epoch: int, count: int) -> None:
        numbers = self.flight.send(count, epoch=epoch, in_flight=False, ack_eliciting=False)
        self.all_sent[epoch] += numbers

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.flight.wait(seconds)

    @rule(epoch=EPOCHS, data=st.data())
    def acknowledge(self, epoch: int, data: st.DataObject) -> None:
        known = self.all_sent[epoch][-60:]
        if not known:
            return
        numbers = data.draw(st.sets(st.sampled_from(known), min_size=1))
        fresh = len(numbers & self.outstanding[epoch].keys())
        assert self.flight.ack(*numbers, epoch=epoch, delay=data.draw(SECONDS)) == fresh
        assert len(self.flight.acked) == fresh
        self.flight.recovery.on_ecn_counts(epoch, True, 3, 0, 1, self.flight.now)
        assert self.outstanding[epoch].keys() >= {p.number for p in self.flight.lost}
        assert max(numbers) >= max((p.number for p in self.flight.lost), default=0) or all(
            packet.number < max(self.all_sent[epoch]) for packet in self.flight.lost
        )
        self.settle(epoch)

    @precondition(lambda self: self.flight.recovery.deadline() < NEVER)
    @rule()
    def expire(self) -> None:
        recovery = self.flight.recovery
        self.flight.now = max(self.flight.now, recovery.deadline())
        losses = [s.loss_time for s in (recovery.initial, recovery.handshake, recovery.application)]
        probes = recovery.on_timeout(self.flight.now, self.flight.lost)
        if min(losses) == NEVER:
            assert probes == 2
            assert self.outstanding[recovery.probe_epoch]
            assert self.flight.lost == []
        else:
            assert probes == 0
            # A sample in another space may have raised the RTT, and with it the time of loss.
            assert self.flight.lost or recovery.deadline() > self.flight.now
            self.settle(losses.index(min(losses)))

    @rule(epoch=EPOCHS)
    def discard(self, epoch: int) -> None:
        self.flight.recovery.discard_space(epoch, self.flight.now)
        self.outstanding[epoch].clear()

    @invariant()
    def what_is_in_flight_is_known(self) -> None:
        recovery = self.flight.recovery
        assert recovery.bytes_in_flight == sum(sum(each.values()) for each in self.outstanding)
        spaces = (recovery.initial, recovery.handshake, recovery.application)
        assert [space.ack_eliciting_in_flight for space in spaces] == [
            len(each) for each in self.outstanding
        ]
        assert (recovery.deadline() < NEVER) == any(self.outstanding)

    @invariant()
    def the_window_is_sane(self) -> None:
        assert 2 * SIZE <= self.flight.window < 2**40
        assert self.flight.recovery.smoothed_rtt >= 0
        assert 0 <= self.flight.recovery.congestion_room() <= self.flight.window


RecoveryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestRecovery = RecoveryMachine.TestCase


@pytest.mark.parametrize("algorithm", ["reno", "cubic"])
@given(
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    jitter=st.floats(0, 0.2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_every_packet_ends_acknowledged_or_lost(
    algorithm: str, loss: float, jitter: float, seed: int
) -> None:
    dice = random.Random(seed)
    flight = Flight(algorithm=algorithm, seed=seed)
    received: list[int] = []
    sent = 0
    for _ in range(60):
        numbers = flight.send(min(30, flight.recovery.congestion_room() // SIZE))
        sent += len(numbers)
        arrived = [number for number in numbers if dice.random() >= loss]
        dice.shuffle(arrived)
        flight.wait(0.02)
        for number in arrived:
            received.append(number)
            flight.wait(dice.random() * jitter / 30).ack(*sorted(received)[-300:])
        while flight.recovery.deadline() <= flight.now:
            flight.recovery.on_timeout(flight.now, flight.lost)
    for _ in range(400):
        if flight.recovery.bytes_in_flight == 0:
            break
        for _ in range(flight.expire()):
            received += flight.send()
            sent += 1
        flight.wait(0.02).ack(*received[-300:])
    assert flight.recovery.bytes_in_flight == 0
    assert flight.recovery.deadline() == NEVER
    assert len(flight.acked) + len(flight.lost) == sent
    outcome = [packet.number for packet in flight.acked + flight.lost]
    assert len(set(outcome)) == sent


def test_attack_21_ranges_without_end_cost_no_more_than_what_is_outstanding() -> None:
    """30,000 ranges below the one packet that is outstanding, in every ACK frame."""
    flight = Flight()
    silent = flight.send(60_000, in_flight=False, ack_eliciting=False)
    flight.send()
    frame = RangeSet()
    for number in silent[::-2]:
        frame.add(number, number + 1)
    assert frame.count == 30_000
    # Whoever walked all of every frame would walk for minutes.
    for _ in range(2_000_000):
        flight.recovery.on_ack_received(
            APPLICATION, frame, 0.0, flight.now, flight.acked, flight.lost
        )
    assert flight.recovery.bytes_in_flight == SIZE
