"""Packet numbers and ACK ranges of the native engine, which exists compiled only.

The first byte chooses: sets of ranges against sets of numbers; a space of packet numbers, whose
ACK frames aioquic reads; a sender, whose peer acknowledges what it likes; or a server that gets
packets whose numbers are cut to fewer bytes than they should be, which aioquic decodes beside it.
"""

from collections.abc import Iterator
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.packet import decode_packet_number, pull_ack_frame
from atheris import FuzzedDataProvider  # type: ignore[import-not-found]

from spooky import _core
from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from spooky.protocol.quic.limits import DEFAULT_LIMITS
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.support import Endpoints
from tests.simnet import CLIENT

if _core.COMPILED:
    from spooky._core.quic.ranges import RangeSet
    from spooky._core.quic.recovery import Recovery
    from spooky._core.quic.sent_packet import SentPacket
    from spooky._core.quic.space import PacketNumberSpace

STEPS_MAX = 200
SPAN = 300
PACKETS_MAX = 40
"""Fewer than the ranges that a server remembers, so that it takes each new number."""

APPLICATION = 2
PING = b"\x01"
NUMBERS_END = 1 << 62


def seeds() -> Iterator[bytes]:
    """Yield inputs that reach far, since each byte of them is some choice."""
    for way in range(4):
        for index in range(6):
            yield bytes((way,)) + bytes(
                (index * 7 + 31 * place + place * place * index) % 256 for place in range(300)
            )


def run(data: bytes) -> None:
    """Do what the first byte says."""
    if _core.COMPILED:
        walks = (walk_ranges, walk_space, walk_recovery, walk_numbers)
        walks[(data[0] if data else 0) % len(walks)](FuzzedDataProvider(data[1:]))


def walk_ranges(choose: Any) -> None:
    """Change a set of ranges, and a set of numbers alike."""
    subject, numbers = RangeSet(), set[int]()
    base = choose.PickValueInList([0, (1 << 32) - 150, NUMBERS_END - SPAN, (1 << 64) - 1 - SPAN])
    for _ in range(STEPS_MAX):
        if not choose.remaining_bytes():
            break
        start = choose.ConsumeIntInRange(0, SPAN - 1)
        stop = min(SPAN, start + choose.ConsumeIntInRange(0, 20))
        chosen = set(range(start, stop))
        match choose.ConsumeIntInRange(0, 4):
            case 0 | 1:
                assert subject.add(base + start, base + stop) == (not chosen <= numbers)
                numbers |= chosen
            case 2:
                subject.remove(base + start, base + stop)
                numbers -= chosen
            case 3:
                subject.remove_below(base + start)
                numbers = {number for number in numbers if number >= start}
            case _:
                most = choose.ConsumeIntInRange(0, 9)
                subject.keep_newest(most)
                kept = runs(numbers)[-most:] if most else []
                numbers = {number for first, last in kept for number in range(first, last)}
        assert subject.ranges() == [(base + a, base + b) for a, b in runs(numbers)]
        assert subject.contains(base + start) == (start in numbers)


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Return the ranges that numbers form, each with its exclusive end."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    stops = sorted(number + 1 for number in numbers if number + 1 not in numbers)
    return list(zip(starts, stops, strict=True))


def walk_space(choose: Any) -> None:
    """Receive packets and acknowledge them: only what came, the newest first."""
    space, came, largest, now = PacketNumberSpace(0.025), set[int](), 0, 10.0
    for _ in range(STEPS_MAX):
        if not choose.remaining_bytes():
            break
        now += choose.ConsumeIntInRange(0, 40) / 1000
        what = choose.ConsumeIntInRange(0, 9)
        if what < 7:
            number = largest + choose.ConsumeIntInRange(-200, 60)
            if what == 6:
                number = choose.ConsumeIntInRange(0, NUMBERS_END - 1)
            if not 0 <= number < NUMBERS_END or space.is_duplicate(number):
                continue
            assert number not in came
            space.on_packet_received(number, choose.ConsumeBool(), what % 4, now)
            came.add(number)
            largest = max(largest, number)
            assert space.is_duplicate(number)
        elif what == 7 and came:
            space.on_ack_acknowledged(max(0, largest - choose.ConsumeIntInRange(0, 100)))
        else:
            room = choose.ConsumeIntInRange(0, 1200)
            frame = space.ack_frame(room, 3, now)
            assert len(frame) <= room
            if frame:
                assert acknowledged(frame) <= came


def acknowledged(frame: bytes) -> set[int]:
    """Return the numbers in an ACK frame, as aioquic reads it."""
    buffer = Buffer(data=frame)
    kind = buffer.pull_uint_var()
    assert kind in (2, 3)
    found, _ = pull_ack_frame(buffer)
    for _ in range(3 if kind == 3 else 0):
        buffer.pull_uint_var()
    assert buffer.eof()
    return {number for part in found for number in part}


def walk_recovery(choose: Any) -> None:
    """Send packets to a peer that acknowledges what it likes."""
    algorithm = choose.PickValueInList(["cubic", "reno"])
    seed, period = choose.ConsumeIntInRange(0, 255), DEFAULT_LIMITS.skip_period
    recovery = Recovery(False, algorithm, 1200, seed, 100.0, period)
    recovery.handshake_confirmed = True
    sent: dict[int, SentPacket] = {}
    over: set[int] = set()
    acked: list[SentPacket] = []
    lost: list[SentPacket] = []
    now, next_number = 100.0, 0
    for _ in range(STEPS_MAX):
        if not choose.remaining_bytes():
            break
        now += choose.ConsumeIntInRange(0, 300) / 1000
        what = choose.ConsumeIntInRange(0, 5)
        if what < 3:
            packet = SentPacket()
            packet.number = recovery.skip_if_due(APPLICATION)
            packet.size = choose.ConsumeIntInRange(40, 1200)
            packet.ack_eliciting = packet.in_flight = choose.ConsumeBool()
            recovery.on_packet_sent(APPLICATION, packet, now)
            next_number = packet.number + 1
            if packet.in_flight:
                sent[packet.number] = packet
        elif what == 3:
            recovery.on_timeout(now, lost)
        else:
            ranges = RangeSet()
            for _ in range(choose.ConsumeIntInRange(1, 4)):
                start = max(0, next_number - choose.ConsumeIntInRange(0, 40))
                ranges.add(start, start + choose.ConsumeIntInRange(1, 12))
            delay = choose.ConsumeIntInRange(0, 400) / 1000
            try:
                recovery.on_ack_received(APPLICATION, ranges, delay, now, acked, lost)
            except ValueError:
                return
            assert all(ranges.contains(packet.number) for packet in acked)
            assert ranges.ranges()[-1][1] <= next_number
            counts = [choose.ConsumeIntInRange(0, 50) for _ in range(3)]
            recovery.on_ecn_counts(APPLICATION, choose.ConsumeBool(), *counts, now)
        for packet in (*acked, *lost):
            # Told once of each, and only of what was in flight.
            assert sent.pop(packet.number) is packet
            over.add(packet.number)
        acked.clear()
        lost.clear()
        assert recovery.bytes_in_flight == sum(packet.size for packet in sent.values())
        assert recovery.congestion.window >= 2 * 1200
        assert recovery.latest_rtt >= 0
        recovery.deadline()
        recovery.sending_room(now)


def walk_numbers(choose: Any) -> None:
    """Send a server packets under any numbers, in as many bytes as the input says."""
    pair: Endpoints[Any] = Endpoints(1, engines=(AIOQUIC, ENGINES["native"]))
    pair.handshake()
    quic = pair.client._quic
    crypto = quic._cryptos[tls.Epoch.ONE_RTT]
    # Well above what the handshake used, which the server may not have forgotten.
    largest = quic._packet_number + 50
    came: set[int] = set()

    def send(number: int, length: int) -> int:
        """Send a PING, and return how many packets the server took."""
        before = pair.server.statistics()["packets_received"]
        encoded = (number & ((1 << 8 * length) - 1)).to_bytes(length, "big")
        header = bytes((0x40 | crypto.key_phase << 2 | length - 1,)) + quic._peer_cid.cid + encoded
        packet = crypto.encrypt_packet(header, PING + bytes(8), number)
        pair.server.receive([Datagram(packet, CLIENT)], pair.network.now)
        assert not pair.server_handler.closes
        return pair.server.statistics()["packets_received"] - before

    assert send(largest, 4) == 1
    came.add(largest)
    for _ in range(PACKETS_MAX):
        if not choose.remaining_bytes():
            break
        length = choose.ConsumeIntInRange(1, 4)
        window = 1 << 8 * length
        number = largest + choose.ConsumeIntInRange(-window, window)
        if not quic._packet_number < number < NUMBERS_END:
            continue
        truncated = number & (window - 1)
        decoded = decode_packet_number(truncated, 8 * length, largest + 1)
        taken = send(number, length)
        assert taken == (decoded == number and number not in came), (number, length, largest)
        if taken:
            came.add(number)
            largest = max(largest, number)
