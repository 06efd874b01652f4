"""A worker: listeners over passed sockets, the generation in force, and how both change and end.

A change comes in two parts. :meth:`Worker.prepare` makes everything that the next generation needs,
without effect. The switch is the supervisor's store of its number in the shared segment: the first
request head read after that is served by the prepared generation, and what else there is to do --
settings of what is kept, listeners that come and go, freeing the generation before -- follows right
after, outside the request. A worker without requests looks at the number by itself.
"""

import asyncio
import logging
import math
import socket
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

from spooky._core import reasons
from spooky._core.timers import Timer
from spooky.config.performance import Performance
from spooky.edge.change import Change
from spooky.edge.handover import HandedOver, Handover
from spooky.edge.limits import ConnectionCap, ConnectionRate, RateLimits
from spooky.edge.listener import CLOSE_SECONDS, Listener, Surroundings
from spooky.edge.overload import OverloadWatch
from spooky.edge.settings import terms_of
from spooky.generation.compile import Environment, compile_in_turns
from spooky.generation.generation import Generation
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import SlotName
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.parameters import WINDOW_GROWTH_MAX
from spooky.protocol.quic.steering import Steering
from spooky.protocol.quic.windows import WindowAccount
from spooky.request.service import RequestService
from spooky.runtime import Runtime
from spooky.runtime.in_turns import in_turns

logger = logging.getLogger(__name__)

DRAIN_POLL_SECONDS: Final = 0.02
"""How often a draining worker looks whether it is done."""

FORGET_SECONDS: Final = 60.0
"""How long counts of what was removed are kept at least, so that they are scraped once more; less
only where room for others is scarce."""

SWITCH_POLL_SECONDS: Final = 0.02
"""How often a worker with a prepared generation looks whether it is in force, though no request
comes: listeners begin and end within 50 ms of the switch."""


class Worker:
    """Serves listeners with what is in force.

    Arguments:
        runtime: The event loop's clockwork.
        environment: Where generations are compiled.
        change: What is in force at first.
        generation: What was compiled from it.
        access_log: Where each request leaves a line, if anywhere.
        keys: The secrets that all workers share.
        slot: Its number: the first byte of its connection IDs, part of its request ids.
        handover: The ways to other workers, if there are any.
        on_switched: Called with each configuration that comes in force later.
        waits: Whether it serves clients only from :meth:`begin` on.
        on_behind: Called once if another generation is in force than this worker has, with its
            number: the worker answers requests with 503 from then on, and has to be replaced.

    Attributes:
        cut: Requests that were cut because they did not finish in time.

    Raises:
        OSError: It cannot listen.
    """

    def __init__(
        self,
        runtime: Runtime,
        environment: Environment,
        change: Change,
        generation: Generation,
        access_log: AccessLog | None,
        keys: Keys,
        slot: int = 0,
        handover: Handover | None = None,
        on_switched: Callable[[Change], None] = lambda _: None,
        on_behind: Callable[[int], None] = lambda _: None,
        waits: bool = False,
    ) -> None:
        self.runtime = runtime
        self.counters = environment.counters
        self.cut = 0
        self._environment = environment
        self._slot = slot
        self._handover = handover
        self._keys = keys
        self._on_switched = on_switched
        self._on_behind = on_behind
        self._is_behind = False
        self._prepared: Change | None = None
        self._watching: Timer | None = None
        self._forgetting: Timer | None = None
        self._forget_at = 0.0
        # A switch whose rest is still to be done: its change, and the generation before.
        self._switched: tuple[Change, Generation] | None = None
        # What generations that came in force still have to change of what is kept, and others to
        # let go of; one after the other, as they came.
        self._afterwards: deque[Generator[None, None, None]] = deque()
        self._doing: asyncio.Task[None] | None = None
        self.service = RequestService(
            runtime, generation, self.counters, access_log, slot, self._switch, self._fall_behind
        )
        performance = change.configuration.performance
        self.quic_cap, self.tcp_cap = (
            ConnectionCap(
                self.counters,
                transport,
                performance.max_active_connections,
                performance.max_half_open_connections,
            )
            for transport in ("quic", "tcp")
        )
        self._rate = ConnectionRate(_rate_limits(performance), self.counters.segment)
        self._overload = OverloadWatch(
            runtime,
            self.counters,
            slot,
            change.configuration.resilience.overload,
            (self.quic_cap, self.tcp_cap),
            self._all_listeners,
            environment.pressure.set,
        )
        self._around = Surroundings(
            runtime,
            self.service,
            self.counters,
            self.quic_cap,
            self.tcp_cap,
            self._rate,
            WindowAccount(WINDOW_GROWTH_MAX),
            slot,
            handover,
            self._overload.measures,
        )
        self._listeners: dict[int, Listener] = {}
        self._removed: dict[int, Listener] = {}
        # The ports of those that are gone: others may still hand over what came there.
        self._ports: dict[int, int] = {}
        self._first: Change | None = change
        self._drain_until = math.inf
        if not waits:
            self.begin()

    def begin(self) -> None:
        """Serve clients.

        Raises:
            OSError: It cannot listen.
        """
        change, self._first = self._first, None
        assert change is not None
        try:
            self._open_listeners(change, self.service.generation)
        except OSError:
            for listener in self._listeners.values():
                listener.close()
            raise
        self._overload.start()
        if self._handover is not None:
            self._handover.start(self._take_over)
        self._do_in_turns(self.service.generation.activation())

    @property
    def idle(self) -> bool:
        """Whether no connection is left."""
        return self.quic_cap.active == 0 and self.tcp_cap.active == 0

    @property
    def listeners(self) -> dict[int, Listener]:
        """The listeners in force, by number."""
        return self._listeners

    @property
    def removed(self) -> set[int]:
        """The numbers of listeners that were removed and still drain."""
        return set(self._removed)

    def beat(self) -> None:
        """Say in the shared segment that the loop turns."""
        self.counters.segment.beat(self._slot, int(self.runtime.now() * 1000))
        if self._first is None:
            self.look()

    def steer(self, steering: Steering, ways: Mapping[int, socket.socket]) -> None:
        """Go by other slots; the ways to those that are new are ours from now on."""
        if self._handover is not None:
            self._handover.steer(steering, ways)

    def use_keys(self, keys: Keys) -> None:
        """Seal what is sealed from now on under other keys."""
        self._keys = keys
        for listener in self._all_listeners():
            listener.use_keys(keys)

    # --- changes ------------------------------------------------------------------------------

    async def prepare(self, change: Change) -> None:
        """Make everything that a change needs, without effect until its number is in force.

        A change prepared before that did not come in force is discarded. One that cannot be
        prepared, or whose preparation is cancelled, leaves nothing behind.

        Raises:
            CompileError: It cannot be put in force.
            MaterialError: A certificate or key cannot be used.
        """
        self.look()
        self.discard()
        try:
            missing = set(change.listeners) - self._listeners.keys() - change.sockets.keys()
            if missing:
                raise ValueError(f"there are no sockets for listeners {sorted(missing)}")
            if self._doing is not None:
                # What is compiled is compared with what is there, and that must have come so far.
                await asyncio.wait({self._doing})
            generation = await compile_in_turns(
                change.configuration, change.materials, self._environment, change.number
            )
        except BaseException:
            change.close()
            raise
        self.service.prepared = generation
        self._prepared = change
        if self._watching is None:
            self._watch()

    def discard(self, number: int | None = None) -> None:
        """Undo what was prepared and is not in force, if there is such.

        Arguments:
            number: Only the generation of this number; ``None`` for any.
        """
        if self._prepared is None or number not in (None, self._prepared.number):
            return
        change, self._prepared = self._prepared, None
        generation, self.service.prepared = self.service.prepared, None
        change.close()
        if generation is not None:
            self._do_in_turns(generation.release_steps(0.0))

    def look(self) -> None:
        """Switch if what was prepared is in force, and do now all that follows."""
        self.service.in_force()
        self._settle()

    def use_addresses(self, host: str, port: int, addresses: Sequence[str]) -> None:
        """Follow a name of backends to its addresses; what leads to others finishes."""
        self._environment.use_addresses(host, port, addresses)

    def _watch(self) -> None:
        """Look until what is prepared is in force or discarded."""
        self._watching = None
        if self._prepared is not None:
            self.look()
        if self._prepared is not None:
            deadline = self.runtime.now() + SWITCH_POLL_SECONDS
            self._watching = self.runtime.schedule(deadline, self._watch)

    def _switch(self, superseded: Generation) -> None:
        """Remember what has to follow a switch; a request waits for the return."""
        change, self._prepared = self._prepared, None
        assert change is not None
        self._switched = change, superseded
        self.runtime.loop.call_soon(self._settle)

    def _settle(self) -> None:
        """Do what follows a switch."""
        if self._switched is None:
            return
        (change, superseded), self._switched = self._switched, None
        generation = self.service.generation
        self._do_in_turns(generation.activation())
        self.service.keep_decisions(change.configuration.observability.decisions.bytes)
        performance = change.configuration.performance
        for cap in (self.quic_cap, self.tcp_cap):
            cap.maximum = performance.max_active_connections
            cap.half_open_maximum = performance.max_half_open_connections
        self._rate.use(_rate_limits(performance))
        self._overload.use(change.configuration.resilience.overload)
        try:
            self._open_listeners(change, generation)
        except OSError as error:
            # The supervisor listened just before: only for want of memory can this be.
            logger.error("a listener cannot begin: %s", error)
        for number in self._listeners.keys() - set(change.listeners):
            removed = self._removed[number] = self._listeners.pop(number)
            removed.remove(change.drain_seconds, self._forget)
        self._introduce()
        self._do_in_turns(superseded.release_steps(change.drain_seconds))
        self._forget_counts_later(change.drain_seconds)
        self._on_switched(change)

    def _do_in_turns(self, steps: Generator[None, None, None]) -> None:
        """Do what follows a change between other turns of the loop, after what came before."""
        self._afterwards.append(steps)
        if len(self._afterwards) == 1:
            self._doing = self.runtime.start_task(self._do_afterwards())

    async def _do_afterwards(self) -> None:
        while self._afterwards:
            await in_turns(self._afterwards[0], self.runtime)
            self._afterwards.popleft()

    def _forget_counts_later(self, drain_seconds: float) -> None:
        """Give up the counts of what this change removed, or one before it."""
        if self.counters.is_scarce:
            self._forget_counts()
            return
        due = self.runtime.now() + FORGET_SECONDS + drain_seconds
        self._forget_at = max(self._forget_at, due)
        if self._forgetting is None:
            self._forgetting = self.runtime.schedule(self._forget_at, self._forget_if_due)

    def _forget_if_due(self) -> None:
        self._forgetting = None
        if self.runtime.now() < self._forget_at:
            # Another change came meanwhile, and what it removed is not to be seen for long enough.
            self._forgetting = self.runtime.schedule(self._forget_at, self._forget_if_due)
        else:
            self._forget_counts()

    def _forget_counts(self) -> None:
        used: dict[str, set[str]] = {"": {""}}
        for name, upstream in self.service.generation.configuration.upstream.items():
            used[name] = {"", *(backend.id for backend in upstream.listed_backends)}

        def is_used(name: SlotName) -> bool:
            labels = dict(name.labels)
            return labels.get("backend", "") in used.get(labels.get("upstream", ""), ())

        self.service.forget(is_used)

    def _open_listeners(self, change: Change, generation: Generation) -> None:
        """Begin the listeners that are new, and have the others go by the new configuration."""
        terms = terms_of(change.configuration, generation.listener_tls)
        for number, own in zip(change.listeners, terms, strict=True):
            sockets, settings = change.sockets.get(number), (change.configuration, own, self._keys)
            if sockets is None:
                self._listeners[number].use(*settings)
            elif number in self._removed:
                listener = self._listeners[number] = self._removed.pop(number)
                listener.bring_back(sockets, *settings)
            else:
                self._listeners[number] = Listener(number, sockets, self._around, *settings)

    def _forget(self, removed: Listener) -> None:
        if self._removed.get(removed.number) is removed:
            del self._removed[removed.number]
            self._ports[removed.number] = removed.port
            self._introduce()

    def _introduce(self) -> None:
        """Have listeners on the same port know each other: one may have been rebound."""
        every = self._all_listeners()
        for listener in every:
            listener.quic.kin = tuple(
                other.quic
                for other in every
                if other is not listener and other.port == listener.port
            )

    def _fall_behind(self, number: int) -> None:
        if not self._is_behind:
            self._is_behind = True
            self._on_behind(number)

    # --- the end ------------------------------------------------------------------------------

    def stay(self) -> None:
        """Go by the generation now in force to the end, whatever comes in force later."""
        if self._first is None:
            self.look()
        self.discard()
        self.service.stay()

    def hasten(self, seconds: float, *, replaced: bool = False) -> None:
        """Let a drain take no longer than so many seconds from now.

        Arguments:
            replaced: Whether others serve in its place still.
        """
        self._drain_until = min(self._drain_until, self.runtime.now() + seconds)
        if not replaced:
            for listener in self._all_listeners():
                listener.hasten()

    async def drain(self, seconds: float, *, replaced: bool = False) -> bool:
        """Take no new connections, finish what is in flight, and close.

        Arguments:
            seconds: How long exchanges in flight have; then they are cut.
            replaced: Whether others serve in its place, so that nobody waits for it.

        Returns:
            Whether all of them finished in time.
        """
        self.stay()
        self.hasten(seconds, replaced=replaced)
        for listener in self._all_listeners():
            listener.drain(replaced=replaced)
        while not self._is_done(replaced) and self.runtime.now() < self._drain_until:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self.cut = self.service.active
        if self.cut:
            logger.warning("%d requests did not finish in time and were cut", self.cut)
        await self.close()
        return not self.cut

    async def close(self) -> None:
        """Close every connection now, the sockets, and what is in force."""
        self._overload.close()
        self.discard()
        if self._first is not None:
            self._first.close()
        if not self.idle:
            for listener in self._all_listeners():
                listener.terminate(reasons.DRAIN_TIMEOUT)
            deadline = self.runtime.now() + CLOSE_SECONDS
            while self.tcp_cap.active and self.runtime.now() < deadline:
                await asyncio.sleep(DRAIN_POLL_SECONDS)
            # One more turn for the QUIC close packets.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for listener in self._all_listeners():
            listener.close()
        if self._handover is not None:
            self._handover.close()
        self._afterwards.append(self.service.generation.release_steps(0.0))
        for steps in self._afterwards:
            deque(steps, maxlen=0)

    def _is_done(self, replaced: bool) -> bool:
        """Return whether a drain has nothing left to wait for.

        Arguments:
            replaced: Whether nobody waits for it, so that it does for those on the way to listeners
                that those in its place do not have.
        """
        return self.idle and not (
            replaced and any(each.tcp.awaits_arrivals for each in self._all_listeners())
        )

    def _all_listeners(self) -> list[Listener]:
        return [*self._listeners.values(), *self._removed.values()]

    def _take_over(self, number: int, datagrams: list[HandedOver], returned: bool) -> None:
        listener = self._listeners.get(number) or self._removed.get(number)
        if listener is None:
            port = self._ports.get(number)
            listener = next((one for one in self._listeners.values() if one.port == port), None)
        if listener is not None:
            listener.quic.take_over(datagrams, returned)
        elif self._handover is not None and not returned:
            # It began after this worker was told to leave, or ends. What nobody has is lost.
            for datagram, asked in datagrams:
                self._handover.give_back(number, datagram, asked)


def _rate_limits(performance: Performance) -> RateLimits:
    return RateLimits(
        performance.new_connections_per_sec,
        performance.new_connections_burst,
        performance.new_connections_per_source_per_sec,
        performance.new_connections_per_source_burst,
    )
