"""HTTP/3 over QUIC: dispatching datagrams to connections."""

import itertools
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from spooky._core import reasons
from spooky._core.opening import OpeningListener
from spooky._core.reasons import Reason
from spooky._core.udp import UdpSocket
from spooky.config.glitches import Glitches
from spooky.edge.closings import Closings
from spooky.edge.early_packets import EarlyPackets
from spooky.edge.glitches import GlitchBook
from spooky.edge.handover import HandedOver, Handover
from spooky.edge.kin import bound_address, translated
from spooky.edge.limits import ConnectionCap, ConnectionRate
from spooky.edge.peers import Forgetting
from spooky.edge.proxy_headers import AnnouncedFlows
from spooky.edge.quic_connection import QuicConnection
from spooky.edge.quic_measures import quic_measures
from spooky.edge.retry_switch import RetrySwitch
from spooky.edge.source_rules import SourceRules
from spooky.edge.stateless import AddressSettings, StatelessAnswers
from spooky.generation.authorities import Authorities
from spooky.observe.counters import Counters
from spooky.overload.largest import Held
from spooky.overload.manager import Action, Measures, action_slots
from spooky.protocol.h3.limits import Limits as Http3Limits
from spooky.protocol.quic.engines import Engine
from spooky.protocol.quic.packet import (
    ConnectionIds,
    PacketHeader,
)
from spooky.protocol.quic.parameters import ServerParameters
from spooky.protocol.quic.session import Address, QuicSession, ReceivedDatagram
from spooky.protocol.quic.tokens import AddressProof
from spooky.request.client_address import Place, TrustedProxies
from spooky.request.service import RequestService
from spooky.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EstablishedQuicSettings:
    """How QUIC connections of a listener behave after their handshake.

    They keep this and no more: the rest would keep certificates and keys that were replaced.

    Attributes:
        idle_timeout: After which a silent connection ends; seconds.
        glitches: How odd clients may be.
        proxies: Whose word is taken for where clients are.
    """

    idle_timeout: float
    glitches: Glitches
    proxies: TrustedProxies


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
        authorities: What may be asked for over a connection.
        established: What counts after the handshake.
    """

    engine: Engine
    parameters: ServerParameters
    http3: Http3Limits
    handshake_timeout: float
    address: AddressSettings
    sources: SourceRules
    authorities: Authorities
    established: EstablishedQuicSettings


class QuicListener(OpeningListener):
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
        descriptor = udp.fileno()
        super().__init__(
            runtime,
            UdpSocket(descriptor, udp.family),
            descriptor,
            counters,
            handover,
            rate,
            overload,
            ConnectionIds(slot).make,
            counters.slot("connections_total", {"transport": "quic"}),
        )
        self.settings = settings
        self.service = service
        self.cap = cap
        self._socket = udp
        self._number = number
        self._bound_address = bound_address(udp)
        self._early = EarlyPackets()
        self._retry_switch = RetrySwitch(runtime, cap, counters)
        self.glitches = GlitchBook(counters, overload, "quic")
        self._closings = Closings(counters, "quic")
        self._flows = AnnouncedFlows()
        self._values = counters.values
        self._failed = counters.slot("handshakes_failed_total", {"transport": "quic"})
        self._early_data = {
            taken: counters.slot("early_data_total", {"outcome": outcome})
            for taken, outcome in ((True, "accepted"), (False, "refused"))
        }
        self.measures = quic_measures(counters)
        self._stateless = StatelessAnswers(
            listener_name(udp), counters, lambda answer: self.transmit([answer])
        )
        self._actions = action_slots(counters)
        self._forgetting = Forgetting(
            runtime, self._udp.forget_unused, lambda: self.settings.parameters.idle_timeout
        )
        runtime.loop.add_reader(descriptor, self._on_readable)

    @property
    def active(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    # --- life ---------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Refuse new connections."""
        self.draining = True

    def accept_again(self) -> None:
        """Take new connections; those that were told to finish do so."""
        self.draining = False

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

    def abort(self) -> None:
        """Drop every connection."""
        for connection in list(self._connections):
            connection.forget()
        self._handshakes.clear()

    def close(self) -> None:
        """Drop every connection and close the socket; idempotent."""
        if self._socket.fileno() < 0:
            return
        self.abort()
        self._forgetting.close()
        self._retry_switch.close()
        self.runtime.loop.remove_reader(self._socket.fileno())
        self.runtime.loop.remove_writer(self._socket.fileno())
        self._udp.release()
        self._socket.close()

    # --- receiving ----------------------------------------------------------------------------

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
            self._sort(datagram, batches, now, True, returned)
        self._deliver(batches, now)

    def _unwrap(self, datagram: ReceivedDatagram) -> ReceivedDatagram | None:
        """Take a datagram out of its PROXY header, if it has one that we believe."""
        unwrapped = self._flows.unwrap(datagram, self.settings.established.proxies)
        if isinstance(unwrapped, Reason):
            self._stateless.count(unwrapped)
            return None
        return unwrapped

    def _is_others(
        self,
        datagram: ReceivedDatagram,
        header: PacketHeader,
        source: Address,
        handed_over: bool,
        returned: bool,
    ) -> bool:
        """Give a datagram of no connection of ours to kin or another worker, or drop it."""
        to_kin = self.kin and not returned
        if to_kin and self._given_to_kin(datagram, header, known=True):
            return True
        if self._passed_on(datagram, header, handed_over, returned):
            return True
        if to_kin and self._given_to_kin(datagram, header, known=False):
            return True
        return self._is_dropped(source)

    def _given_to_kin(
        self, datagram: ReceivedDatagram, header: PacketHeader, *, known: bool
    ) -> bool:
        """Give a datagram of no connection of ours to another listener on the same port.

        Arguments:
            known: Whether only to one that has the connection; else to one that may begin it,
                where we may not.
        """
        connection_id, now = header.destination_connection_id, self.runtime.now()
        for kin in self.kin:
            if known:
                takes = connection_id in kin._by_connection_id or kin.is_late(connection_id, now)
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

    # --- beginning connections ----------------------------------------------------------------

    def _keep_early(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> bool:
        """Let a 0-RTT packet wait for its hello, if it could be of use."""
        parameters = self.settings.parameters
        return (
            parameters.early_data is not None
            and header.version in parameters.versions
            and not self.draining
            and self._early.keep(header.destination_connection_id, datagram, now)
        )

    def _claim_early(self, connection_id: bytes) -> list[ReceivedDatagram]:
        return self._early.claim(connection_id)

    def _count(self, reason: Reason) -> None:
        self._stateless.count(reason)

    def _answer_unknown(self, header: PacketHeader, source: Address, now: float) -> None:
        if self.settings.established.proxies.refuses(source[0]):
            # Nobody there can have had a connection, or be told of one.
            self._stateless.count(reasons.PROXY_HEADER_UNTRUSTED)
            return
        self._stateless.reset(header, self.settings.parameters, source, now)

    def _end_broken(self, connection: QuicConnection) -> None:
        self.runtime.report(connection)
        try:
            connection.terminate(reasons.INTERNAL_ERROR)
        except Exception:
            # It cannot even say so.
            self.runtime.report(connection)
            connection.forget()

    def _note_error(self, error: OSError, destination: Address | None) -> None:
        if destination is None:
            logger.debug("UDP socket: %s", error)
        else:
            logger.debug("cannot send to %s: %s", destination[0], error)

    def _client_of(self, source: Address) -> Place | Reason:
        return self._flows.client_of(source, self.settings.established.proxies)

    def _negotiate_version(self, header: PacketHeader, source: Address) -> None:
        self._stateless.negotiate_version(header, self.settings.parameters, source)

    def _refuse(self, header: PacketHeader, token: bytes, source: Address) -> None:
        tokens = self.settings.address.tokens
        self._stateless.refuse(header, token, source, tokens, self._wall_clock())
        self._count_action(Action.REFUSE_CONNECTIONS)

    def _check_token(
        self, header: PacketHeader, token: bytes, source: Address
    ) -> AddressProof | Reason | None:
        tokens = self.settings.address.tokens
        return self._stateless.check_token(header, token, source, tokens, self._wall_clock())

    def _send_retry(self, header: PacketHeader, source: Address, reason: Reason) -> None:
        tokens, connection_id = self.settings.address.tokens, self._make_connection_id()
        self._stateless.retry(header, source, tokens, connection_id, self._wall_clock(), reason)
        if reason is reasons.OVERLOAD_UNPROVEN:
            self._count_action(Action.PROVE_ADDRESSES)

    def _is_flooded(self, header: PacketHeader, now: float) -> bool:
        return self._retry_switch.note_attempt(
            header.destination_connection_id, now, self.settings.address.new_connections_rate
        )

    def _is_odd(self, client: Place, now: float) -> bool:
        settings: EstablishedQuicSettings = self.settings.established
        return self.glitches.refuses(settings.glitches, settings.proxies, client[0], now)

    def _use(self, proof: AddressProof) -> None:
        self._stateless.use(proof)

    def _connect(
        self, session: QuicSession, client_initial_id: bytes, announced: Place | None
    ) -> QuicConnection:
        return QuicConnection(self, session, client_initial_id, announced)

    def _wall_clock(self) -> float:
        settings: QuicSettings = self.settings
        return settings.parameters.wall_clock()

    # --- what connections need ----------------------------------------------------------------

    def count_told_to_end(self) -> None:
        """Count a connection that ends after its request because of overload."""
        self._count_action(Action.STOP_KEEP_ALIVE)

    def _count_action(self, action: Action) -> None:
        self._values[self._actions[action]] += 1

    def count_early_data(self, taken: bool) -> None:
        """Count a handshake whose client offered 0-RTT data."""
        self._values[self._early_data[taken]] += 1

    def count_closed(self, reason: Reason, was_established: bool) -> None:
        """Count why a connection ended: as one refused, if its handshake was not complete."""
        if was_established:
            self._closings.count(reason)
        else:
            self._count(reason)

    def _count_failed(self) -> None:
        self._values[self._failed] += 1


def listener_name(udp: socket.socket) -> str:
    """Return what a listener is called in tokens: the same in all workers and after a restart."""
    host, port = udp.getsockname()[:2]
    return f"{host} {port}"
