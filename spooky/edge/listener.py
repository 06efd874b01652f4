"""One listener of a worker: QUIC and TCP on one port, with settings that change while it lives."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.config.schema import Configuration
from spooky.edge.handover import Handover
from spooky.edge.limits import ConnectionCap, ConnectionRate
from spooky.edge.quic import QuicListener, QuicSettings, listener_name
from spooky.edge.settings import Terms, quic_settings, tcp_settings, with_keys
from spooky.edge.tcp import TcpListener
from spooky.observe.counters import Counters
from spooky.overload.largest import Held
from spooky.overload.manager import Measures
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.windows import WindowAccount
from spooky.request.service import RequestService
from spooky.runtime import Runtime

CLOSE_SECONDS: Final = 0.2
"""How long connections that were closed by force have for their last packets."""

READ_SECONDS: Final = 2.0
"""How much longer a removed listener is read: until the supervisor has closed its sockets too, the
kernel goes on giving them datagrams, which may be another's on the same port."""


@dataclass(frozen=True, slots=True)
class WorkerSockets:
    """What a worker listens on for one listener; bound, and the worker's own to close.

    Attributes:
        udp: Its UDP socket.
        tcp: Its TCP socket, which it shares with the other workers.
    """

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Close both; idempotent."""
        self.udp.close()
        self.tcp.close()


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What all listeners of a worker share.

    Attributes:
        runtime: The worker's.
        service: Where requests go.
        counters: The worker's slots.
        quic_cap: How many QUIC connections there may be.
        tcp_cap: How many TCP connections.
        rate: How fast new ones may come.
        account: From which the windows of all QUIC connections grow.
        slot: The worker's slot.
        handover: The ways to other workers, if there are any.
        overload: What is done against overload.
    """

    runtime: Runtime
    service: RequestService
    counters: Counters
    quic_cap: ConnectionCap
    tcp_cap: ConnectionCap
    rate: ConnectionRate
    account: WindowAccount
    slot: int
    handover: Handover | None
    overload: Measures


class Listener:
    """A port: begins to listen at once.

    Arguments:
        number: What other workers call it.
        sockets: Its sockets, the listener's from now on.
        around: What it shares with the others.
        configuration: Says how connections behave.
        terms: The listener's own.
        keys: The secrets that all workers share.

    Raises:
        OSError: It cannot listen.
    """

    def __init__(
        self,
        number: int,
        sockets: WorkerSockets,
        around: Surroundings,
        configuration: Configuration,
        terms: Terms,
        keys: Keys,
    ) -> None:
        self.number = number
        self._on_gone: Callable[[Listener], None] = lambda _: None
        # The next step of a removal.
        self._removal: Timer | None = None
        self._runtime = around.runtime
        self._account = around.account
        self._register = around.counters.segment
        # Kept for as long as the listener lives, so that a change ends no resumption.
        self._tickets = TicketStore()
        self._name = listener_name(sockets.udp)
        self._port: int = sockets.udp.getsockname()[1]
        self.tcp = TcpListener(
            around.runtime,
            sockets.tcp,
            tcp_settings(configuration, terms, self._port),
            around.service,
            around.tcp_cap,
            around.rate,
            around.counters,
            around.overload,
        )
        self.quic = QuicListener(
            around.runtime,
            sockets.udp,
            self._quic_settings(configuration, terms, keys),
            around.service,
            around.slot,
            around.quic_cap,
            around.rate,
            around.counters,
            around.overload,
            number,
            around.handover,
        )

    @property
    def port(self) -> int:
        """The port of both sockets."""
        return self._port

    def use(self, configuration: Configuration, terms: Terms, keys: Keys) -> None:
        """Have new connections behave as a configuration says; those there are stay as they are."""
        self.tcp.settings = tcp_settings(configuration, terms, self._port)
        self.quic.settings = self._quic_settings(configuration, terms, keys)

    def use_keys(self, keys: Keys) -> None:
        """Seal what is sealed from now on under other keys."""
        self.quic.settings = with_keys(self.quic.settings, keys)

    def drain(self, *, replaced: bool = False) -> None:
        """Take no new connections, and let those there are finish.

        Arguments:
            replaced: Whether nobody waits for it, as others serve.
        """
        for one in (self.tcp, self.quic):
            one.stop_accepting()
        self.tcp.shutdown(patient=replaced)
        self.quic.shutdown()

    def hasten(self) -> None:
        """Let clients that a drain leaves time for another request have less of it."""
        self.tcp.hasten()

    def close_idle(self, share: float, maximum: int) -> int:
        """Close so many connections at most that were idle for a share of their timeout.

        Returns:
            How many were closed.
        """
        closed = self.tcp.close_idle(share, maximum)
        return closed + self.quic.close_idle(share, maximum - closed)

    def held(self) -> Iterator[Held]:
        """Yield what streams hold in memory."""
        yield from self.tcp.held()
        yield from self.quic.held()

    def terminate(self, reason: Reason) -> None:
        """Close every connection now; its streams end with ``reason``."""
        for one in (self.tcp, self.quic):
            one.stop_accepting()
            one.terminate(reason)

    def close(self) -> None:
        """Drop every connection, and close the sockets; idempotent."""
        if self._removal is not None:
            self._removal.cancel()
        self.tcp.stop_accepting()
        self.tcp.abort()
        self.quic.close()

    def remove(self, seconds: float, on_gone: Callable[["Listener"], None]) -> None:
        """Drain, cut what does not finish within so many seconds, and close.

        It is read to the end, also without a connection: it may come back, or another listener on
        the port may be who its datagrams are for.

        Arguments:
            on_gone: Called when that is done.
        """
        self.tcp.turn_away()
        self.drain(replaced=True)
        self._on_gone = on_gone
        self._remove_in(seconds, self._cut)

    def bring_back(
        self, sockets: WorkerSockets, configuration: Configuration, terms: Terms, keys: Keys
    ) -> None:
        """Serve again after a removal whose connections may not have finished yet.

        They were told to end, and go on to do so in peace: they are on no removed listener any
        more. Arguments and errors are those of a new listener; its UDP socket is the one it has.
        """
        if self._removal is not None:
            self._removal.cancel()
            self._removal = None
        sockets.udp.close()
        self.use(configuration, terms, keys)
        self.quic.accept_again()
        self.tcp.accept_again(sockets.tcp)

    def _remove_in(self, seconds: float, step: Callable[[], None]) -> None:
        self._removal = self._runtime.schedule(self._runtime.now() + seconds, step)

    def _cut(self) -> None:
        self.terminate(reasons.REMOVED)
        self._remove_in(CLOSE_SECONDS, self._abort)

    def _abort(self) -> None:
        for one in (self.tcp, self.quic):
            one.abort()
        self._remove_in(READ_SECONDS, self._end)

    def _end(self) -> None:
        self.close()
        self._on_gone(self)

    def _quic_settings(
        self,
        configuration: Configuration,
        terms: Terms,
        keys: Keys,
    ) -> QuicSettings:
        return quic_settings(
            configuration,
            terms,
            self._tickets,
            self._account,
            keys,
            self._name,
            self._register,
        )
