"""Workers of other programs, which finish what they have: followed until they are gone."""

import asyncio
import itertools
import os
import socket
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spooky.edge.handover import WAYS_PER_PACKET, steer_packet
from spooky.protocol.quic.steering import Steering

AGAIN_SECONDS: Final = 0.05
"""After which one is told that could not be: if its inbox was full, it reads many in that time."""

Told = tuple[Steering, Mapping[int, socket.socket]]
"""Which slots there are, and the ways to those that take new connections."""


@dataclass(frozen=True, slots=True)
class _Stranger:
    """A worker.

    Attributes:
        way: To its inbox.
        process: Its process.
    """

    way: socket.socket
    process: int


class Strangers:
    """The workers of other programs.

    The kernel gives them new connections still, by the first byte of the connection ID, and they
    give these back. Their own supervisor may be gone or know nothing of later workers here, so they
    are told by their inboxes who takes new connections.

    Arguments:
        told: Returns what they are to know now; ``None`` where that is for another program to say.
        on_gone: Called with the slot of each that has finished.
    """

    def __init__(self, told: Callable[[], Told | None], on_gone: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = told
        self._on_gone = on_gone
        self._by_slot: dict[int, _Stranger] = {}
        # Slots of those that are to be told again.
        self._untold: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        """Iterate over their slots."""
        return iter(self._by_slot)

    def processes(self) -> dict[int, int]:
        """Return new descriptors of their processes by slot, the caller's to close."""
        return {slot: os.dup(stranger.process) for slot, stranger in self._by_slot.items()}

    def add(self, slot: int, way: socket.socket, process: int) -> None:
        """Know one.

        Arguments:
            way: To its inbox; stays the caller's.
            process: Its process, ours from now on.
        """
        way.setblocking(False)
        self._by_slot[slot] = _Stranger(way, process)

    def follow(self) -> None:
        """Notice their ends from now on, and tell them who takes new connections."""
        for slot, stranger in self._by_slot.items():
            self._loop.add_reader(stranger.process, self._on_exit, slot)
        self.tell()

    def tell(self) -> None:
        """Tell all who takes new connections now."""
        for slot in self._by_slot:
            self._tell(slot)

    def close(self) -> None:
        """Follow none any more; idempotent."""
        for stranger in self._by_slot.values():
            self._loop.remove_reader(stranger.process)
            os.close(stranger.process)
        self._by_slot.clear()

    def _tell(self, slot: int) -> None:
        told = self._told()
        if told is None:
            return
        way = self._by_slot[slot].way
        steering, ways = told
        rest = iter(sorted(ways))
        try:
            while part := list(itertools.islice(rest, WAYS_PER_PACKET)):
                descriptors = array("i", [ways[other].fileno() for other in part])
                passed = socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors
                # Workers share the way and may make it one that waits.
                way.sendmsg([steer_packet(steering, part)], [passed], socket.MSG_DONTWAIT)
        except OSError:
            # There is no room, or it has just gone, which its process says.
            if slot not in self._untold:
                self._untold.add(slot)
                self._loop.call_later(AGAIN_SECONDS, self._tell_again, slot)

    def _tell_again(self, slot: int) -> None:
        self._untold.discard(slot)
        if slot in self._by_slot:
            self._tell(slot)

    def _on_exit(self, slot: int) -> None:
        process = self._by_slot.pop(slot).process
        self._loop.remove_reader(process)
        os.close(process)
        self._on_gone(slot)
