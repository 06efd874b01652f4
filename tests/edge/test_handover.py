"""Datagrams handed from one worker to another arrive with all that is known about them."""

import asyncio
import socket

import pytest

from spooky.edge.handover import SWAP_SECONDS, HandedOver, Handover
from spooky.observe.counters import Counters
from spooky.protocol.quic.steering import steering_table
from spooky.runtime import Runtime
from tests.support.proxy import run

FIRST, SECOND = 0, 1

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
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        table = steering_table([FIRST, SECOND])
        first, second = (
            Handover(runtime, {1 - slot: end}, table, Counters()) for slot, end in enumerate(ends)
        )
        delivered: list[tuple[int, list[HandedOver], bool]] = []
        arrived = asyncio.Event()

        def deliver(*batch: object) -> None:
            delivered.append(batch)
            arrived.set()

        second.start(deliver)
        hand = first.give_back if returned else first.pass_on
        for datagram, asked in DATAGRAMS:
            assert hand(5, datagram, asked)
        await asyncio.wait_for(arrived.wait(), 10)
        assert delivered == [(5, DATAGRAMS, returned)]
        first.close()
        second.close()
        await runtime.close()

    run(scenario)


def long_header(first: int) -> HandedOver:
    """Return an Initial whose connection ID begins with a byte."""
    connection_id = bytes((first,)) + b"7654321"
    return ((b"\xc3\0\0\0\1\x08" + connection_id + b"\0rest", ("192.0.2.1", 5), 0), b"")


def ways_of(slot: int, ends: list[socket.socket]) -> dict[int, socket.socket]:
    """Return the ways of a slot to those beside it."""
    return {other: end for other, end in enumerate(ends) if other != slot}


def test_after_a_swap_what_began_before_goes_to_the_slot_that_the_table_before_named() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        now = [100.0]
        runtime.now = lambda: now[0]
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        mine = Handover(
            runtime, ways_of(0, [one for one, _ in pairs]), steering_table([0]), Counters()
        )
        initial, asked = long_header(2)
        assert not mine.pass_on(0, initial, asked)
        mine.steer(steering_table([0, 1]))
        # Byte 2 meant slot 0 before and after; byte 1 meant slot 0 before, and 1 now.
        assert not mine.pass_on(0, *long_header(1))
        now[0] += SWAP_SECONDS
        assert mine.pass_on(0, *long_header(1))
        # A short header means what it says, whatever the tables.
        mine.steer(steering_table([0]))
        assert mine.pass_on(0, (b"\x40\x02" + bytes(20), ("192.0.2.1", 5), 0), b"")
        mine.flush()
        assert pairs[1][1].recv(9_999)
        assert pairs[2][1].recv(9_999)
        mine.close()
        for one, other in pairs:
            one.close()
            other.close()
        await runtime.close()

    run(scenario)


def test_what_a_worker_does_not_take_is_dropped_and_counted() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        counters = Counters()
        mine = Handover(runtime, {1: ours}, steering_table([0, 1]), counters)
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
        await runtime.close()

    run(scenario)


def test_a_large_turn_goes_in_several_batches() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        table = steering_table([0, 1])
        mine = Handover(runtime, {1: ours}, table, Counters())
        other = Handover(runtime, {0: theirs}, table, Counters())
        delivered: list[HandedOver] = []
        other.start(lambda _, datagrams, __: delivered.extend(datagrams))
        datagrams = [
            ((b"\x40\x01" + bytes((n,)) * 1_400, ("192.0.2.1", n), n % 4), b"") for n in range(150)
        ]
        for datagram, asked in datagrams:
            assert mine.pass_on(0, datagram, asked)
        async with asyncio.timeout(10):
            while len(delivered) < len(datagrams):
                await asyncio.sleep(0.001)
        assert delivered == datagrams
        mine.close()
        other.close()
        await runtime.close()

    run(scenario)
