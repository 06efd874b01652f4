"""Handing datagrams to the worker they are for, when the kernel gave them to another.

That happens for a while after the steering program was swapped (an Initial that is sent again meets
another table), and always where the kernel cannot be given a program and spreads by address.

What workers put into each other's inboxes are batches of datagrams. A supervisor puts there which
slots there are, for workers of another program, to which it has no other channel.
"""

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from spooky.edge import messages
from spooky.edge.messages import MessageError, Steer
from spooky.observe.counters import Counters
from spooky.protocol.quic.session import Address, ReceivedDatagram
from spooky.protocol.quic.steering import (
    SLOTS_MAX,
    Steering,
    has_long_header,
    slot_of,
    steering_table,
)
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

SWAP_SECONDS: Final = 15.0
"""How long datagrams are handed to the slot that the table before named: a handshake begun under
it is over by then."""

BATCH_MAX_BYTES: Final = 128 * 1024
"""Largest message between two workers; twice the largest datagram, within a socket's buffer."""

BATCHES_PER_TURN: Final = 16
"""Batches read from an inbox in one turn of the loop."""

WAYS_PER_PACKET: Final = 200
"""The kernel passes 253 descriptors at once (SCM_MAX_FD)."""

# The first byte of a packet.
_DATAGRAMS: Final = b"\0"
_STEER: Final = b"\1"

# Before each datagram: listener, whether it comes back, ECN bits, IP version, port, flow label,
# scope, address, length of the address it was sent to, this address, length.
_HEAD: Final = struct.Struct("<B?BBHII16sB16sI")

HandedOver = tuple[ReceivedDatagram, bytes]
"""A datagram, and the packed address it was sent to; empty if that is not known."""

Deliver = Callable[[int, list[HandedOver], bool], None]
"""Takes a listener's position, its datagrams, and whether they come back to be served here."""


class Handover:
    """The ways to all other workers.

    Arguments:
        runtime: The worker's.
        inbox: A SEQPACKET socket where others put what is for this worker; ours from now on.
        steering: Which slots there are.
        counters: The worker's slots.
    """

    def __init__(
        self,
        runtime: Runtime,
        inbox: socket.socket,
        steering: Steering,
        counters: Counters,
    ) -> None:
        self._runtime = runtime
        self._inbox = inbox
        self._ways: dict[int, socket.socket] = {}
        self._steering = steering
        self._table = self._table_for_new = self._table_before = b""
        self._swapped = 0.0
        self._batches: dict[int, list[bytes]] = {}
        self._marked = False
        self._deliver: Deliver = lambda _listener, _datagrams, _returned: None
        self._values = counters.values
        self._sent = counters.slot("datagrams_handed_over_total")
        self._dropped = counters.slot("datagrams_handover_dropped_total")
        inbox.setblocking(False)
        self.steer(steering, {})

    def start(self, deliver: Deliver) -> None:
        """Deliver what others hand over from now on, and have done so before."""
        self._deliver = deliver
        self._swapped = self._runtime.now()
        self._runtime.loop.add_reader(self._inbox.fileno(), self._on_readable)

    def steer(self, steering: Steering, ways: Mapping[int, socket.socket]) -> None:
        """Go by other slots, if none said later are known.

        Arguments:
            ways: To the inboxes of slots that are new; ours from now on.

        Raises:
            ValueError: They are none that can be; nothing is changed.
        """
        is_latest = steering.at >= self._steering.at
        if is_latest:
            table, table_for_new = steering.table, steering_table(steering.active)
            self._steering = steering
            self._table, self._table_for_new = table, table_for_new
            self._table_before = steering.before
            self._swapped = self._runtime.now()
        for slot, way in ways.items():
            way.setblocking(False)
            if slot in self._ways:
                old, way = (self._ways[slot], way) if is_latest else (way, self._ways[slot])
                old.close()
            self._ways[slot] = way
        for slot in self._ways.keys() - {*self._steering.active, *self._steering.leaving}:
            self._ways.pop(slot).close()

    def pass_on(self, listener: int, datagram: ReceivedDatagram, asked: bytes) -> bool:
        """Hand a datagram of no connection of ours to the worker it is for.

        Arguments:
            listener: The position of the listener it came through.
            asked: The packed address it was sent to; empty if that is not known.

        Returns:
            Whether it was; if not, it is ours to answer.
        """
        if not self._ways:
            return False
        payload = datagram[0]
        table = self._table
        if self._table_before and has_long_header(payload):
            if self._runtime.now() - self._swapped < SWAP_SECONDS:
                table = self._table_before
            else:
                self._table_before = b""
        slot = slot_of(payload, table)
        if slot is None or slot not in self._ways:
            return False
        self._add(slot, listener, (datagram, asked), returned=False)
        return True

    def give_back(self, listener: int, datagram: ReceivedDatagram, asked: bytes) -> bool:
        """Hand a datagram that begins a connection to who may begin it, when we may not.

        Returns:
            Whether anybody may.
        """
        slot = slot_of(datagram[0], self._table_for_new)
        if slot is None or slot not in self._ways:
            return False
        self._add(slot, listener, (datagram, asked), returned=True)
        return True

    def flush(self) -> None:
        """Send what was added in this turn."""
        self._marked = False
        batches, self._batches = self._batches, {}
        for slot, entries in batches.items():
            batch: list[bytes] = []
            size = len(_DATAGRAMS)
            for entry in entries:
                if size + len(entry) > BATCH_MAX_BYTES:
                    self._send(slot, batch)
                    batch, size = [], len(_DATAGRAMS)
                batch.append(entry)
                size += len(entry)
            self._send(slot, batch)

    def close(self) -> None:
        """Close all ways."""
        self._runtime.loop.remove_reader(self._inbox.fileno())
        for way in (self._inbox, *self._ways.values()):
            way.close()

    def _add(self, slot: int, listener: int, datagram: HandedOver, *, returned: bool) -> None:
        self._batches.setdefault(slot, []).append(_encode(listener, datagram, returned))
        if not self._marked:
            self._marked = True
            self._runtime.mark(self)

    def _send(self, slot: int, batch: list[bytes]) -> None:
        try:
            # Others share the way and may make it one that waits.
            self._ways[slot].send(b"".join((_DATAGRAMS, *batch)), socket.MSG_DONTWAIT)
        except (OSError, KeyError):
            # It does not keep up, or has just gone: to QUIC, lost packets.
            self._values[self._dropped] += len(batch)
        else:
            self._values[self._sent] += len(batch)

    def _on_readable(self) -> None:
        for _ in range(BATCHES_PER_TURN):
            try:
                packet, descriptors, _, _ = socket.recv_fds(
                    self._inbox, BATCH_MAX_BYTES, WAYS_PER_PACKET
                )
            except BlockingIOError:
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:
                _close_all(descriptors)
                self._runtime.loop.remove_reader(self._inbox.fileno())
                return
            if packet.startswith(_STEER):
                self._steer_as_told(packet.removeprefix(_STEER), descriptors)
                continue
            # None comes with these; who sends some all the same must not use up ours.
            _close_all(descriptors)
            for (listener, returned), datagrams in _decode(packet).items():
                self._deliver(listener, datagrams, returned)

    def _steer_as_told(self, data: bytes, descriptors: list[int]) -> None:
        """Go by what another program's supervisor says, or a worker that an attacker took over."""
        try:
            message = messages.decode_for_worker(data)
            if not isinstance(message, Steer):
                raise MessageError(f"{type(message).__name__} is out of place")
            slots = [int(name.removeprefix("way:")) for name in message.descriptors]
            if len(set(slots)) < max(len(slots), len(descriptors)):
                raise MessageError("not every way has a slot of its own")
            _check(message.steering)
        except (MessageError, ValueError) as error:
            logger.error("cannot understand the other program: %s", error)
            _close_all(descriptors)
            return
        # There are fewer than slots if this process may have no more.
        self.steer(message.steering, _ways(slots, descriptors))


def _check(steering: Steering) -> None:
    """Refuse what no supervisor says.

    Raises:
        ValueError: It makes no table, or is said to be later than now: nothing said after it would
            count.
    """
    if steering.at > time.monotonic_ns():
        raise ValueError("it is from a time to come")
    if len(steering.before) not in (0, SLOTS_MAX):
        raise ValueError(f"a table of {len(steering.before)} bytes")
    steering_table(steering.active, steering.leaving)


def _ways(slots: Sequence[int], descriptors: Sequence[int]) -> dict[int, socket.socket]:
    """Return the ways to slots; what can be none is closed."""
    ways = {}
    for slot, descriptor in zip(slots, descriptors, strict=False):
        try:
            way = socket.socket(fileno=descriptor)
        except OSError as error:
            logger.error("what another program sent as the way to slot %d: %s", slot, error)
            os.close(descriptor)
            continue
        if (way.family, way.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            logger.error("what another program sent as the way to slot %d leads elsewhere", slot)
            way.close()
            continue
        way.set_inheritable(False)
        ways[slot] = way
    return ways


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def steer_packet(steering: Steering, slots: Sequence[int]) -> bytes:
    """Return what to put into an inbox to have its worker go by other slots.

    Arguments:
        slots: Those to which there are ways with it, in this order.
    """
    return _STEER + messages.encode(Steer(steering, tuple(f"way:{slot}" for slot in slots)))


def _encode(listener: int, datagram: HandedOver, returned: bool) -> bytes:
    (payload, (host, port, *rest), ecn), asked = datagram
    flow, scope = rest or (0, 0)
    version = 6 if rest else 4
    address = socket.inet_pton(socket.AF_INET6 if rest else socket.AF_INET, host.partition("%")[0])
    source = (version, port, flow, scope, address)
    return _HEAD.pack(listener, returned, ecn, *source, len(asked), asked, len(payload)) + payload


def _decode(batch: bytes) -> dict[tuple[int, bool], list[HandedOver]]:
    """Return the datagrams of a batch by listener and by whether they come back."""
    datagrams: dict[tuple[int, bool], list[HandedOver]] = {}
    at = len(_DATAGRAMS)
    while at < len(batch):
        head = _HEAD.unpack_from(batch, at)
        listener, returned, ecn, version, port, flow, scope, address, *asked, length = head
        at += _HEAD.size
        source: Address
        if version == 6:
            source = (socket.inet_ntop(socket.AF_INET6, address), port, flow, scope)
        else:
            source = (socket.inet_ntop(socket.AF_INET, address[:4]), port)
        payload = batch[at : at + length]
        at += length
        datagram = ((payload, source, ecn), asked[1][: asked[0]])
        datagrams.setdefault((listener, returned), []).append(datagram)
    return datagrams
