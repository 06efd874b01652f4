"""A worker: listeners over passed sockets, a generation, and how both end."""

import asyncio
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spooky._core import reasons
from spooky.edge.handover import HandedOver, Handover
from spooky.edge.limits import ConnectionCap, ConnectionRate, RateLimits
from spooky.edge.quic import QuicListener, listener_name
from spooky.edge.settings import quic_settings, tcp_settings, with_keys
from spooky.edge.tcp import TcpListener
from spooky.generation.certificates import ListenerTls
from spooky.generation.generation import Generation
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.parameters import WINDOW_GROWTH_MAX
from spooky.protocol.quic.windows import WindowAccount
from spooky.request.service import RequestService
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

DRAIN_POLL_SECONDS: Final = 0.02
"""How often a draining worker looks whether it is done."""

CLOSE_SECONDS: Final = 0.2
"""How long connections that were closed by force have for their last packets."""


@dataclass(frozen=True, slots=True)
class WorkerListener:
    """What a worker needs for one listener.

    Attributes:
        udp: Its UDP socket.
        tcp: Its listening TCP socket.
        tls: Its certificates.
    """

    udp: socket.socket
    tcp: socket.socket
    tls: ListenerTls


class Worker:
    """Serves listeners with what is in force.

    Arguments:
        runtime: The event loop's clockwork.
        generation: What is in force at first.
        listeners: The listeners; their sockets become the worker's.
        counters: Where it counts.
        access_log: Where each request leaves a line, if anywhere.
        keys: The secrets that all workers share.
        slot: Its number: the first byte of its connection IDs, part of its request ids.
        handover: The ways to other workers, if there are any.

    Attributes:
        cut: Requests that were cut because they did not finish in time.
    """

    def __init__(
        self,
        runtime: Runtime,
        generation: Generation,
        listeners: Iterable[WorkerListener],
        counters: Counters,
        access_log: AccessLog | None,
        keys: Keys,
        slot: int = 0,
        handover: Handover | None = None,
    ) -> None:
        self.runtime = runtime
        self.counters = counters
        self.cut = 0
        self._slot = slot
        self._handover = handover
        self.service = RequestService(runtime, generation, counters, access_log, slot)
        performance = generation.configuration.performance
        rate = ConnectionRate(
            RateLimits(
                performance.new_connections_per_sec,
                performance.new_connections_burst,
                performance.new_connections_per_source_per_sec,
                performance.new_connections_per_source_burst,
            ),
            counters.segment,
        )
        caps = [
            ConnectionCap(
                counters,
                transport,
                performance.max_active_connections,
                performance.max_half_open_connections,
            )
            for transport in ("quic", "tcp")
        ]
        self.quic_cap, self.tcp_cap = caps
        account = WindowAccount(WINDOW_GROWTH_MAX)
        self._quic: list[QuicListener] = []
        self._tcp: list[TcpListener] = []
        for number, listener in enumerate(listeners):
            port = listener.udp.getsockname()[1]
            configuration = generation.configuration
            self._quic.append(
                QuicListener(
                    runtime,
                    listener.udp,
                    quic_settings(
                        configuration, listener.tls, account, keys, listener_name(listener.udp)
                    ),
                    self.service,
                    slot,
                    self.quic_cap,
                    rate,
                    counters,
                    number,
                    handover,
                )
            )
            self._tcp.append(
                TcpListener(
                    runtime,
                    listener.tcp,
                    tcp_settings(configuration, listener.tls, port),
                    self.service,
                    self.tcp_cap,
                    rate,
                    counters,
                )
            )

        if handover is not None:
            handover.start(self._take_over)

    @property
    def _listeners(self) -> list[TcpListener | QuicListener]:
        return [*self._tcp, *self._quic]

    @property
    def idle(self) -> bool:
        """Whether no connection is left."""
        return self.quic_cap.active == 0 and self.tcp_cap.active == 0

    def beat(self) -> None:
        """Say in the shared segment that the loop turns."""
        self.counters.segment.beat(self._slot, int(self.runtime.now() * 1000))

    def steer(self, table: bytes) -> None:
        """Go by another table of the slots that take new connections."""
        if self._handover is not None:
            self._handover.steer(table)

    def use_keys(self, keys: Keys) -> None:
        """Seal what is sealed from now on under other keys."""
        for listener in self._quic:
            listener.settings = with_keys(listener.settings, keys)

    async def drain(self, seconds: float) -> bool:
        """Take no new connections, finish what is in flight, and close.

        Arguments:
            seconds: How long exchanges in flight have; then they are cut.

        Returns:
            Whether all of them finished in time.
        """
        for listener in self._listeners:
            listener.stop_accepting()
            listener.shutdown()
        deadline = self.runtime.now() + seconds
        while not self.idle and self.runtime.now() < deadline:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self.cut = self.service.active
        if self.cut:
            logger.warning(
                "%d requests did not finish within %.1f s and were cut", self.cut, seconds
            )
        await self.close()
        return not self.cut

    async def close(self) -> None:
        """Close every connection now, and the sockets."""
        if not self.idle:
            for listener in self._listeners:
                listener.stop_accepting()
                listener.terminate(reasons.DRAIN_TIMEOUT)
            deadline = self.runtime.now() + CLOSE_SECONDS
            while self.tcp_cap.active and self.runtime.now() < deadline:
                await asyncio.sleep(DRAIN_POLL_SECONDS)
            # One more turn for the QUIC close packets.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for tcp in self._tcp:
            tcp.stop_accepting()
            tcp.abort()
        for quic in self._quic:
            quic.close()
        if self._handover is not None:
            self._handover.close()

    def _take_over(self, listener: int, datagrams: list[HandedOver], returned: bool) -> None:
        self._quic[listener].take_over(datagrams, returned)
