"""HTTP/3 over QUIC: dispatching datagrams to connections."""

import itertools
import logging
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky._core.udp import UdpSocket
from spooky.config.glitches import Glitches
from spooky.edge.early_packets import EarlyPackets
from spooky.edge.glitches import GlitchBook
from spooky.edge.handover import HandedOver, Handover
from spooky.edge.handshake_queue import HandshakeQueue, Opening
from spooky.edge.kin import bound_address, translated
from spooky.edge.limits import ConnectionCap, ConnectionRate
from spooky.edge.proxy_headers import AnnouncedFlows
from spooky.edge.quic_connection import QuicConnection
from spooky.edge.quic_measures import QuicMeasures
from spooky.edge.retry_switch import RetrySwitch
from spooky.edge.source_rules import NO_RULES, SourceRules
from spooky.edge.stateless import AddressSettings, AddressUnprovenError, StatelessAnswers
from spooky.generation.authorities import Authorities
from spooky.observe.counters import Counters
from spooky.overload.largest import Held
from spooky.overload.manager import Action, Measures, action_slots
from spooky.protocol.h3.limits import Limits as Http3Limits
from spooky.protocol.quic.engines import Engine
from spooky.protocol.quic.packet import (
    CLIENT_CONNECTION_ID_MIN_LENGTH,
    INITIAL_DATAGRAM_MIN_SIZE,
    ConnectionIds,
    PacketHeader,
    initial_token,
    parse_header,
)
from spooky.protocol.quic.parameters import ServerParameters
from spooky.protocol.quic.session import Address, ReceivedDatagram, Transmit
from spooky.protocol.quic.tokens import AddressProof
from spooky.request.client_address import Place, TrustedProxies
from spooky.request.service import RequestService
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)

DATAGRAMS_PER_TURN: Final = 64
"""Datagrams read in one turn of the loop, so that a flood leaves time for the others."""

READS_PER_TURN: Final = 8
"""How often that many are read while nearly all are of handshakes. Those only wait, which costs
microseconds, and behind them may be datagrams of established connections."""

HANDSHAKES_PER_TURN: Final = 4
"""Connections whose handshakes go on in one turn of the loop: about 2 ms of signatures and keys,
for which packets of established connections may have to wait."""

UNSENT_MAX: Final = 1024
"""Datagrams kept while the socket takes none; more are dropped, as a router would."""


@dataclass(frozen=True, slots=True)
class QuicSettings:
    """How QUIC connections of a listener behave.

    Attributes:
        engine: Of new connections.
        parameters: Of the transport and of TLS.
        http3: Limits of HTTP/3 sessions.
        handshake_timeout: For the handshake; seconds.
        address: How clients prove their addresses.
        sources: Who is dropped, or asked to prove its address, by where it is.
        glitches: How odd clients may be.
        proxies: Whose word is taken for where clients are.
        authorities: What may be asked for over a connection; ``None`` for everything.
    """

    engine: Engine
    parameters: ServerParameters
    http3: Http3Limits
    handshake_timeout: float
    address: AddressSettings
    sources: SourceRules = NO_RULES
    glitches: Glitches = field(default_factory=Glitches)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    authorities: Authorities | None = None


class QuicListener:
    """A UDP socket and the connections that came through it.

    Arguments:
        runtime: The worker's.
        udp: A bound, non-blocking socket; closed by :meth:`close`.
        settings: For new connections; may be replaced at any time.
        service: Where requests go.
        slot: The worker's slot; the first byte of the connection IDs it issues.
        cap: How many connections there may be.
        rate: How fast they may come.
        counters: The worker's slots.
        number: The listener's number, the same in all workers as long as it lives.
        handover: The ways to other workers, if there are any.
        overload: What is done against overload.

    Attributes:
        draining: Whether new connections are refused.
    """

    def __init__(
        self,
        runtime: Runtime,
        udp: socket.socket,
        settings: QuicSettings,
        service: RequestService,
        slot: int,
        cap: ConnectionCap,
        rate: ConnectionRate,
        counters: Counters,
        overload: Measures,
        number: int = 0,
        handover: Handover | None = None,
    ) -> None:
        self.settings = settings
        self.overload = overload
        self.runtime = runtime
        self.service = service
        self.cap = cap
        self._socket = udp
        self._connection_ids = ConnectionIds(slot)
        self._rate = rate
        self._number = number
        self._handover = handover
        self.draining = False
        # Others on the same port; the kernel gives them what is ours, or us what is theirs.
        self.kin: tuple[QuicListener, ...] = ()
        self._bound_address = bound_address(udp)
        # Every connection ID in use, issued by us or chosen by a client for its first packets.
        self._by_connection_id: dict[bytes, QuicConnection] = {}
        self._connections: set[QuicConnection] = set()
        self._udp = UdpSocket(udp.fileno(), udp.family)
        self._handshakes: HandshakeQueue[QuicConnection] = HandshakeQueue()
        self._handshakes_due = False
        self._early = EarlyPackets()
        self._retry_switch = RetrySwitch(runtime, cap, counters)
        self.glitches = GlitchBook(counters, overload, "quic")
        self._flows = AnnouncedFlows()
        self._unsent: deque[Transmit] = deque()
        self._unsent_datagrams = 0
        self._values = counters.values
        self._accepted = counters.slot("connections_total", {"transport": "quic"})
        self._failed = counters.slot("handshakes_failed_total", {"transport": "quic"})
        self._received = counters.slot("datagrams_received_total")
        self._early_data = {
            taken: counters.slot("early_data_total", {"outcome": outcome})
            for taken, outcome in ((True, "accepted"), (False, "refused"))
        }
        self.measures = QuicMeasures(counters)
        self._coalesced = counters.slot("datagram_batches_received_total")
        self._truncated = counters.slot("datagrams_truncated_total")
        self._sent = counters.slot("datagrams_sent_total")
        self._segmented = counters.slot("datagram_batches_sent_total")
        self._unsendable = counters.slot("datagrams_unsendable_total")
        self._stateless = StatelessAnswers(
            listener_name(udp), counters, lambda answer: self.transmit([answer])
        )
        self._actions = action_slots(counters)
        runtime.loop.add_reader(udp.fileno(), self._on_readable)

    @property
    def active(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    # --- life ---------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Refuse new connections."""
        self.draining = True

    def shutdown(self) -> None:
        """Let every connection finish gracefully."""
        for connection in list(self._connections):
            connection.shutdown()

    def close_idle(self, share: float, maximum: int) -> int:
        """Close connections that have been idle for a share of their timeout.

        Arguments:
            share: Which.
            maximum: How many to close at most.

        Returns:
            How many were.
        """
        now = self.runtime.now()
        idle = (each for each in self._connections if each.is_idle(now, share))
        chosen = list(itertools.islice(idle, maximum))
        for connection in chosen:
            connection.terminate(reasons.OVERLOAD_IDLE)
        return len(chosen)

    def held(self) -> Iterator[Held]:
        """Yield what streams hold in memory."""
        for connection in self._connections:
            yield from connection.held()

    def terminate(self, reason: Reason) -> None:
        """Close every connection now."""
        for connection in list(self._connections):
            connection.terminate(reason)

    def close(self) -> None:
        """Forget every connection and close the socket; idempotent."""
        if self._socket.fileno() < 0:
            return
        for connection in list(self._connections):
            connection.forget()
        self._handshakes.clear()
        self._retry_switch.close()
        self.runtime.loop.remove_reader(self._socket.fileno())
        self.runtime.loop.remove_writer(self._socket.fileno())
        self._udp.release()
        self._socket.close()

    # --- receiving ----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """Read datagrams; those of handshakes wait until the others had their turn."""
        now = self.runtime.now()
        for _ in range(READS_PER_TURN):
            batches: dict[QuicConnection, list[ReceivedDatagram]] = {}
            datagrams = self._read()
            for datagram in datagrams:
                self._sort(datagram, batches, now)
            self._deliver(batches, now)
            taken = sum(map(len, batches.values()))
            if len(datagrams) < DATAGRAMS_PER_TURN or taken > DATAGRAMS_PER_TURN // 2:
                break

    def take_over(self, datagrams: list[HandedOver], returned: bool) -> None:
        """Take datagrams that reached another worker.

        Arguments:
            returned: They were ours before: a connection that they begin is begun here.
        """
        batches: dict[QuicConnection, list[ReceivedDatagram]] = {}
        now = self.runtime.now()
        for datagram, asked in datagrams:
            if asked:
                self._udp.learn(datagram[1], asked)
            self._sort(datagram, batches, now, handed_over=True, returned=returned)
        self._deliver(batches, now)

    def _deliver(self, batches: dict[QuicConnection, list[ReceivedDatagram]], now: float) -> None:
        for connection, batch in batches.items():
            self._values[self._received] += len(batch)
            connection.receive(batch, now)

    def _sort(
        self,
        datagram: ReceivedDatagram,
        batches: dict[QuicConnection, list[ReceivedDatagram]],
        now: float,
        handed_over: bool = False,
        returned: bool = False,
    ) -> None:
        """Put a datagram to those of its established connection, or let it wait."""
        # As it came, for others, who have to know of its PROXY header too.
        whole = datagram
        if self.settings.proxies.takes_header:
            unwrapped = self._flows.unwrap(datagram, self.settings.proxies)
            if isinstance(unwrapped, Reason):
                self._stateless.count(unwrapped)
                return
            datagram = unwrapped
        header = parse_header(datagram[0])
        if header is None:
            self._stateless.count(reasons.BAD_PACKET)
            return
        connection = self._by_connection_id.get(header.destination_connection_id)
        if connection is None:
            if self.kin and not returned and self._given_to_kin(whole, header, known=True):
                return
            if not self._passed_on(whole, header, handed_over, returned):
                if self.kin and not returned and self._given_to_kin(whole, header, known=False):
                    return
                if self.settings.sources.action(datagram[1][0]) == "drop":
                    self._stateless.count(reasons.SOURCE_DROPPED)
                elif header.is_long:
                    self._wait(self._handshakes.add_opening((datagram, header)))
                else:
                    self._stateless.reset(header, self.settings.parameters, datagram[1], now)
        elif connection.established:
            batch = batches.get(connection)
            if batch is None:
                # What waited since before the handshake ended goes first.
                batch = batches[connection] = self._handshakes.claim(connection)
            batch.append(datagram)
        else:
            self._wait(self._handshakes.add(connection, datagram))

    def _given_to_kin(
        self, datagram: ReceivedDatagram, header: PacketHeader, *, known: bool
    ) -> bool:
        """Give a datagram of no connection of ours to another listener on the same port.

        Arguments:
            known: Whether only to one that has the connection; else to one that may begin it,
                where we may not.
        """
        for kin in self.kin:
            if known:
                takes = header.destination_connection_id in kin._by_connection_id
            else:
                takes = self.draining and header.is_long and not kin.draining
            if takes:
                asked = self._udp.asked(datagram[1]) or self._bound_address
                kin.take_over([translated(datagram, asked, kin._socket.family)], returned=True)
                return True
        return False

    def _passed_on(
        self, datagram: ReceivedDatagram, header: PacketHeader, handed_over: bool, returned: bool
    ) -> bool:
        """Hand a datagram of no connection of ours to another worker, if one is to have it."""
        handover = self._handover
        if handover is None:
            return False
        asked = self._udp.asked(datagram[1])
        if not handed_over and handover.pass_on(self._number, datagram, asked):
            return True
        return (
            self.draining
            and header.is_initial
            and not returned
            and handover.give_back(self._number, datagram, asked)
        )

    # --- handshakes ---------------------------------------------------------------------------

    def _wait(self, kept: bool) -> None:
        """Go on with handshakes after what is flushed at the end of this turn."""
        if not kept:
            self._stateless.count(reasons.HANDSHAKE_BACKLOG)
        if not self._handshakes_due:
            self._handshakes_due = True
            self.runtime.loop.call_soon(self._go_on_with_handshakes)

    def _go_on_with_handshakes(self) -> None:
        """Take a turn's share of the waiting handshakes; sockets are read before the next."""
        self._handshakes_due = False
        now = self.runtime.now()
        for _ in range(HANDSHAKES_PER_TURN):
            under_way = self._handshakes.next_under_way()
            if under_way is not None:
                connection, batch = under_way
                if connection in self._connections:
                    self._deliver({connection: batch}, now)
                continue
            openings = self._handshakes.next_opening()
            if openings is None:
                return
            self._open(openings, now)
        if self._handshakes:
            self._handshakes_due = True
            self.runtime.loop.call_soon(self._go_on_with_handshakes)

    def _open(self, openings: list[Opening], now: float) -> None:
        """Begin a connection with the first of its datagrams that can, and give it the rest."""
        connection: QuicConnection | None = None
        batch: list[ReceivedDatagram] = []
        for datagram, header in openings:
            if connection is not None:
                batch.append(datagram)
            elif not (header.is_early and self._keep_early(datagram, header, now)):
                connection = self._begin(datagram, header, now)
                if connection is not None:
                    batch = [datagram, *self._early.claim(header.destination_connection_id)]
        if connection is not None:
            self._deliver({connection: batch}, now)

    def _read(self) -> list[ReceivedDatagram]:
        """Return what the socket has, and count how it came."""
        udp, values = self._udp, self._values
        coalesced, truncated = udp.coalesced, udp.truncated
        try:
            return udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            # An ICMP error of an earlier datagram; the socket itself is fine.
            logger.debug("UDP socket: %s", error)
            return []
        finally:
            values[self._coalesced] += udp.coalesced - coalesced
            values[self._truncated] += udp.truncated - truncated

    def _keep_early(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> bool:
        """Let a 0-RTT packet wait for its hello, if it could be of use."""
        parameters = self.settings.parameters
        return (
            parameters.early_data is not None
            and header.version in parameters.versions
            and not self.draining
            and self._early.keep(header.destination_connection_id, datagram, now)
        )

    def _begin(
        self, datagram: ReceivedDatagram, header: PacketHeader, now: float
    ) -> QuicConnection | None:
        """Begin a connection with its first Initial, or refuse to."""
        payload, source, _ = datagram
        parameters = self.settings.parameters
        if len(payload) < INITIAL_DATAGRAM_MIN_SIZE:
            self._stateless.count(reasons.BAD_PACKET)
            return None
        if header.version not in parameters.versions:
            self._stateless.negotiate_version(header, parameters, source)
            return None
        if not header.is_initial:
            self._stateless.count(reasons.UNKNOWN_CONNECTION)
            return None
        token = initial_token(payload)
        if token is None or len(header.destination_connection_id) < CLIENT_CONNECTION_ID_MIN_LENGTH:
            self._stateless.count(reasons.BAD_PACKET)
            return None
        if self.draining:
            self._stateless.count(reasons.DRAINING)
            return None
        client = self._flows.client_of(source, self.settings.proxies)
        if isinstance(client, Reason):
            self._stateless.count(client)
            return None
        overload, address = self.overload, self.settings.address
        wall_clock = parameters.wall_clock().timestamp()
        if overload.refuses_connections:
            self._stateless.refuse(header, token, source, address.tokens, wall_clock)
            self._count_action(Action.REFUSE_CONNECTIONS)
            return None
        try:
            proof = self._stateless.prove_address(
                header,
                token,
                source,
                address.tokens,
                self._connection_ids.make,
                wall_clock,
                self._must_prove(source, now),
            )
        except AddressUnprovenError as error:
            self._stateless.count(error.reason)
            if error.reason is reasons.OVERLOAD_UNPROVEN:
                self._count_action(Action.PROVE_ADDRESSES)
            return None
        refused = self._admit(client, now)
        if refused is not None:
            self._stateless.count(refused)
            return None
        return self._accept(header, source, client, proof, now)

    def _must_prove(self, source: Address, now: float) -> Reason | None:
        """Return why a client without a token has to prove its address, if it has to."""
        address = self.settings.address
        flooded = self._retry_switch.note_attempt(now, address.new_connections_rate)
        action = self.settings.sources.action(source[0])
        if action == "allow":
            return None
        if address.retry == "always" or action == "retry":
            return reasons.ADDRESS_UNPROVEN
        if self.overload.proves_addresses:
            return reasons.OVERLOAD_UNPROVEN
        return reasons.FLOOD_UNPROVEN if flooded and address.retry == "auto" else None

    def _admit(self, client: Place, now: float) -> Reason | None:
        """Take a place for a new connection; return why there is none, or ``None``."""
        refused = self.cap.open()
        if refused is None:
            refused = self._rate.admit(client[0], now)
            if refused is not None:
                self.cap.closed(was_established=False)
        return refused

    def _accept(
        self,
        header: PacketHeader,
        source: Address,
        client: Place,
        proof: AddressProof | None,
        now: float,
    ) -> QuicConnection:
        """Begin a connection that has its place."""
        original = retry_source = None
        if proof is not None:
            self._stateless.use(proof)
            original = proof.original_destination_connection_id
        if original is not None:
            # The client addresses what follows a Retry to where that came from.
            retry_source = header.destination_connection_id
        session = self.settings.engine.server_session(
            self.settings.parameters,
            header,
            source,
            now,
            self._connection_ids.make,
            original_destination_connection_id=original,
            retry_source_connection_id=retry_source,
            address_validated=proof is not None,
        )
        announced = client if self.settings.proxies.expects_header(source[0]) else None
        connection = QuicConnection(self, session, header.destination_connection_id, announced)
        self._connections.add(connection)
        self._values[self._accepted] += 1
        connection.start()
        return connection

    # --- what connections need ----------------------------------------------------------------

    def route(self, connection_id: bytes, connection: QuicConnection) -> None:
        """Send packets with this destination connection ID to a connection."""
        self._by_connection_id[connection_id] = connection

    def unroute(self, connection_id: bytes) -> None:
        """Stop sending packets with this connection ID anywhere."""
        self._by_connection_id.pop(connection_id, None)

    def count_told_to_end(self) -> None:
        """Count a connection that ends after its request because of overload."""
        self._count_action(Action.STOP_KEEP_ALIVE)

    def _count_action(self, action: Action) -> None:
        self._values[self._actions[action]] += 1

    def count_early_data(self, taken: bool) -> None:
        """Count a handshake whose client offered 0-RTT data."""
        self._values[self._early_data[taken]] += 1

    def forget(self, connection: QuicConnection, was_established: bool) -> None:
        """Forget a connection that is over."""
        self._connections.discard(connection)
        self.cap.closed(was_established)
        if not was_established:
            self._values[self._failed] += 1

    def transmit(self, runs: list[Transmit]) -> None:
        """Send runs of datagrams."""
        for run in runs:
            if self._unsent:
                self._keep_unsent(run)
                continue
            rest = self._send(run)
            if rest is not None:
                self._keep_unsent(rest)
                self.runtime.loop.add_writer(self._socket.fileno(), self._on_writable)

    def _send(self, run: Transmit) -> Transmit | None:
        """Send a run; return the part that the socket has no room for."""
        payload, segment_size, destination, ecn = run
        length = len(payload)
        try:
            taken = self._udp.send(payload, segment_size, destination, ecn)
        except OSError as error:
            # Unreachable, forbidden or too large: to QUIC, lost packets.
            logger.debug("cannot send to %s: %s", destination[0], error)
            self._values[self._unsendable] += datagrams(length, segment_size)
            return None
        self._values[self._sent] += datagrams(taken, segment_size)
        if taken > segment_size and self._udp.gso:
            self._values[self._segmented] += 1
        if taken == length:
            return None
        return Transmit(payload[taken:], segment_size, destination, ecn)

    def _keep_unsent(self, run: Transmit) -> None:
        count = datagrams(len(run[0]), run[1])
        if self._unsent_datagrams + count <= UNSENT_MAX:
            self._unsent.append(run)
            self._unsent_datagrams += count
        else:
            self._values[self._unsendable] += count

    def _on_writable(self) -> None:
        self.runtime.loop.remove_writer(self._socket.fileno())
        unsent, self._unsent = self._unsent, deque()
        self._unsent_datagrams = 0
        self.transmit(list(unsent))


def listener_name(udp: socket.socket) -> str:
    """Return what a listener is called in tokens: the same in all workers and after a restart."""
    host, port = udp.getsockname()[:2]
    return f"{host} {port}"


def datagrams(length: int, segment_size: int) -> int:
    """Return how many datagrams a run of this length is."""
    return -(-length // segment_size)
