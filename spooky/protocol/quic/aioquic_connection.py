"""aioquic's connection with the holes closed that a proxy cannot have.

What is overridden, and why, stands at each method. Private names of aioquic that this uses are
checked by tests/protocol/quic/test_aioquic_contract.py.
"""

import logging
import os
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    NetworkAddress,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
    stream_is_client_initiated,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    pull_ack_frame,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from spooky.protocol.quic.aioquic_events import (
    ConnectionIdGenerated,
    PeerLog,
    StreamsAvailable,
)
from spooky.protocol.quic.aioquic_new_token import NewTokenFrame
from spooky.protocol.quic.aioquic_streams import (
    BUFFER_MAX,
    BUFFER_WINDOWS,
    CONNECTION_BUFFER,
    STREAM_BUFFER,
    STREAM_SHARE,
    InboundStream,
    StreamTable,
    StreamWork,
    TrackedSender,
    TrackedStream,
)
from spooky.protocol.quic.aioquic_tls import (
    BoundedContext,
    CryptoReceiver,
    ServerContext,
)
from spooky.protocol.quic.congestion import UsedWindowGrows
from spooky.protocol.quic.parameters import EndpointParameters
from spooky.protocol.quic.reassembly import GapBudget
from spooky.protocol.quic.session import Address
from spooky.protocol.quic.stateless import random_reset_token
from spooky.protocol.quic.windows import ReceiveWindow

REASON_PHRASE_MAX: Final = 256
"""Longest reason phrase sent; characters. aioquic fails on one that does not fit its packet, and a
peer's certificate can make it long."""

SKIP_INTERVAL: Final = 512
"""A packet number is skipped about once in so many, to catch a peer that acknowledges what it did
not receive (RFC 9000 section 21.4). Each costs such a peer's connection, and others nothing."""

SKIPPED_KEPT: Final = 4
"""Skipped packet numbers remembered; older ones are far behind what is in flight."""

CONNECTION_IDS_MAX: Final = 8
"""Connection IDs the peer may hold; the same for those we hold of it."""


logger = logging.getLogger("spooky.quic")


class Connection(QuicConnection):
    """A QUIC connection whose peer cannot make it hold or compute without bound.

    Attributes:
        now: The time of the call being served; seconds.
        events: What happened and was not yet told.
        inbound: Streams with data that was delivered and not yet all consumed, or that may come.
        work: What its streams share.
    """

    _logger: PeerLog  # type: ignore[assignment]
    _streams: StreamTable  # type: ignore[assignment]
    _streams_queue: list[TrackedStream]  # type: ignore[assignment]

    def __init__(
        self,
        configuration: QuicConfiguration,
        parameters: EndpointParameters,
        make_context: Callable[[logging.LoggerAdapter[logging.Logger]], BoundedContext],
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        new_connection_id: Callable[[], bytes] | None = None,
        address_validated: bool = False,
        reset_token: Callable[[bytes], bytes] | None = None,
        new_token: Callable[[Address, int], bytes] | None = None,
        session_ticket_handler: Callable[[tls.SessionTicket], None] | None = None,
        token_handler: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
            session_ticket_handler=session_ticket_handler,
            token_handler=token_handler,
        )
        self.now = 0.0
        self.inbound: dict[int, InboundStream] = {}
        self.work = StreamWork(parameters.limits.stream_pieces)
        self._parameters = parameters
        self._make_context = make_context
        self._new_connection_id = new_connection_id
        self._address_validated = address_validated
        self._reset_token = reset_token or random_reset_token
        self._new_token = NewTokenFrame(new_token)
        self._logger = PeerLog(logger, {"id": self._original_destination_connection_id.hex()})
        self._loss._logger = self._logger
        controller = self._loss._cc
        assert isinstance(controller, UsedWindowGrows)
        self._controller = controller
        self._streams = StreamTable()
        self._local_max_streams_bidi = Limit(
            QuicFrameType.MAX_STREAMS_BIDI, "max_streams_bidi", parameters.max_streams_bidi
        )
        self._local_max_streams_uni = Limit(
            QuicFrameType.MAX_STREAMS_UNI, "max_streams_uni", parameters.max_streams_uni
        )
        self._window = ReceiveWindow(parameters.connection_window, parameters.connection_window_max)
        self._window_growth = 0
        self._crypto_gaps = GapBudget(parameters.limits.crypto_pieces)
        self._skipped: list[int] = []
        self._skip_at = 0
        if new_connection_id is not None:
            self._use_first_connection_id(new_connection_id())
        self.events: deque[events.QuicEvent] = self._events
        self._events.append(ConnectionIdGenerated(self.host_cid))

    # --- connection IDs -------------------------------------------------------------------------

    def _use_first_connection_id(self, connection_id: bytes) -> None:
        self._host_cids[0].cid = connection_id
        self._host_cids[0].stateless_reset_token = self._reset_token(connection_id)
        self._local_initial_source_connection_id = connection_id
        self.host_cid = connection_id

    def _replenish_connection_ids(self) -> None:
        """Issue connection IDs as the dispatcher makes them, instead of random ones."""
        wanted = min(CONNECTION_IDS_MAX, self._remote_active_connection_id_limit)
        while len(self._host_cids) < wanted:
            connection_id = (
                os.urandom(self._configuration.connection_id_length)
                if self._new_connection_id is None
                else self._new_connection_id()
            )
            self._host_cids.append(
                QuicConnectionId(
                    connection_id, self._host_cid_seq, self._reset_token(connection_id)
                )
            )
            self._host_cid_seq += 1
            self._events.append(ConnectionIdGenerated(connection_id))

    def may_come_from(self, addr: NetworkAddress) -> bool:
        """Return whether a datagram may come from an address: from one until the handshake is over.

        RFC 9000 section 9; aioquic takes any address for proven that a Handshake packet came from.
        """
        paths = self._network_paths
        return self._handshake_confirmed or not paths or paths[0].addr == addr

    def _find_network_path(self, addr: NetworkAddress) -> QuicNetworkPath:
        """Take the path of the first packets for validated if a token proved it."""
        path = super()._find_network_path(addr)
        if self._address_validated and not self._network_paths:
            path.is_validated = True
        return path

    def _consume_peer_cid(self) -> None:
        """Refuse to go on without a connection ID of the peer.

        A peer that retires all it gave, repeating one that is retired already, makes aioquic fail
        with an IndexError (attack 14).
        """
        if not self._peer_cid_available:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=QuicFrameType.NEW_CONNECTION_ID,
                reason_phrase="all connection IDs are retired",
            )
        super()._consume_peer_cid()

    # --- the handshake --------------------------------------------------------------------------

    def _initialize(self, peer_cid: bytes) -> None:
        """Use our TLS context, and bounded CRYPTO streams."""
        super()._initialize(peer_cid)
        theirs, ours = self.tls, self._make_context(self._logger)
        ours.alpn_cb = theirs.alpn_cb
        ours.handshake_extensions = theirs.handshake_extensions
        ours.update_traffic_key_cb = theirs.update_traffic_key_cb
        if self._is_client:
            ours.certificate = theirs.certificate
            ours.certificate_chain = theirs.certificate_chain
            ours.certificate_private_key = theirs.certificate_private_key
            ours.new_session_ticket_cb = theirs.new_session_ticket_cb
            ours.session_ticket = theirs.session_ticket
        self.tls = ours
        for stream in self._crypto_streams.values():
            stream.receiver = CryptoReceiver(
                self._crypto_gaps, self._parameters.limits.crypto_ahead_bytes
            )

    @property
    def server_context(self) -> ServerContext:
        """The TLS context of a server."""
        assert isinstance(self.tls, ServerContext)
        return self.tls

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        """Heed three parameters that aioquic reads and ignores or misreads."""
        super()._parse_transport_parameters(data, from_session_ticket)
        theirs = pull_quic_transport_parameters(Buffer(data=data))
        if theirs.max_idle_timeout == 0:
            # No timeout (RFC 9000 section 18.2), where aioquic takes it for an immediate one.
            self._remote_max_idle_timeout = None
        if theirs.max_udp_payload_size is not None:
            self._max_datagram_size = min(self._max_datagram_size, theirs.max_udp_payload_size)
        if theirs.ack_delay_exponent is not None:
            self._remote_ack_delay_exponent = theirs.ack_delay_exponent

    # --- receiving ------------------------------------------------------------------------------

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        """Make the peer's streams of our kind; every refusal is aioquic's."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        limit = self._stream_limit(stream_id)
        count = stream_id // 4 + 1
        if (
            stream_is_client_initiated(stream_id) is self._is_client
            or not limit.used < count <= limit.value
        ):
            return super()._get_or_create_stream(frame_type, stream_id)
        # Opening a stream opens those below it (RFC 9000 section 2.1).
        for opened in range(limit.used * 4 + stream_id % 4, stream_id + 4, 4):
            stream = self._add_stream(opened)
        limit.used = count
        assert stream is not None
        return stream

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """Close on an acknowledgement of what was never sent (RFC 9000 sections 13.1 and 21.4)."""
        try:
            acknowledged, delay = pull_ack_frame(buf)
        except ValueError as error:
            raise QuicConnectionError(
                QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, str(error)
            ) from error
        if frame_type == QuicFrameType.ACK_ECN:
            for _ in range(3):
                buf.pull_uint_var()
        if acknowledged.bounds().stop > self._packet_number or (
            context.epoch is tls.Epoch.ONE_RTT
            and any(number in acknowledged for number in self._skipped)
        ):
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "acknowledged what was not sent"
            )
        if context.epoch is not tls.Epoch.INITIAL:
            self._loss.peer_completed_address_validation = True
        self._loss.on_ack_received(
            ack_rangeset=acknowledged,
            ack_delay=(delay << self._remote_ack_delay_exponent) / 1_000_000,
            now=context.time,
            space=self._spaces[context.epoch],
        )

    def _handle_new_connection_id_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        """Call an impossible Retire Prior To by its name (RFC 9000 section 19.15)."""
        start = buf.tell()
        if buf.pull_uint_var() < buf.pull_uint_var():
            raise QuicConnectionError(
                QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, "retires later connection IDs"
            )
        buf.seek(start)
        super()._handle_new_connection_id_frame(context, frame_type, buf)

    def _unblock_streams(self, is_unidirectional: bool) -> None:
        """Say when the peer lets us open more streams."""
        super()._unblock_streams(is_unidirectional)
        self._events.append(StreamsAvailable())

    # --- credit ---------------------------------------------------------------------------------

    def consume(self, stream_id: int, count: int) -> None:
        """Credit delivered bytes of a stream, and announce it when it is worth it."""
        inbound = self.inbound.get(stream_id)
        if inbound is None:
            return
        count = min(count, inbound.delivered - inbound.consumed)
        inbound.consumed += count
        self._window.consumed += count
        if inbound.ended:
            if inbound.consumed == inbound.delivered:
                del self.inbound[stream_id]
            return
        if inbound.consumed >= inbound.announce_at and stream_id in self._streams:
            self._streams.due[stream_id] = self._streams[stream_id]

    def end_inbound(self, stream_id: int) -> None:
        """Credit the connection with all of a stream that is reset, up to its final size."""
        stream = self._streams.get(stream_id)
        inbound = self.inbound.pop(stream_id, None)
        if stream is None:
            return
        consumed = inbound.consumed if inbound is not None else 0
        self._window.consumed += stream.receiver.highest_offset - consumed
        stream.receiver.release()
        self.work.changed[stream_id] = None

    def inbound_of(self, stream_id: int) -> InboundStream:
        """Return the inbound part of a stream, made if need be."""
        inbound = self.inbound.get(stream_id)
        if inbound is None:
            parameters = self._parameters
            inbound = InboundStream(parameters.stream_window, parameters.stream_window_max)
            self.inbound[stream_id] = inbound
        return inbound

    def give_back_windows(self) -> None:
        """Return what the window has grown to the account."""
        self._parameters.account.give_back(self._window_growth)
        self._window_growth = 0

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """Announce MAX_DATA as data is consumed, where aioquic raises it as data arrives."""
        window, max_data = self._window, self._local_max_data
        # The second is true of a limit that was lost, and of one whose frame found no room: on an
        # unproven path, or a full one.
        if window.consumed >= window.announce_at or max_data.sent != max_data.value:
            self._tune_window()
            max_data.value = window.announce()
            self._write_connection_limit(builder, max_data)
        if self._handshake_confirmed and self._new_token.pending:
            self._new_token.write(builder, self._network_paths[0].addr, self.version)
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            # As aioquic does: once the peer has fewer left than the update would grant.
            if limit.value - limit.sent > limit.sent - limit.used:
                self._write_connection_limit(builder, limit)

    def _write_connection_limit(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        frame = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        frame.push_uint_var(limit.value)
        limit.sent = limit.value

    def _write_stream_limits(  # type: ignore[override]
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: TrackedStream
    ) -> None:
        """Announce MAX_STREAM_DATA as data is consumed, where aioquic raises it as it arrives."""
        stream_id = stream.stream_id
        inbound = None if stream.receiver.is_finished else self.inbound.get(stream_id)
        if inbound is not None:
            wanted = inbound.wanted_size(self.now, self._round_trip())
            if wanted <= self._window.size:
                inbound.size = wanted
            frame = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            frame.push_uint_var(stream_id)
            stream.max_stream_data_local = inbound.announce()
            frame.push_uint_var(stream.max_stream_data_local)
        del self._streams.due[stream_id]

    def _on_max_stream_data_delivery(  # type: ignore[override]
        self, delivery: QuicDeliveryState, stream: TrackedStream
    ) -> None:
        """Announce a limit again that was lost."""
        if delivery is QuicDeliveryState.LOST:
            self._streams.due[stream.stream_id] = stream

    def _tune_window(self) -> None:
        window = self._window
        growth = window.wanted_size(self.now, self._round_trip()) - window.size
        if growth and self._parameters.account.grow(growth):
            window.size += growth
            self._window_growth += growth

    def _round_trip(self) -> float:
        return self._loss._rtt_smoothed

    # --- sending --------------------------------------------------------------------------------

    def _add_stream(self, stream_id: int) -> TrackedStream:
        # The two low bits of an ID say who opened it and its directions (RFC 9000 section 2.1).
        ours = bool(stream_id & 1) is not self._is_client
        one_way = bool(stream_id & 2)
        if one_way:
            peer_window = self._remote_max_stream_data_uni if ours else 0
        elif ours:
            peer_window = self._remote_max_stream_data_bidi_remote
        else:
            peer_window = self._remote_max_stream_data_bidi_local
        readable, writable = not (one_way and ours), not one_way or ours
        stream = self._streams[stream_id] = TrackedStream(
            stream_id,
            self.work,
            window=self._parameters.stream_window if readable else 0,
            peer_window=peer_window,
            readable=readable,
            writable=writable,
        )
        return stream

    def open_stream(self, unidirectional: bool) -> int | None:
        """Open a stream, unless the peer's limit is reached."""
        if unidirectional:
            stream_id, limit = self._local_next_stream_id_uni, self._remote_max_streams_uni
        else:
            stream_id, limit = self._local_next_stream_id_bidi, self._remote_max_streams_bidi
        if stream_id // 4 >= limit or self._state in END_STATES:
            return None
        if unidirectional:
            self._local_next_stream_id_uni += 4
        else:
            self._local_next_stream_id_bidi += 4
        self._add_stream(stream_id)
        return stream_id

    def _stream_capacity(self) -> int:
        return min(max(STREAM_BUFFER, BUFFER_WINDOWS * self._loss.congestion_window), BUFFER_MAX)

    def send_room(self, sender: TrackedSender) -> int:
        """Return how much more a stream may hold, so that the path stays full and no fuller."""
        of_stream = self._stream_capacity()
        of_connection = max(CONNECTION_BUFFER, of_stream)
        held = sender.buffered
        room = min(of_stream - held, of_connection - self.work.buffered)
        return max(room, STREAM_SHARE - held, 0)

    def is_writable(self, sender: TrackedSender) -> bool:
        """Whether a stream once refused has so much room that it is worth offering again."""
        return (
            sender.buffered <= STREAM_SHARE // 2
            or self.send_room(sender) >= self._stream_capacity() // 2
        )

    def ping(self) -> None:
        """Send a PING, unless one is to be sent already."""
        if not self._ping_pending:
            self.send_ping(0)

    def prepare_flush(self) -> None:
        """Queue the streams that changed, and now and then skip a packet number."""
        changed = self.work.changed
        for stream_id in changed:
            stream = self._streams.get(stream_id)
            if stream is not None and not stream.queued and stream.is_busy:
                stream.queued = True
                self._streams_queue.append(stream)
        changed.clear()
        if self._packet_number >= self._skip_at and self._handshake_confirmed:
            if self._skip_at:
                self._skipped = [*self._skipped[1 - SKIPPED_KEPT :], self._packet_number]
                self._packet_number += 1
            self._skip_at = self._packet_number + 1 + secrets.randbelow(2 * SKIP_INTERVAL)

    def finish_flush(self) -> None:
        """Take streams with nothing left to send out of the queue, and see what limits sending.

        The congestion window is in use if packets wait for their pace or half of it is in flight
        (RFC 9002 section 7.8).
        """
        controller = self._controller
        controller.in_use = (
            self._pacing_at is not None
            or 2 * controller.bytes_in_flight >= controller.congestion_window
        )
        if self._streams_queue:
            waiting = []
            for stream in self._streams_queue:
                if stream.is_busy:
                    waiting.append(stream)
                else:
                    stream.queued = False
            self._streams_queue = waiting

    def close(
        self,
        error_code: int = QuicErrorCode.NO_ERROR,
        frame_type: int | None = None,
        reason_phrase: str = "",
    ) -> None:
        """Close, with a reason phrase that fits into a packet."""
        super().close(error_code, frame_type, reason_phrase[:REASON_PHRASE_MAX])

    # --- state ----------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether a client has begun, or a server received a valid packet."""
        return self._is_client or self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def agreed_idle_timeout(self) -> float:
        """After which silence it ends; seconds."""
        return float(self._idle_timeout())

    def is_idle(self, now: float) -> bool:
        """Whether the idle timeout has passed."""
        return self._close_at is not None and now >= self._close_at

    @property
    def close_event(self) -> events.ConnectionTerminated | None:
        """How it ended, as soon as that is decided."""
        return self._close_event

    @property
    def is_closing(self) -> bool:
        """Whether we said that it is closed, and wait for the peer to hear it."""
        return self._state is QuicConnectionState.CLOSING

    @property
    def is_draining(self) -> bool:
        """Whether the peer said that it is closed."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def is_terminated(self) -> bool:
        """Whether it is over."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def version(self) -> int:
        """The QUIC version in use."""
        return self._version or 0

    @property
    def peer_stream_limit(self) -> int:
        """How many bidirectional streams the peer was allowed to open so far."""
        return self._local_max_streams_bidi.sent

    @property
    def all_acknowledged(self) -> bool:
        """Whether the peer has everything that was sent on streams."""
        # The table's own values() are those of which a limit is due.
        senders = [stream.sender for stream in dict.values(self._streams)]
        return all(
            sender.is_finished or (sender.is_open and not sender.buffered) for sender in senders
        )

    def held(self) -> list[tuple[int, int]]:
        """Return the streams for which data is held, with how much; bytes."""
        streams = dict.values(self._streams)
        sizes = [(each.stream_id, each.sender.buffered + each.receiver.held) for each in streams]
        return [pair for pair in sizes if pair[1]]

    def stream(self, stream_id: int) -> TrackedStream | None:
        """Return a stream that is not yet over."""
        return self._streams.get(stream_id)

    def abandon(self, error_code: int, reason_phrase: str) -> None:
        """End without a word: nothing can be sent."""
        if self.is_terminated:
            return
        if self._close_event is None:
            self._close_event = events.ConnectionTerminated(
                error_code=error_code, frame_type=0, reason_phrase=reason_phrase
            )
        self._close_end()
