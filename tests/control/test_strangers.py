"""Workers of another program are told who takes new connections, whatever becomes of their own."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky._core import COMPILED
from spooky.control.crew import Crew
from spooky.control.slots import Slots
from spooky.control.strangers import Strangers
from spooky.edge import messages
from spooky.edge.handover import WAYS_PER_PACKET
from spooky.edge.messages import Steer
from spooky.observe.segment import create_segment
from spooky.protocol.quic.steering import Steering
from tests.support.proxy import run
from tests.support.waiting import until

STRANGERS = (2, 3)


class Inboxes:
    """Those of other programs' workers, which a test reads."""

    def __init__(self) -> None:
        self.pairs = {
            slot: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for slot in STRANGERS
        }
        for inbox, _ in self.pairs.values():
            inbox.setblocking(False)

    def told(self, slot: int) -> list[tuple[Steer, int]]:
        """Return what one was told, and how many ways came with it."""
        found: list[tuple[Steer, int]] = []
        while True:
            try:
                packet, ways, _, _ = socket.recv_fds(self.pairs[slot][0], 100_000, 250)
            except BlockingIOError:
                return found
            for way in ways:
                os.close(way)
            if len(packet) > 1:
                message = messages.decode_for_worker(packet[1:])
                assert isinstance(message, Steer)
                found.append((message, len(ways)))


def process() -> int:
    """Return a descriptor of a process that does not end meanwhile: this one."""
    return os.pidfd_open(os.getpid())


@contextmanager
def inboxes() -> Iterator[Inboxes]:
    made = Inboxes()
    try:
        yield made
    finally:
        for pair in made.pairs.values():
            for end in pair:
                end.close()


def test_one_whose_inbox_is_full_is_told_what_holds_when_there_is_room() -> None:
    async def scenario() -> None:
        with inboxes() as others:
            told_now = Steering((0,))
            full, roomy = (others.pairs[slot][1] for slot in STRANGERS)
            strangers = Strangers(lambda: (told_now, {0: roomy}), lambda _: None)
            for slot, (_, way) in others.pairs.items():
                strangers.add(slot, way, process())
            with suppress(BlockingIOError):
                while full.send(b"\0"):
                    pass
            # As another worker may make it, which has the same way.
            full.setblocking(True)
            strangers.tell()
            assert [(steer.steering, ways) for steer, ways in others.told(3)] == [(told_now, 1)]
            told_now = Steering((0, 1))
            assert others.told(2) == []
            told: list[tuple[Steer, int]] = []

            def look() -> bool:
                told.extend(others.told(2))
                return bool(told)

            await until(look)
            assert [(steer.steering, ways) for steer, ways in told] == [(told_now, 1)]
            strangers.close()

    run(scenario)


def test_more_ways_than_the_kernel_passes_at_once_go_in_several_packets() -> None:
    async def scenario() -> None:
        with inboxes() as others:
            slots = tuple(range(WAYS_PER_PACKET + 3))
            ways = dict.fromkeys(slots, others.pairs[2][1])
            strangers = Strangers(lambda: (Steering(slots), ways), lambda _: None)
            for slot, (_, way) in others.pairs.items():
                strangers.add(slot, way, process())
            strangers.tell()
            told = others.told(2)
            assert [count for _, count in told] == [WAYS_PER_PACKET, 3]
            assert [name for steer, _ in told for name in steer.descriptors] == [
                f"way:{slot}" for slot in slots
            ]
            assert {steer.steering.active for steer, _ in told} == {slots}
            strangers.close()

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="the twin has one worker")
def test_who_takes_new_connections_is_said_at_every_change_by_the_program_that_serves() -> None:
    async def scenario() -> None:
        segment, file = create_segment(8)
        slots = Slots(1, Steering((2,)))
        crew = Crew(slots, segment, cast(Any, None), lambda *_: None, slots.free)
        crew._open_inbox(0)
        with inboxes() as others:
            inbox, way = others.pairs[2]
            crew.inherit(2, inbox.dup(), way.dup(), process())
            crew.begin()
            assert [steer.steering.active for steer, _ in others.told(2)] == [(0,)]
            # Another began, and did not take over.
            inbox, way = others.pairs[3]
            named = {"inbox:3": inbox.fileno(), "way:3": way.fileno(), "process:3": process()}
            slots.inherit((3,))
            crew.adopt((3,), named)
            os.close(named["process:3"])
            for slot in STRANGERS:
                ((steer, _),) = others.told(slot)
                assert (steer.steering.active, steer.steering.leaving) == ((0,), STRANGERS)
            crew._open_inbox(1)
            slots.coming = (1,)
            slots._commit()
            crew._preparation = cast(Any, SimpleNamespace(change=SimpleNamespace(rolling=True)))
            crew.committed()
            ((steer, ways),) = others.told(3)
            assert (steer.steering.active, steer.descriptors, ways) == ((1,), ("way:1",), 1)
            # After that, this program may not know who does.
            crew.handed_over = True
            crew._strangers.tell()
            crew._on_stranger_gone(2)
            assert others.told(3) == []
            crew.handed_over = False
            crew._give_free(0)
            ((steer, _),) = others.told(3)
            assert steer.steering.leaving == (3,)
            crew.close()
        os.close(file)

    run(scenario)
