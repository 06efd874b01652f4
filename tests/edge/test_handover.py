"""Datagrams handed from one worker to another arrive with all that is known about them."""

import asyncio
import os
import socket

import pytest

from spooky.edge import messages
from spooky.edge.handover import SWAP_SECONDS, HandedOver, Handover, steer_packet
from spooky.observe.counters import Counters
from spooky.protocol.quic.steering import Steering
from spooky.runtime import Runtime
from tests.support.proxy import run
from tests.support.waiting import until

FIRST, SECOND = 0, 1


def pair() -> tuple[socket.socket, socket.socket]:
    """Return an inbox and the way there."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


# Short headers whose connection ID names the second worker.
FOR_SECOND = b"\x40\x01" + b"1234567" + b"payload"

DATAGRAMS: list[HandedOver] = [
    ((FOR_SECOND, ("192.0.2.1", 50_000), 0), b""),
    ((FOR_SECOND * 100, ("192.0.2.255", 1), 3), b"\xc6\x33\x64\x07"),
    ((FOR_SECOND, ("2001:db8::1", 50_000, 0, 0), 2), bytes(range(16))),
    ((FOR_SECOND, ("::ffff:192.0.2.1", 65_535, 7, 3), 1), bytes(10) + b"\xff\xff\x7f\0\0\5"),
]


@pytest.mark.parametrize("returned", [False, True])
def test_source_destination_and_ecn_are_handed_over(returned: bool) -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        steering = Steering((FIRST, SECOND))
        inboxes = [pair() for _ in range(2)]
        first, second = (Handover(runtime, inbox, steering, Counters()) for inbox, _ in inboxes)
        first.steer(steering, {SECOND: inboxes[SECOND][1]})
        delivered: list[tuple[int, list[HandedOver], bool]] = []
        arrived = asyncio.Event()

        def deliver(*batch: object) -> None:
            delivered.append(batch)
            arrived.set()

        second.start(deliver)
        hand = first.give_back if returned else first.pass_on
        for datagram, asked in DATAGRAMS:
            assert hand(5, datagram, asked)
        await asyncio.wait_for(arrived.wait(), 30)
        assert delivered == [(5, DATAGRAMS, returned)]
        first.close()
        second.close()
        inboxes[FIRST][1].close()
        await runtime.close()

    run(scenario)


def long_header(first: int) -> HandedOver:
    """Return an Initial whose connection ID begins with a byte."""
    connection_id = bytes((first,)) + b"7654321"
    return ((b"\xc3\0\0\0\1\x08" + connection_id + b"\0rest", ("192.0.2.1", 5), 0), b"")


def test_after_a_swap_what_began_before_goes_to_the_slot_that_the_table_before_named() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        now = [100.0]
        runtime.now = lambda: now[0]
        (inbox, to_me), (first_inbox, to_first), (other_inbox, to_other) = (
            pair() for _ in range(3)
        )
        before = Steering((0,)).table
        # This is worker 1; another, 2, takes new connections too, and 0 leaves.
        mine = Handover(runtime, inbox, Steering((1, 2), (0,), before), Counters())
        mine.steer(Steering((1, 2), (0,), before), {0: to_first, 2: to_other})
        mine.start(lambda *_: None)
        assert mine.pass_on(0, *long_header(1))
        assert mine.pass_on(0, *long_header(2))
        mine.flush()
        assert first_inbox.recv(9_999)
        # What may begin goes to one that takes new connections, whatever its first byte.
        now[0] += SWAP_SECONDS
        assert not mine.pass_on(0, *long_header(1))
        assert mine.pass_on(0, *long_header(2))
        assert mine.pass_on(0, *long_header(0))
        assert mine.give_back(0, *long_header(0)) == (Steering((1, 2)).table[0] == 2)
        # Short headers go to who issued them, as long as there is one.
        short = ((b"\x40\0" + bytes(20), ("192.0.2.1", 5), 0), b"")
        assert mine.pass_on(0, *short)
        mine.flush()
        assert other_inbox.recv(9_999)
        mine.steer(Steering((1,)), {})
        assert not mine.pass_on(0, *short)
        assert to_first.fileno() == to_other.fileno() == -1
        mine.close()
        for one in (to_me, first_inbox, other_inbox):
            one.close()
        await runtime.close()

    run(scenario)


def test_what_a_worker_does_not_take_is_dropped_and_counted() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        inbox, to_me = pair()
        theirs, ours = pair()
        counters = Counters()
        mine = Handover(runtime, inbox, Steering((0, 1)), counters)
        mine.steer(Steering((0, 1)), {1: ours})
        # As another worker may make it, which has the same way.
        os.set_blocking(ours.fileno(), True)
        count = 500
        for _ in range(count):
            mine.pass_on(0, (b"\x40\x01" + bytes(60_000), ("192.0.2.1", 5), 0), b"")
            mine.flush()
        sent = counters.values[counters.slot("datagrams_handed_over_total")]
        dropped = counters.values[counters.slot("datagrams_handover_dropped_total")]
        assert sent + dropped == count
        assert dropped > 0
        received = 0
        theirs.setblocking(False)
        while received < sent:
            assert len(theirs.recv(200_000)) > 60_000
            received += 1
        mine.close()
        theirs.close()
        to_me.close()
        await runtime.close()

    run(scenario)


def test_a_large_turn_goes_in_several_batches() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        inbox, to_me = pair()
        theirs, ours = pair()
        mine = Handover(runtime, inbox, Steering((0, 1)), Counters())
        mine.steer(Steering((0, 1)), {1: ours})
        other = Handover(runtime, theirs, Steering((0, 1)), Counters())
        delivered: list[HandedOver] = []
        other.start(lambda _, datagrams, __: delivered.extend(datagrams))
        datagrams = [
            ((b"\x40\x01" + bytes((n,)) * 1_400, ("192.0.2.1", n), n % 4), b"") for n in range(150)
        ]
        for datagram, asked in datagrams:
            assert mine.pass_on(0, datagram, asked)
        async with asyncio.timeout(30):
            while len(delivered) < len(datagrams):
                await asyncio.sleep(0.001)
        assert delivered == datagrams
        mine.close()
        to_me.close()
        other.close()
        await runtime.close()

    run(scenario)


def test_another_programs_supervisor_says_by_the_inbox_who_takes_new_connections() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        (inbox, to_me), (theirs, to_them) = pair(), pair()
        mine = Handover(runtime, inbox, Steering((0,)), Counters())
        mine.start(lambda *_: None)
        hello = long_header(0)
        assert not mine.give_back(0, *hello)
        socket.send_fds(to_me, [steer_packet(Steering((3,), (0,)), [3])], [to_them.fileno()])
        await until(lambda: mine.give_back(0, *hello))
        assert not os.get_inheritable(mine._ways[3].fileno())
        delivered: list[HandedOver] = []
        other = Handover(runtime, theirs, Steering((3,), (0,)), Counters())
        other.start(lambda _, datagrams, returned: delivered.extend(datagrams * returned))
        await until(lambda: delivered == [hello])
        # Without the ways, those that are known stay.
        to_me.send(steer_packet(Steering((3, 4), (0,)), []))
        await until(lambda: mine._table[4] == 4)
        assert list(mine._ways) == [3]
        mine.close()
        other.close()
        to_me.close()
        to_them.close()
        await runtime.close()

    run(scenario)


def test_what_two_programs_say_counts_by_when_they_said_it() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        inbox, to_me = pair()
        ways = [pair() for _ in range(4)]
        mine = Handover(runtime, inbox, Steering((0,), at=1), Counters())
        mine.steer(Steering((3,), (0, 2), at=3), {3: ways[0][1]})
        mine.steer(Steering((0, 2), (3,), at=2), {2: ways[1][1], 3: ways[2][1], 4: ways[3][1]})
        assert mine._table == Steering((3,), (0, 2)).table
        # Of ways, those are kept that the later one did not know.
        assert mine._ways == {3: ways[0][1], 2: ways[1][1]}
        assert ways[2][1].fileno() == ways[3][1].fileno() == -1
        mine.steer(Steering((0, 2), (3,), at=3), {})
        assert mine._table == Steering((0, 2), (3,)).table
        mine.close()
        for one in (to_me, *(theirs for theirs, _ in ways)):
            one.close()
        await runtime.close()

    run(scenario)


@pytest.mark.parametrize(
    "packet",
    [
        b"\1",
        b"\1nonsense",
        b"\1" + messages.encode(messages.Discard(1)),
        b"\1" + messages.encode(messages.Steer(Steering((1,)), ("way:one",))),
        b"\1" + messages.encode(messages.Steer(Steering((1,)), ("way:1", "way:1"))),
        steer_packet(Steering((1,)), []),
        steer_packet(Steering((1,), at=2**62), [1]),
        steer_packet(Steering((1,), before=b"x"), [1]),
        steer_packet(Steering((1,), before=bytes(257)), [1]),
        steer_packet(Steering(()), [1]),
        steer_packet(Steering((1, 256)), [1]),
        steer_packet(Steering((1,), (-1,)), [1]),
        b"\0",
        b"",
    ],
)
def test_what_nobody_says_by_an_inbox_changes_nothing_and_leaves_no_descriptor(
    packet: bytes,
) -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        inbox, to_me = pair()
        mine = Handover(runtime, inbox, Steering((0,)), Counters())
        mine.start(lambda *_: None)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        socket.send_fds(to_me, [packet], [writing])
        os.close(writing)
        closed: list[bytes] = []

        def look() -> bool:
            try:
                closed.append(os.read(reading, 1))
            except BlockingIOError:
                return False
            return True

        await until(look)
        assert closed == [b""]
        assert mine._ways == {}
        assert mine._table == mine._table_for_new == Steering((0,)).table
        assert mine._table_before == b""
        os.close(reading)
        mine.close()
        to_me.close()
        await runtime.close()

    run(scenario)


def test_ways_that_lead_to_no_inbox_are_closed() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        (inbox, to_me), (theirs, to_them) = pair(), pair()
        mine = Handover(runtime, inbox, Steering((0,)), Counters())
        mine.start(lambda *_: None)
        reading, writing = os.pipe()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptors = [writing, there.fileno(), to_them.fileno()]
        socket.send_fds(to_me, [steer_packet(Steering((1, 2, 3)), [1, 2, 3])], descriptors)
        os.close(writing)
        there.close()
        await until(lambda: mine._table == Steering((1, 2, 3)).table)
        assert list(mine._ways) == [3]
        os.set_blocking(reading, False)
        here.setblocking(False)
        assert os.read(reading, 1) == here.recv(1) == b""
        os.close(reading)
        mine.close()
        for one in (here, to_me, theirs, to_them):
            one.close()
        await runtime.close()

    run(scenario)


@pytest.mark.parametrize("steering", [Steering((), at=1), Steering((1,), (256,), at=1)])
def test_slots_that_make_no_table_change_nothing(steering: Steering) -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        inbox, to_me = pair()
        mine = Handover(runtime, inbox, Steering((0,)), Counters())
        with pytest.raises(ValueError, match="slots are from 0 to 255"):
            mine.steer(steering, {})
        assert mine._steering == Steering((0,))
        assert mine._table == Steering((0,)).table
        mine.close()
        to_me.close()
        await runtime.close()

    run(scenario)
