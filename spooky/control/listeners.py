"""The sockets of all listeners: bound for a change, kept through it, closed when they drained."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spooky.config.performance import Performance
from spooky.config.schema import Configuration, Listener
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.control.heir import Heir
from spooky.control.slots import Slots
from spooky.control.sockets import (
    BindError,
    ListenerSockets,
    bind_again,
    bind_listener,
    is_same_place,
    known_as,
    listen,
    numbers_at,
    others_among,
    share_port,
    warn_of_others,
)
from spooky.control.takeover import EndedListener, InheritedListener, TakeOverError
from spooky.edge.listener import CLOSE_SECONDS, READ_SECONDS
from spooky.edge.listener_numbers import ListenerIdentity, listener_identities, number_listeners
from spooky.edge.turning_away import ARRIVAL_SECONDS
from spooky.protocol.quic.steering import steering_table

logger = logging.getLogger(__name__)

CLOSE_MARGIN_SECONDS: Final = 1.0
"""How much longer than workers may take to drain a removed listener its sockets are kept here: the
kernel tells slots apart by the order of the sockets, and none may go before the others."""

REFUSE_SECONDS: Final = 0.04
"""How long workers have to accept the TCP connections that wait when a listener ends: they would be
reset, and workers without requests see within 20 ms that they are to do it."""

END_SECONDS: Final = READ_SECONDS + CLOSE_MARGIN_SECONDS
"""How much longer than that its number is kept: workers read it yet, and would take another of this
number for the same one, come back."""


@dataclass(frozen=True, slots=True)
class _Draining:
    """A removed listener whose sockets workers may still read.

    Attributes:
        identity: Which it was.
        sockets: Its sockets.
        readers: The slots of those workers.
        closing: Closes the sockets in time.
    """

    identity: ListenerIdentity
    sockets: ListenerSockets
    readers: set[int]
    closing: asyncio.TimerHandle


@dataclass(frozen=True, slots=True)
class _Ending:
    """A removed listener whose sockets are closed here, and may not be in workers.

    Attributes:
        address: Where it was.
        ended: Set when no worker has it any more, or it is back.
        clearing: Sets it in time.
    """

    address: tuple[str, int]
    ended: asyncio.Event
    clearing: asyncio.TimerHandle


class Listeners:
    """Owns the sockets.

    Arguments:
        slots: Which worker slots there are.

    Attributes:
        numbers: The number of each listener in force, in the order of the configuration.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, ListenerSockets] = {}
        self._draining: dict[int, _Draining] = {}
        self._ending: dict[int, _Ending] = {}
        # What a change under way has bound, by number.
        self._bound: dict[int, ListenerSockets] = {}
        self._bound_numbers: dict[ListenerIdentity, int] = {}
        # How many UDP sockets of each are another program's too.
        self._inherited: dict[int, int] = {}
        self.numbers: dict[ListenerIdentity, int] = {}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The bound addresses and ports, in the order of the configuration."""
        return [self._sockets[number].address for number in self.numbers.values()]

    def open(self, configuration: Configuration) -> None:
        """Bind those to start with.

        Raises:
            BindError: An address cannot be bound.
        """
        for listener in configuration.active_listeners:
            # Before any is bound: ours may overlap.
            warn_of_others(listener.address, listener.port)
        self._bind(configuration)
        for sockets in self._bound.values():
            listen(sockets)
        self._adopt()

    # --- from one program to another ----------------------------------------------------------

    def inheritance(self) -> tuple[tuple[InheritedListener, ...], dict[str, int]]:
        """Return the listeners in force and those that drain, and their descriptors by name."""
        listeners, descriptors = [], {}
        for identity, number in self.numbers.items():
            sockets = self._sockets[number]
            descriptors[f"tcp:{number}"] = sockets.tcp.fileno()
            for position, udp in enumerate(sockets.udp):
                descriptors[f"udp:{number}:{position}"] = udp.fileno()
            unread = tuple(sockets.unread)
            listeners.append(
                InheritedListener(identity, number, len(sockets.udp), sockets.steered, unread)
            )
        for number, draining in self._draining.items():
            sockets, seconds = draining.sockets, draining.closing.when() - self._loop.time()
            for position, udp in enumerate(sockets.udp):
                descriptors[f"udp:{number}:{position}"] = udp.fileno()
            unread = tuple({*self._slots.active, *self._slots.leaving} - draining.readers)
            listeners.append(
                InheritedListener(
                    draining.identity, number, len(sockets.udp), sockets.steered, unread, seconds
                )
            )
        return tuple(listeners), descriptors

    def ended(self) -> tuple[EndedListener, ...]:
        """Return those whose numbers and places are not free yet, as workers may have them."""
        now = self._loop.time()
        return tuple(
            EndedListener(number, ending.address, max(0.0, ending.clearing.when() - now))
            for number, ending in self._ending.items()
        )

    def inherit(self, heir: Heir, performance: Performance) -> None:
        """Take what another program listens on.

        Raises:
            TakeOverError: A socket is missing.
            BindError: A socket for another slot cannot be bound.
        """
        for listener in heir.left.listeners:
            number = listener.number
            seconds = listener.drains_for
            # Of one that drains there is none.
            tcp = heir.take(f"tcp:{number}") if seconds is None else _closed()
            udp = [heir.take(f"udp:{number}:{position}") for position in range(listener.sockets)]
            there = [one for one in udp if one is not None]
            if tcp is None or len(there) < len(udp):
                raise TakeOverError(f"a socket of listener {number} is missing")
            sockets = ListenerSockets(there, tcp, listener.steered, set(listener.unread))
            if seconds is not None:
                readers = {*heir.slots} - sockets.unread
                self._drain(number, listener.identity, sockets, readers, seconds)
                continue
            self._sockets[number] = sockets
            self.numbers[listener.identity] = number
            self._inherited[number] = len(there)
            sockets.grow(self._slots.count, performance)
        for ended in heir.left.ended:
            self._end_in(ended.ends_in, ended.number, ended.address)

    def own_descriptors(self) -> dict[str, int]:
        """Return the descriptors of UDP sockets that the other program does not have, by name."""
        return {
            f"udp:{number}:{position}": self._sockets[number].udp[position].fileno()
            for number, first in self._inherited.items()
            for position in range(first, len(self._sockets[number].udp))
        }

    def adopt_sockets(self, named: Mapping[str, int]) -> None:
        """Keep what another program bound that did not take over; its workers may read it.

        The kernel tells slots apart by the order of the sockets: ours come after these.

        Arguments:
            named: What the other's :meth:`own_descriptors` gave.
        """
        for name, descriptor in named.items():
            kind, *numbers = name.split(":")
            if kind == "udp":
                sockets = self._sockets[int(numbers[0])]
                sockets.udp.append(socket.socket(fileno=os.dup(descriptor)))

    def steer(self) -> None:
        """Have the kernel go by the slots that there are now."""
        steering = self._slots.steering
        for sockets in self._sockets.values():
            if sockets.steered:
                leaving = set(steering.leaving) - sockets.unread
                sockets.steer(steering_table(steering.active, leaving))

    def descriptors(self, slot: int) -> dict[str, int]:
        """Return the descriptors of a slot's sockets, as messages name them."""
        in_force = {number: self._sockets[number] for number in self.numbers.values()}
        return _named(in_force, slot)

    def others(self) -> str:
        """Return why no other workers can take over now; empty if they can."""
        draining = (one.sockets for one in self._draining.values())
        return others_among([*self._sockets.values(), *draining])

    # --- changes ------------------------------------------------------------------------------

    async def prepare(self, change: NextGeneration) -> Step:
        """Bind what is new.

        Raises:
            PrepareError: An address cannot be bound.
        """
        configuration = change.candidate.configuration
        if change.rolling and (reason := self.others()):
            raise PrepareError(reason)
        await self._have_ended(configuration)
        try:
            self._bind(configuration)
        except (BindError, OSError, ValueError) as error:
            raise PrepareError(str(error)) from error

        def commit() -> None:
            kept = set(self._bound_numbers.values())
            removed = {one for one, number in self.numbers.items() if number not in kept}
            self._retire(removed, change)
            self._adopt()
            for number in self.numbers.values():
                self._sockets[number].use_buffers(configuration.performance)
            if change.rolling:
                self.steer()

        return Step(commit, self._discard, self._listen)

    @property
    def prepared_numbers(self) -> tuple[int, ...]:
        """The numbers of all listeners of the change under way, in its order."""
        return tuple(self._bound_numbers.values())

    def prepared_descriptors(self, slot: int) -> dict[str, int]:
        """Return the descriptors of a slot's sockets that are new in the change under way."""
        return _named(self._bound, slot)

    def coming_descriptors(self, slot: int) -> dict[str, int]:
        """Return the descriptors of a slot's sockets that its worker has after a change."""
        wanted = self._bound_numbers.values()
        kept = {number: self._sockets[number] for number in wanted if number not in self._bound}
        return _named({**kept, **self._bound}, slot)

    def left(self, slot: int) -> None:
        """Have the kernel give nothing to a slot any more whose worker is gone."""
        for draining in self._draining.values():
            draining.readers.discard(slot)
        for sockets in self._sockets.values():
            sockets.unread.discard(slot)
        self.steer()

    def close(self) -> None:
        """Close all; idempotent."""
        self._discard()
        for number in list(self._draining):
            self._close_draining(number)
        for sockets in self._sockets.values():
            sockets.close()

    def stop_accepting(self, *, handed_over: bool) -> None:
        """Have the system refuse TCP connections: one that nobody will accept is better refused.

        Arguments:
            handed_over: Whether another program accepts them.
        """
        for sockets in self._sockets.values():
            if not handed_over:
                sockets.turn_away()
            sockets.tcp.close()

    async def _have_ended(self, configuration: Configuration) -> None:
        """Wait until no worker has what was removed where a listener is to be now.

        Sockets bound beside theirs would come after them in the order by which the kernel tells
        slots apart.
        """
        for listener in configuration.active_listeners:
            for ending in list(self._ending.values()):
                if is_same_place(ending.address, (listener.address, listener.port)):
                    await ending.ended.wait()

    def _bind(self, configuration: Configuration) -> None:
        listeners: Mapping[ListenerIdentity, Listener] = dict(
            zip(
                listener_identities(configuration.active_listeners),
                configuration.active_listeners,
                strict=True,
            )
        )
        in_force = known_as(listeners, self.numbers, self._sockets)
        leaving = [self._sockets[in_force[one]] for one in in_force.keys() - listeners.keys()]
        draining = {number: one.sockets for number, one in self._draining.items()}
        back = numbers_at(listeners.keys() - in_force.keys(), draining)
        avoid = {*self._draining, *self._ending}
        numbers = number_listeners(listeners.values(), in_force | back, avoid)
        performance = configuration.performance
        try:
            for identity, number in numbers.items():
                if identity in in_force:
                    self._sockets[number].grow(self._slots.count, performance)
                else:
                    place = identity.address, identity.port
                    beside = next((one for one in leaving if one.overlaps(*place)), None)
                    self._bound[number] = self._bind_one(
                        listeners[identity], performance, self._draining.get(number), beside
                    )
        except BaseException:
            self._discard()
            raise
        self._bound_numbers = numbers

    def _bind_one(
        self,
        listener: Listener,
        performance: Performance,
        before: _Draining | None,
        beside: ListenerSockets | None,
    ) -> ListenerSockets:
        """Bind what is not in force.

        Arguments:
            before: The same, if it was removed and drains.
            beside: What overlaps with it and ends with the change.
        """
        count, leaving = self._slots.count, self._slots.leaving
        after = self._make_room(listener.address, listener.port)
        if before is None:
            table = steering_table(self._slots.active)
            bound = bind_listener(listener, performance, count, table, beside=beside, after=after)
            bound.unread.update(leaving)
        else:
            table = steering_table(self._slots.active, leaving & before.readers)
            bound = bind_again(before.sockets, performance, count, table, beside=beside)
            bound.unread.update(leaving - before.readers)
        return bound

    def _make_room(self, address: str, port: int) -> bool:
        """Have no removed listener get TCP clients where another is to.

        Returns:
            Whether there is one, whose socket workers may have yet; also those of another program.
        """
        there = [one for one in self._draining.values() if one.sockets.overlaps(address, port)]
        for draining in there:
            if not draining.sockets.turn_away():
                draining.sockets.refuse()
        return bool(there)

    def _listen(self) -> None:
        for sockets in self._bound.values():
            try:
                listen(sockets)
            except BindError as error:
                raise PrepareError(str(error)) from error

    def _adopt(self) -> None:
        for number in self._bound.keys() & self._draining.keys():
            # What is bound has the same sockets, by descriptors of its own.
            self._close_draining(number)
        for number in self._bound.keys() & self._ending.keys():
            # Its removal ended while its return was prepared.
            self._end(number)
        self._sockets |= self._bound
        self.numbers = self._bound_numbers
        self._bound, self._bound_numbers = {}, {}

    def _discard(self) -> None:
        if self._bound:
            for sockets in self._sockets.values():
                share_port(sockets.tcp, False)
        for sockets in self._bound.values():
            sockets.close()
        self._bound, self._bound_numbers = {}, {}

    def _retire(self, removed: set[ListenerIdentity], change: NextGeneration) -> None:
        readers = set(self._slots.leaving)
        if not change.rolling:
            # Those that begin with the change never have what it removes.
            readers.update(self._slots.active)
        for identity in removed:
            number = self.numbers[identity]
            sockets = self._sockets.pop(number)
            if sockets.turn_away():
                # Workers close theirs before that.
                self._loop.call_later(ARRIVAL_SECONDS + CLOSE_MARGIN_SECONDS, sockets.refuse)
            elif self._takes_some_of(sockets):
                # It would go on to get what comes for the new one, when nobody accepts it any more.
                sockets.refuse()
            else:
                self._loop.call_later(REFUSE_SECONDS, sockets.refuse)
            seconds = change.drain_seconds + CLOSE_SECONDS + CLOSE_MARGIN_SECONDS
            self._drain(number, identity, sockets, readers - sockets.unread, seconds)

    def _takes_some_of(self, removed: ListenerSockets) -> bool:
        """Return whether the kernel gives a removed listener what is for one that is new."""
        return any(
            removed.overlaps(*new.address) and (not removed.is_wildcard or new.is_wildcard)
            for new in self._bound.values()
        )

    def _drain(
        self,
        number: int,
        identity: ListenerIdentity,
        sockets: ListenerSockets,
        readers: set[int],
        seconds: float,
    ) -> None:
        closing = self._loop.call_later(seconds, self._forget, number)
        self._draining[number] = _Draining(identity, sockets, readers, closing)

    def _forget(self, number: int) -> None:
        """Close a listener that drained; its number may be given again when workers forget it."""
        self._end_in(END_SECONDS, number, self._draining[number].sockets.address)
        self._close_draining(number)

    def _end_in(self, seconds: float, number: int, address: tuple[str, int]) -> None:
        clearing = self._loop.call_later(seconds, self._end, number)
        self._ending[number] = _Ending(address, asyncio.Event(), clearing)

    def _end(self, number: int) -> None:
        ending = self._ending.pop(number)
        ending.clearing.cancel()
        ending.ended.set()

    def _close_draining(self, number: int) -> None:
        draining = self._draining.pop(number)
        draining.closing.cancel()
        draining.sockets.close()


def _closed() -> socket.socket:
    closed = socket.socket()
    closed.close()
    return closed


def _named(sockets: Mapping[int, ListenerSockets], slot: int) -> dict[str, int]:
    named: dict[str, int] = {}
    for number, one in sockets.items():
        named[f"tcp:{number}"] = one.tcp.fileno()
        named[f"udp:{number}"] = one.udp_of(slot).fileno()
    return named
