"""aioquic behind the seam of :mod:`spooky.protocol.quic.session`."""

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode
from cryptography.hazmat.primitives.serialization import Encoding

from spooky.protocol.quic.aioquic_connection import Connection
from spooky.protocol.quic.aioquic_events import ConnectionIdGenerated, StreamsAvailable
from spooky.protocol.quic.aioquic_streams import STREAM_SHARE
from spooky.protocol.quic.aioquic_tls import BoundedContext, ClientContext, ServerContext
from spooky.protocol.quic.congestion import ALGORITHMS
from spooky.protocol.quic.packet import PacketHeader
from spooky.protocol.quic.parameters import ClientParameters, EndpointParameters, ServerParameters
from spooky.protocol.quic.session import (
    Address,
    Close,
    Handshake,
    QuicHandler,
    QuicSession,
    ReceivedDatagram,
    Transmit,
)

__all__ = [
    "AioquicSession",
    "ClientParameters",
    "ServerParameters",
    "client_session",
    "server_session",
]

logger = logging.getLogger(__name__)

RUN_MAX_SEGMENTS: Final = 64
"""Most datagrams in a run: what Linux takes for one sendmsg with UDP_SEGMENT."""

RUN_MAX_SIZE: Final = 65_487
"""Largest run; bytes. Its headers share the length field of one IP packet (65,535 bytes)."""


class AioquicSession:
    """One QUIC connection on aioquic; see :class:`~spooky.protocol.quic.session.QuicSession`."""

    handler: QuicHandler

    def __init__(self, connection: Connection, peer: Address, server_name: str | None) -> None:
        self.is_client = connection.configuration.is_client
        self.established = False
        self.terminated = False
        self.draining = False
        self.peer = peer
        self._quic = connection
        self._requested_name = server_name
        self._refused: dict[int, None] = {}
        self._open_refused = False
        self._close_reported = False
        self._close_called = False
        self._timed_out = False
        self._goodbye: list[Transmit] = []
        self._goodbye_due = False
        self._received_since_close = 0
        self._repeat_after = 1

    @property
    def all_acknowledged(self) -> bool:
        """Whether the peer has everything that was sent on streams."""
        return self._quic.all_acknowledged

    @property
    def peer_stream_limit(self) -> int:
        """How many bidirectional streams the peer was allowed to open so far."""
        return self._quic.peer_stream_limit

    @property
    def idle_timeout(self) -> float:
        """After which silence the connection ends, as agreed on; seconds."""
        return self._quic.agreed_idle_timeout

    # --- datagrams ------------------------------------------------------------------------------

    def receive(self, batch: Sequence[ReceivedDatagram], now: float) -> None:
        """Take datagrams, in order, and make the upcalls they cause."""
        quic = self._quic
        quic.now = now
        for payload, source, _ in batch:
            if not quic.may_come_from(source):
                continue
            try:
                quic.receive_datagram(payload, source, now)
            except Exception:
                # The boundary to the peer: what aioquic did not foresee ends this connection only.
                logger.exception("closing a connection after a failure on a received datagram")
                quic.close(QuicErrorCode.INTERNAL_ERROR, 0)
            if quic.events:
                self._dispatch()
        if not self.established and not quic.started:
            # Nothing valid came: keep no state for it (attack 13).
            quic.abandon(QuicErrorCode.NO_ERROR, "no valid packet")
        if self._close_reported and quic.is_closing:
            self._count_since_close(len(batch))
        if self._refused:
            self._tell_writable()
        self._settle()

    def flush(self, now: float) -> list[Transmit]:
        """Return the datagrams to send now."""
        quic = self._quic
        quic.now = now
        runs: list[Transmit] = []
        if not quic.started:
            if quic.close_event is not None:
                quic.abandon(QuicErrorCode.NO_ERROR, "")
        elif quic.is_closing:
            if self._goodbye_due:
                runs, self._goodbye_due = self._goodbye, False
        else:
            quic.prepare_flush()
            try:
                runs = _runs_of(quic.datagrams_to_send(now))
            except Exception:
                logger.exception("ending a connection after a failure to build its packets")
                quic.abandon(QuicErrorCode.INTERNAL_ERROR, "")
            quic.finish_flush()
            if quic.is_closing:
                self._goodbye = runs
        self._settle()
        return runs

    def figures(self) -> None:
        """Return nothing, as :meth:`statistics`."""

    def take_dropped(self) -> None:
        """Return nothing: aioquic drops packets without a word."""

    def statistics(self) -> None:
        """Return nothing: this engine does not count what it loses."""

    def deadline(self) -> float | None:
        """Return when ``expire`` must be called, or ``None``."""
        return self._quic.get_timer() if self._quic.started else None

    def expire(self, now: float) -> None:
        """Do what is due: loss detection, idle timeout, pacing."""
        quic = self._quic
        quic.now = now
        # Computing the deadline also refreshes what aioquic compares with the time.
        deadline = self.deadline()
        if deadline is None:
            return
        self._timed_out = quic.close_event is None and quic.is_idle(now)
        try:
            quic.handle_timer(now)
        except Exception:
            logger.exception("ending a connection after a failure of its timer")
            quic.abandon(QuicErrorCode.INTERNAL_ERROR, "")
        self._dispatch()
        self._tell_writable()
        self._settle()

    def _count_since_close(self, count: int) -> None:
        """Say again that the connection is closed, ever more rarely (RFC 9000 section 10.2.1)."""
        self._received_since_close += count
        if self._received_since_close >= self._repeat_after:
            self._repeat_after = 2 * self._received_since_close
            self._goodbye_due = True

    def _settle(self) -> None:
        """Bring our state up to date with the connection's, and say when it ended."""
        quic = self._quic
        self.peer = quic.get_peer_address() or self.peer
        event = quic.close_event
        if event is None:
            return
        self.terminated = quic.is_terminated
        if self._close_reported:
            return
        self._close_reported = True
        self._refused.clear()
        quic.inbound.clear()
        quic.give_back_windows()
        self.handler.on_closed(
            Close(
                error_code=0 if self._timed_out else event.error_code,
                is_application=event.frame_type is None,
                phrase=event.reason_phrase,
                by_peer=quic.is_draining,
                timed_out=self._timed_out,
            )
        )

    # --- upcalls --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Make the upcalls for what happened; none after the application closed."""
        waiting, handler = self._quic.events, self.handler
        while waiting:
            event = waiting.popleft()
            if self._close_called:
                continue
            if isinstance(event, events.StreamDataReceived):
                self._on_data(event)
            elif isinstance(event, events.StreamReset):
                self._on_reset(event)
            elif isinstance(event, events.StopSendingReceived):
                self._on_stop_sending(event)
            elif isinstance(event, ConnectionIdGenerated):
                handler.on_connection_id_issued(event.connection_id)
            elif isinstance(event, events.ConnectionIdRetired):
                handler.on_connection_id_retired(event.connection_id)
            elif isinstance(event, events.HandshakeCompleted):
                self._on_handshake(event)
            elif isinstance(event, StreamsAvailable) and self._open_refused:
                self._open_refused = False
                handler.on_streams_available()

    def _on_data(self, event: events.StreamDataReceived) -> None:
        stream_id, data, end = event.stream_id, event.data, event.end_stream
        inbound = self._quic.inbound_of(stream_id)
        inbound.delivered += len(data)
        if end:
            inbound.ended = True
            self._quic.work.changed[stream_id] = None
        if inbound.stopped:
            self._quic.consume(stream_id, len(data))
            return
        if end and inbound.consumed == inbound.delivered:
            self._quic.consume(stream_id, 0)
        self.handler.on_stream_data(stream_id, data, end)

    def _on_reset(self, event: events.StreamReset) -> None:
        inbound = self._quic.inbound.get(event.stream_id)
        self._quic.end_inbound(event.stream_id)
        if inbound is None or not inbound.stopped:
            self.handler.on_stream_reset(event.stream_id, event.error_code)

    def _on_stop_sending(self, event: events.StopSendingReceived) -> None:
        stream = self._quic.stream(event.stream_id)
        if stream is not None and not stream.sender.stop_reported:
            stream.sender.stop_reported = True
            self._refused.pop(event.stream_id, None)
            self.handler.on_stop_sending(event.stream_id, event.error_code)

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for."""
        return self._requested_name if self.is_client else self._quic.server_context.server_name

    def _on_handshake(self, event: events.HandshakeCompleted) -> None:
        quic = self._quic
        certificate: bytes | None = None
        if not self.is_client:
            chain = quic.server_context.client_chain
            certificate = chain[0].public_bytes(Encoding.DER) if chain else None
            _let_go_of_certificates(quic)
        self.established = True
        self.peer = quic.get_peer_address() or self.peer
        self.handler.on_handshake(
            Handshake(
                version=quic.version,
                alpn=event.alpn_protocol or "",
                server_name=self.server_name,
                resumed=event.session_resumed,
                client_certificate=certificate,
            )
        )

    def _tell_writable(self) -> None:
        """Tell of the streams that were refused and have room again."""
        for stream_id in list(self._refused):
            stream = self._quic.stream(stream_id)
            if stream is None or not stream.sender.is_open:
                self._refused.pop(stream_id, None)
            elif self._quic.is_writable(stream.sender) and stream_id in self._refused:
                del self._refused[stream_id]
                self.handler.on_stream_writable(stream_id)

    # --- streams --------------------------------------------------------------------------------

    def open_stream(self, unidirectional: bool) -> int | None:
        """Return the ID of a new stream, or ``None`` while the peer's limit is reached."""
        stream_id = self._quic.open_stream(unidirectional)
        self._open_refused = self._open_refused or stream_id is None
        return stream_id

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        """Send stream data and return how many bytes were accepted."""
        stream = self._quic.stream(stream_id)
        if stream is None or not stream.sender.is_open or self._close_reported:
            return len(data)
        sender = stream.sender
        # What is within a stream's share is accepted without looking at the others.
        if len(data) + sender.buffered > STREAM_SHARE:
            room = self._quic.send_room(sender)
            if len(data) > room:
                self._refused[stream_id] = None
                data, fin = data[:room], False
        if data or fin:
            sender.write(data, fin)
        return len(data)

    def consume(self, stream_id: int, count: int) -> None:
        """Credit ``count`` delivered bytes back to the peer."""
        self._quic.consume(stream_id, count)

    def reset(self, stream_id: int, error_code: int) -> None:
        """Abandon our sending part (RESET_STREAM); what is unsent is dropped."""
        stream = self._quic.stream(stream_id)
        if stream is not None:
            self._refused.pop(stream_id, None)
            stream.sender.reset(error_code)

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        """Ignore it: aioquic lets all streams take turns."""

    def stop_sending(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to abandon its sending part; what still arrives is dropped and credited."""
        stream = self._quic.stream(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            self._quic.inbound_of(stream_id).stopped = True
            stream.receiver.stop(error_code)

    def held(self) -> list[tuple[int, int]]:
        """Return the streams for which data is held, with how much; bytes."""
        return self._quic.held()

    @property
    def acknowledged(self) -> int:
        """How much of the streams' data the peer has acknowledged; bytes."""
        return self._quic.work.acknowledged

    def unacknowledged(self, stream_id: int) -> int:
        """Return how much of a stream is held that the peer has not acknowledged; bytes."""
        stream = self._quic.stream(stream_id)
        return 0 if stream is None else stream.sender.buffered

    def is_held_up(self, stream_id: int) -> bool:
        """Return whether a stream has something to send that its own window does not allow."""
        stream = self._quic.stream(stream_id)
        if stream is None or stream.sender.buffer_is_empty:
            return False
        return stream.sender.next_offset >= stream.max_stream_data_remote

    # --- the connection -------------------------------------------------------------------------

    def ping(self) -> None:
        """Send a PING, to keep the connection or to probe it."""
        self._quic.ping()

    def probe_path(self) -> None:
        """Go on with another connection ID, on the path that is new to the peer."""
        self._quic.change_connection_id()
        self._quic.ping()

    def close(self, error_code: int, phrase: str, is_application: bool) -> None:
        """Close the connection."""
        self._close_called = True
        self._quic.close(error_code, None if is_application else 0, phrase)


def _runs_of(datagrams: list[tuple[bytes, Address]]) -> list[Transmit]:
    """Join consecutive datagrams of one size to one destination; the last may be shorter."""
    if len(datagrams) == 1:
        payload, destination = datagrams[0]
        return [Transmit(payload, len(payload), destination)]
    runs: list[Transmit] = []
    start, count = 0, len(datagrams)
    while start < count:
        payload, destination = datagrams[start]
        size = len(payload)
        end = start + 1
        most = min(count, start + RUN_MAX_SEGMENTS, start + max(1, RUN_MAX_SIZE // size))
        while end < most and datagrams[end][1] == destination and len(datagrams[end][0]) <= size:
            end += 1
            if len(datagrams[end - 1][0]) < size:
                break
        if end - start > 1:
            payload = b"".join([datagram for datagram, _ in datagrams[start:end]])
        runs.append(Transmit(payload, size, destination))
        start = end
    return runs


def _configuration(parameters: EndpointParameters, *, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=list(parameters.alpn),
        congestion_control_algorithm=ALGORITHMS[parameters.congestion_control],
        idle_timeout=parameters.idle_timeout,
        max_data=parameters.connection_window,
        max_stream_data=parameters.stream_window,
        max_datagram_size=parameters.max_datagram_size,
        secrets_log_file=parameters.secrets_log,
        supported_versions=list(parameters.versions),
    )


def _let_go_of_certificates(quic: Connection) -> None:
    """Keep none of a server's after the handshake, as they may be replaced."""
    quic._parameters = quic._parameters.established
    quic._configuration.certificate = quic._configuration.private_key = None
    del quic._make_context
    quic.server_context.let_go_of_certificates()


def server_session(
    parameters: ServerParameters,
    header: PacketHeader,
    peer: Address,
    now: float,
    new_connection_id: Callable[[], bytes],
    original_destination_connection_id: bytes | None = None,
    retry_source_connection_id: bytes | None = None,
    address_validated: bool = False,
) -> AioquicSession:
    """Begin a server's side of a connection.

    Args:
        parameters: Of the listener.
        header: Of the Initial packet that begins it; the packet itself goes to ``receive``.
        peer: Where that came from.
        now: Seconds.
        new_connection_id: Makes the connection IDs the client may use: 8 bytes, unused so far.
        original_destination_connection_id: After a Retry, of the packet that it answered.
        retry_source_connection_id: After a Retry, what it came from.
        address_validated: A token proved that the client is there: the session may send more than
            three times what it received (RFC 9000 section 8.1).

    Returns:
        A session without a handler. Its own connection IDs are reported as issued; routing the
        one the client chose (``header.destination_connection_id``) is left to the caller.
    """
    configuration = _configuration(parameters, is_client=False)
    # What aioquic insists on having; the hello decides.
    certificates = parameters.certificates
    assert certificates is not None
    chain = certificates.chains[0]
    configuration.certificate = chain.certificate
    configuration.private_key = chain.key

    def make_context(log: logging.LoggerAdapter[logging.Logger]) -> BoundedContext:
        return ServerContext(
            alpn=list(parameters.alpn),
            certificates=certificates,
            tickets=parameters.tickets,
            wall_clock=parameters.wall_clock,
            logger=log,
        )

    connection = Connection(
        configuration,
        parameters,
        make_context,
        original_destination_connection_id=(
            original_destination_connection_id or header.destination_connection_id
        ),
        retry_source_connection_id=retry_source_connection_id,
        new_connection_id=new_connection_id,
        address_validated=address_validated,
        reset_token=parameters.reset_token,
        new_token=parameters.new_token,
    )
    return AioquicSession(connection, peer, None)


def client_session(
    parameters: ClientParameters, peer: Address, server_name: str, now: float
) -> AioquicSession:
    """Begin a client's side of a connection.

    Args:
        parameters: How to connect.
        peer: Where to.
        server_name: The name or address the server's certificate must be for; a name is sent (SNI).
        now: Seconds.

    Returns:
        A session without a handler, whose first packets are ready to be flushed.
    """
    configuration = _configuration(parameters, is_client=True)
    configuration.server_name = server_name
    configuration.cadata = parameters.authorities or None
    configuration.verify_mode = ssl.CERT_REQUIRED if parameters.verify else ssl.CERT_NONE
    if parameters.certificate is not None:
        configuration.certificate = parameters.certificate.certificate
        configuration.certificate_chain = list(parameters.certificate.intermediates)
        configuration.private_key = parameters.certificate.key
    ticket = parameters.ticket
    if ticket is not None and not parameters.early_data:
        ticket = replace(ticket, max_early_data_size=None)
    configuration.session_ticket = ticket

    def make_context(log: logging.LoggerAdapter[logging.Logger]) -> BoundedContext:
        return ClientContext(
            verifier=parameters.verifier,
            wall_clock=parameters.wall_clock,
            groups=parameters.groups,
            alpn_protocols=configuration.alpn_protocols,
            cadata=configuration.cadata,
            logger=log,
            server_name=server_name,
            verify_mode=configuration.verify_mode,
        )

    tokens = parameters.tokens
    if tokens is not None:
        configuration.token = tokens.take(server_name, parameters.versions[0])

    def keep_token(token: bytes) -> None:
        if tokens is not None:
            tokens.put(server_name, connection.version, token)

    connection = Connection(
        configuration,
        parameters,
        make_context,
        session_ticket_handler=parameters.on_ticket,
        token_handler=keep_token,
    )
    connection.connect(peer, now)
    return AioquicSession(connection, peer, server_name)


if TYPE_CHECKING:
    _seam: Callable[[Connection, Address, str | None], QuicSession] = AioquicSession
