# cython: annotation_typing=False
"""Datagrams of a listener, and the connections that they are for.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What begins connections
and what is said to clients that have none is left to ``edge/quic.py``, and what a connection serves
to ``edge/quic_connection.py``; their classes extend those here. Datagrams, runs and QUIC sessions
are those of ``protocol/quic/session.py``.
"""

from abc import abstractmethod
from typing import Any, Final

from spooky._core.arrivals import Cap
from spooky._core.h3_errors import H3_NO_ERROR
from spooky._core.packets import PacketHeader, parse_header
from spooky._core.reasons import BAD_PACKET, HANDSHAKE_BACKLOG, Reason
from spooky._core.timers import Timer
from spooky._core.turns import Turns

DATAGRAMS_PER_TURN: Final = 64
"""Datagrams read in one turn of the loop, so that a flood leaves time for the others."""

READS_PER_TURN: Final = 8
"""How often that many are read while nearly all are of handshakes. Those only wait, which costs
microseconds, and behind them may be datagrams of established connections."""

HANDSHAKES_PER_TURN: Final = 4
"""Connections whose handshakes go on in one turn of the loop: about 2 ms of signatures and keys,
for which packets of established connections may have to wait."""

WAITING_MAX: Final = 1024
"""Datagrams that begin connections, and as many of handshakes under way, kept by one listener: 3
MiB at most. At 1,000 handshakes a second they wait for a second, when clients send them again."""

UNSENT_MAX: Final = 1024
"""Datagrams kept while the socket takes none; more are dropped, as a router would."""

LATE_MAX: Final = 8192
"""Connection IDs whose late packets are dropped; beyond it the older half is forgotten, and a
packet of these might be answered with a stateless reset. A connection has five; all are 1 MiB."""

ReceivedDatagram = tuple[bytes, Any, int]

Opening = tuple[ReceivedDatagram, PacketHeader]
"""A datagram that may begin a connection, and the header of its first packet."""

# C numbers, where those above are objects.
_DATAGRAMS_PER_TURN = DATAGRAMS_PER_TURN
_READS_PER_TURN = READS_PER_TURN
_HANDSHAKES_PER_TURN = HANDSHAKES_PER_TURN
_UNSENT_MAX = UNSENT_MAX
_LATE_MAX = LATE_MAX
_H3_NO_ERROR = H3_NO_ERROR

# What PROXY headers begin with.
_PROXY_HEADER = b"\r\n"


class HandshakeQueue:
    """Datagrams of handshakes by connection, in the order in which the connections came.

    They wait until established connections had their turn. What is under way goes before what
    begins: a flood of Initials lets begun handshakes end.

    Arguments:
        capacity: Datagrams kept of either kind.
    """

    def __init__(self, capacity: int = WAITING_MAX) -> None:
        self._capacity = capacity
        self._under_way: dict[Any, list[ReceivedDatagram]] = {}
        self._under_way_count = 0
        self._beginning: dict[bytes, list[Opening]] = {}
        self._beginning_count = 0

    def __len__(self) -> int:
        return self._under_way_count + self._beginning_count

    def add(self, connection: Any, datagram: ReceivedDatagram) -> bool:
        """Keep a datagram of a handshake under way; return whether there was room."""
        if self._under_way_count >= self._capacity:
            return False
        waiting = self._under_way.get(connection)
        if waiting is None:
            self._under_way[connection] = [datagram]
        else:
            waiting.append(datagram)
        self._under_way_count += 1
        return True

    def add_opening(self, datagram: ReceivedDatagram, header: PacketHeader) -> bool:
        """Keep a datagram that may begin a connection; return whether there was room."""
        if self._beginning_count >= self._capacity:
            return False
        waiting = self._beginning.get(header.destination_connection_id)
        if waiting is None:
            self._beginning[header.destination_connection_id] = [(datagram, header)]
        else:
            waiting.append((datagram, header))
        self._beginning_count += 1
        return True

    def claim(self, connection: Any) -> list[ReceivedDatagram]:
        """Take what waits of a connection, in order; nothing if nothing does."""
        waiting = self._under_way.pop(connection, None)
        if waiting is None:
            return []
        self._under_way_count -= len(waiting)
        return waiting

    def next_under_way(self) -> Any:
        """Return the connection that waits longest, or ``None`` if none does."""
        for connection in self._under_way:
            return connection
        return None

    def next_opening(self) -> list[Opening] | None:
        """Take what may begin the connection that waits longest, if any does."""
        for connection_id in self._beginning:
            openings = self._beginning.pop(connection_id)
            self._beginning_count -= len(openings)
            return openings
        return None

    def clear(self) -> None:
        """Forget all."""
        self._under_way.clear()
        self._beginning.clear()
        self._under_way_count = self._beginning_count = 0


class Listener:
    """A UDP socket and the connections that came through it.

    Arguments:
        runtime: The worker's.
        udp: The socket, see ``spooky/_core/udp.pyi``.
        descriptor: What the socket is to the event loop.
        counters: The worker's slots, see ``observe/counters.py``.
        handover: The ways to other workers; ``None`` if there are none.

    Attributes:
        runtime: The worker's.
        kin: Others on the same port; the kernel gives them what is ours, or us what is theirs.
    """

    def __init__(
        self, runtime: Turns, udp: Any, descriptor: int, counters: Any, handover: Any
    ) -> None:
        self.runtime = runtime
        self.kin: tuple[Any, ...] = ()
        self._handover = handover
        self._udp = udp
        self._descriptor = descriptor
        # Every connection ID in use, issued by us or chosen by a client for its first packets.
        self._by_connection_id: dict[bytes, Any] = {}
        self._connections: set[Any] = set()
        # Connection IDs of those that clients closed, and until when packets may be on their way:
        # the newest, and those before them. To find the oldest of one dict passes over the places
        # of all that were taken out, 159,000 instructions a handshake where many end.
        self._late: dict[bytes, float] = {}
        self._late_before: dict[bytes, float] = {}
        self._handshakes = HandshakeQueue()
        self._handshakes_due = False
        self._unsent: list[Any] = []
        self._unsent_datagrams = 0
        self._counts = counters.values
        self._received = counters.slot("datagrams_received_total")
        self._coalesced = counters.slot("datagram_batches_received_total")
        self._truncated = counters.slot("datagrams_truncated_total")
        self._sent = counters.slot("datagrams_sent_total")
        self._segmented = counters.slot("datagram_batches_sent_total")
        self._unsendable = counters.slot("datagrams_unsendable_total")

    # --- what is left to the edge -------------------------------------------------------------

    # May be replaced at any time; see ``edge/quic.py``.
    settings: Any
    # How many connections there may be, and what is counted of them.
    cap: Cap
    measures: Any

    @abstractmethod
    def _unwrap(self, datagram: ReceivedDatagram) -> ReceivedDatagram | None:
        """Take a datagram out of what a proxy put it in; ``None`` if it is refused."""

    @abstractmethod
    def _begin(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> Any:
        """Begin a connection with its first Initial; return it, or ``None`` if it is refused."""

    @abstractmethod
    def _is_others(
        self,
        datagram: ReceivedDatagram,
        header: PacketHeader,
        source: Any,
        handed_over: bool,
        returned: bool,
    ) -> bool:
        """Give a datagram of no connection of ours to who may have it, or drop it.

        Arguments:
            datagram: As it came.
            source: Who sent it, past a proxy that passes it on.
            handed_over: It reached another worker before.
            returned: It was ours before.

        Returns:
            Whether there is nothing left to do.
        """

    @abstractmethod
    def _keep_early(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> bool:
        """Let a 0-RTT packet wait for its hello, if it could be of use."""

    @abstractmethod
    def _claim_early(self, connection_id: bytes) -> list[ReceivedDatagram]:
        """Return what waited for a hello that came."""

    @abstractmethod
    def _count(self, reason: Reason) -> None:
        """Count a datagram that is dropped."""

    @abstractmethod
    def _count_failed(self) -> None:
        """Count a connection that ended before its handshake was complete."""

    @abstractmethod
    def _answer_unknown(self, header: PacketHeader, source: Any, now: float) -> None:
        """Answer a short header of a connection that is no more."""

    @abstractmethod
    def _end_broken(self, connection: Any) -> None:
        """End a connection that could not take what came; the exception is being handled."""

    @abstractmethod
    def _note_error(self, error: OSError, destination: Any) -> None:
        """Note what the socket said; ``None`` for ``destination`` when it was read from."""

    # --- receiving ----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Read datagrams; those of handshakes wait until the others had their turn."""
        runtime = self.runtime
        held = runtime.hold_if_few()
        try:
            now = runtime.clock()
            for _ in range(_READS_PER_TURN):
                datagrams = self._read()
                taken = self._take(datagrams, now)
                if len(datagrams) < _DATAGRAMS_PER_TURN or taken > _DATAGRAMS_PER_TURN // 2:
                    break
        finally:
            if held:
                runtime.flush()

    def _take(self, datagrams: list[ReceivedDatagram], now: float) -> int:
        """Give connections their datagrams; return how many these are."""
        batches: dict[Any, list[ReceivedDatagram]] = {}
        for datagram in datagrams:
            self._sort(datagram, batches, now, False, False)
        return self._deliver(batches, now)

    def _read(self) -> list[ReceivedDatagram]:
        """Return what the socket has, and count how it came."""
        udp = self._udp
        coalesced = udp.coalesced
        truncated = udp.truncated
        datagrams: list[ReceivedDatagram] = []
        try:
            datagrams = udp.receive(_DATAGRAMS_PER_TURN)
        except OSError as error:
            # An ICMP error of an earlier datagram; the socket itself is fine.
            self._note_error(error, None)
        self._counts[self._coalesced] += udp.coalesced - coalesced
        self._counts[self._truncated] += udp.truncated - truncated
        return datagrams

    def _deliver(self, batches: dict[Any, list[ReceivedDatagram]], now: float) -> int:
        """Give connections what is theirs; return how many datagrams these are."""
        taken = 0
        for connection, batch in batches.items():
            taken += len(batch)
            self._give(connection, batch, now)
        self._counts[self._received] += taken
        return taken

    def _give(self, connection: Any, batch: list[ReceivedDatagram], now: float) -> None:
        """Give a connection its datagrams. One connection's defect is not the others'."""
        try:
            connection.receive(batch, now)
        except Exception:
            try:
                self._end_broken(connection)
            except Exception:
                # Not even ended: those that come after it must not wait for ever.
                self.runtime.report(self)

    def _sort(
        self,
        datagram: ReceivedDatagram,
        batches: dict[Any, list[ReceivedDatagram]],
        now: float,
        handed_over: bool,
        returned: bool,
    ) -> None:
        """Put a datagram to those of its established connection, or let it wait."""
        # As it came, for others, who have to know of its PROXY header too.
        whole = datagram
        payload = datagram[0]
        # No packet of QUIC begins so (RFC 9000 section 17: its second highest bit is set).
        if payload.startswith(_PROXY_HEADER):
            unwrapped = self._unwrap(datagram)
            if unwrapped is None:
                return
            datagram = unwrapped
        header = parse_header(datagram[0])
        if header is None:
            self._count(BAD_PACKET)
            return
        connection = self._by_connection_id.get(header.destination_connection_id)
        if connection is None:
            if self.is_late(header.destination_connection_id, now):
                self._counts[self._received] += 1
                return
            if self._is_others(whole, header, datagram[1], handed_over, returned):
                return
            if header.is_long:
                self._wait(self._handshakes.add_opening(datagram, header))
            else:
                self._answer_unknown(header, datagram[1], now)
        elif connection.established:
            batch = batches.get(connection)
            if batch is None:
                # What waited since before the handshake ended goes first.
                batch = batches[connection] = self._handshakes.claim(connection)
            batch.append(datagram)
        else:
            self._wait(self._handshakes.add(connection, datagram))

    # --- handshakes ---------------------------------------------------------------------------

    def _wait(self, kept: bool) -> None:
        """Go on with handshakes after what is flushed at the end of this turn."""
        if not kept:
            self._count(HANDSHAKE_BACKLOG)
        if not self._handshakes_due:
            self._handshakes_due = True
            self.runtime.loop.call_soon(self._go_on_with_handshakes)

    def _go_on_with_handshakes(self) -> None:
        """Take a turn's share of the waiting handshakes; sockets are read before the next."""
        self._handshakes_due = False
        runtime = self.runtime
        # What they have to say leaves now: a turn of the loop just for that asks the kernel for
        # news of all sockets.
        runtime.hold()
        try:
            self._take_handshakes(runtime.clock())
        finally:
            runtime.flush()
        if len(self._handshakes) > 0:
            self._handshakes_due = True
            self.runtime.loop.call_soon(self._go_on_with_handshakes)

    def _take_handshakes(self, now: float) -> None:
        """Go on with some of the handshakes that wait."""
        for _ in range(_HANDSHAKES_PER_TURN):
            connection = self._handshakes.next_under_way()
            if connection is not None:
                batch = self._handshakes.claim(connection)
                if connection in self._connections:
                    self._counts[self._received] += len(batch)
                    self._give(connection, batch, now)
                continue
            openings = self._handshakes.next_opening()
            if openings is None:
                return
            try:
                self._open(openings, now)
            except Exception:
                self.runtime.report(self)

    def _open(self, openings: list[Opening], now: float) -> None:
        """Begin a connection with the first of its datagrams that can, and give it the rest."""
        connection = None
        batch: list[ReceivedDatagram] = []
        for datagram, header in openings:
            if connection is not None:
                batch.append(datagram)
            elif not (header.is_early and self._keep_early(datagram, header, now)):
                connection = self._begin(datagram, header, now)
                if connection is not None:
                    batch = [datagram, *self._claim_early(header.destination_connection_id)]
        if connection is not None:
            self._counts[self._received] += len(batch)
            self._give(connection, batch, now)

    # --- what connections need ----------------------------------------------------------------

    def route(self, connection_id: bytes, connection: "Connection") -> None:
        """Send packets with this destination connection ID to a connection."""
        self._by_connection_id[connection_id] = connection

    def unroute(self, connection_id: bytes) -> None:
        """Stop sending packets with this connection ID anywhere."""
        self._by_connection_id.pop(connection_id, None)

    def outlive(self, connection_ids: list[bytes], until: float) -> None:
        """Drop what still comes for a connection that its client closed.

        It belongs to no other, and is not answered (RFC 9000 section 10.2.2).

        Arguments:
            connection_ids: Of the connection.
            until: When nothing comes any more; seconds on the runtime's clock.
        """
        for connection_id in connection_ids:
            self._by_connection_id.pop(connection_id, None)
            self._late[connection_id] = until
        if len(self._late) >= _LATE_MAX // 2:
            self._late_before = self._late
            self._late = {}

    def is_late(self, connection_id: bytes, now: float) -> bool:
        """Return whether a packet is one of a connection that its client closed a moment ago."""
        until = self._late.get(connection_id)
        if until is None:
            until = self._late_before.get(connection_id)
        return until is not None and now < until

    def forget(self, connection: "Connection", was_established: bool) -> None:
        """Forget a connection that is over."""
        self._connections.discard(connection)
        self.cap.closed(was_established)
        if not was_established:
            self._count_failed()

    def transmit(self, runs: list[Any]) -> None:
        """Send runs of datagrams."""
        for run in runs:
            if self._unsent_datagrams > 0:
                self._keep_unsent(run[0], run)
                continue
            rest = self._send(run)
            if rest is not None:
                self._keep_unsent(rest, run)
                self.runtime.loop.add_writer(self._descriptor, self._on_writable)

    def _send(self, run: Any) -> bytes | None:
        """Send a run; return the part that the socket has no room for."""
        payload, segment_size, destination, ecn = run
        length = len(payload)
        segment = segment_size
        udp = self._udp
        try:
            taken = udp.send(payload, segment_size, destination, ecn)
        except OSError as error:
            # Unreachable, forbidden or too large: to QUIC, lost packets.
            self._note_error(error, destination)
            self._counts[self._unsendable] += _datagrams(length, segment)
            return None
        sent = taken
        self._counts[self._sent] += _datagrams(sent, segment)
        if sent > segment and udp.gso:
            self._counts[self._segmented] += 1
        return None if sent == length else payload[sent:]

    def _keep_unsent(self, payload: bytes, run: Any) -> None:
        """Keep what is left of a run until the socket takes more."""
        count = _datagrams(len(payload), run[1])
        if self._unsent_datagrams + count <= _UNSENT_MAX:
            self._unsent.append((payload, run[1], run[2], run[3]))
            self._unsent_datagrams += count
        else:
            self._counts[self._unsendable] += count

    def _on_writable(self) -> None:
        self.runtime.loop.remove_writer(self._descriptor)
        unsent = self._unsent
        self._unsent = []
        self._unsent_datagrams = 0
        self.transmit(unsent)


class Connection:
    """A client's connection: its sessions, its timer and its connection IDs.

    Arguments:
        listener: The listener it came through.
        quic: The QUIC session.

    Attributes:
        established: Whether the handshake is complete.
    """

    # The HTTP/3 session; its owner is this connection.
    _http3: Any

    def __init__(self, listener: Listener, quic: Any) -> None:
        self.established = False
        self._listener = listener
        self._runtime = listener.runtime
        self._quic = quic
        self._began = self._last_received = self._runtime.now()
        # A handful: a set of them would take five times the memory.
        self._connection_ids: list[bytes] = []
        self._timer: Timer | None = None
        self._marked = False
        self._shutting_down = False
        self._forgotten = False
        # Until when packets may still come after the client closed it; 0 if it did not.
        self._late_until = 0.0

    @abstractmethod
    def forget(self) -> None:
        """Let go of everything; nothing more is sent or received."""

    @abstractmethod
    def _judge(self, now: float) -> None:
        """End what was too odd."""

    def receive(self, batch: list[ReceivedDatagram], now: float) -> None:
        """Take datagrams."""
        self._last_received = now
        self._quic.receive(batch, now)
        if self._http3.budget.glitches:
            self._judge(now)
        self.wake()

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if not self._marked:
            self._marked = True
            self._runtime.mark(self)

    def flush(self) -> None:
        """Send what is pending, and set the timer for what comes next."""
        self._marked = False
        if self._forgotten:
            return
        quic = self._quic
        http3 = self._http3
        # Whatever breaks: without a timer nothing would ever end it, and it would keep its place.
        try:
            http3.settle()
            if self._shutting_down and http3.drained:
                quic.close(_H3_NO_ERROR, "draining", True)
            runs = quic.flush(self._runtime.now())
            if runs:
                self._listener.transmit(runs)
        finally:
            if quic.terminated:
                self.forget()
            elif quic.draining and self.established:
                # Nothing is ever sent again, and to drop what still comes it takes no connection.
                # Before, it keeps its half-open place: whoever forged the hello can forge a close.
                self._late_until = quic.deadline()
                self.forget()
            else:
                self._timer = self._runtime.follow(self._timer, quic.deadline(), self)

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        """Take packets with this ID."""
        self._connection_ids.append(connection_id)
        self._listener.route(connection_id, self)

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        """Take no more packets with this ID."""
        if connection_id in self._connection_ids:
            self._connection_ids.remove(connection_id)
        self._listener.unroute(connection_id)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __call__(self) -> None:
        """Do what is due: the timer's callback."""
        self._timer = None
        try:
            self._quic.expire(self._runtime.now())
        except Exception:
            self._listener._end_broken(self)
        finally:
            self.wake()


def _datagrams(length: int, segment_size: int) -> int:
    """Return how many datagrams a run of this length is."""
    return (length + segment_size - 1) // segment_size
