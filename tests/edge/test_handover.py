"""Datagrams handed from one worker to another arrive with all that is known about them."""

import asyncio
import socket

import pytest

from spooky.edge.handover import HandedOver, Handover
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
            Handover(runtime, slot, {1 - slot: end}, table, Counters())
            for slot, end in enumerate(ends)
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
