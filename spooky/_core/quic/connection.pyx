# cython: language_level=3
"""A QUIC connection without I/O: what its owner calls (RFC 9000, 9001, 9002, 9368, 9369)."""

import os

from libc.math cimport INFINITY
from libc.stdint cimport uint64_t

from spooky._core.quic.connection_ids cimport IssuedId, LocalIds, PeerIds
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.endpoint cimport (
    ACTIVE,
    CLOSING,
    DRAINING,
    DROP_NO_KEYS,
    DROPS,
    TERMINATED,
)
from spooky._core.quic.limits cimport (
    MAX_ACK_DELAY_MS,
    MINIMUM_DATAGRAM_SIZE,
    UNDECRYPTABLE_MAX,
    UNDECRYPTABLE_SIZE_MAX,
)
from spooky._core.quic.path cimport Path
from spooky._core.quic.protection cimport EpochKeys
from spooky._core.quic.receiving cimport Receiving
from spooky._core.quic.recovery cimport Recovery
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.space cimport SPACE_APPLICATION, SPACE_INITIAL
from spooky._core.quic.streams cimport Streams

from spooky._core.quic.errors import QuicError, TransportError

cdef enum:
    SEED_BYTES = 8

    SHRINK_AFTER_PROBE_TIMEOUTS = 2
    # Probes are as large as the path was; lost twice, it may carry less (RFC 8899 section 4.3). More
    # often everything was lost: what it carries is asked again as soon as something passes.


cdef class Connection(Receiving):
    """One QUIC connection; `protocol/quic/native_session.py` gives it its TLS and its words.

    Arguments:
        is_client: Which role it has.
        parameters: What may be chosen about it.
        peer: Where packets go.
        now: Seconds.
        version: Of the first packet.
        peer_id: Where the first packets go: of a client's making for a client.
        make_connection_id: Makes the IDs by which the peer may address us.
        make_reset_token: Makes the stateless reset token of an ID; ``None`` for random ones.
    """

    def __init__(
        self,
        bint is_client,
        parameters,
        peer,
        double now,
        version,
        bytes peer_id,
        make_connection_id,
        make_reset_token,
    ):
        cdef int epoch
        limits = parameters.limits
        self.is_client = is_client
        self.parameters = parameters
        self.make_connection_id = make_connection_id
        self.make_reset_token = make_reset_token
        self.now = now
        self.state = ACTIVE
        self.original_version = self.version = version
        self.recovery = Recovery(
            is_client, parameters.congestion_control, MINIMUM_DATAGRAM_SIZE,
            int.from_bytes(os.urandom(SEED_BYTES), "little"), now, limits.skip_period,
        )
        for epoch in range(3):
            self.recovery.space(epoch).ranges_max = limits.ack_ranges
        self.recovery.application.max_ack_delay = MAX_ACK_DELAY_MS / 1000.0
        self.initial_crypto = CryptoStream(SPACE_INITIAL, limits)
        self.application_crypto = CryptoStream(SPACE_APPLICATION, limits)
        self.streams = Streams(is_client, parameters)
        self.local_ids = LocalIds()
        self.peer_ids = PeerIds(peer_id, limits.retirements)
        self.ids_to_announce = []
        self.path = Path(peer, is_client)
        self.other_paths = []
        self.token = b""
        self.idle_timeout = parameters.idle_timeout
        self.repeat_after = 1
        self.tell_streams()
        self.restart_idle_timer()

    def start_client(self, bytes token):
        """Say the hello.

        Arguments:
            token: What the server gave us in an earlier connection; empty if it gave none.
        """
        cdef bytes source = self.make_connection_id()
        self.original_destination_id = self.peer_ids.current.connection_id
        self.local_ids.issue(source, None)
        self.set_initial_keys(self.original_destination_id)
        self.token = token
        self.tls = self.make_tls()
        self.tls.start(self.own_parameters())
        self.take_tls_output()

    def start_server(self, bytes destination_id, original_destination_id, retry_source_id, validated):
        """Wait for the hello.

        Arguments:
            destination_id: Where the client's first packet went.
            original_destination_id: Where the packet went that a Retry answered.
            retry_source_id: Where that Retry came from; ``None`` without one.
            validated: Whether the client is known to be at its address.
        """
        cdef bytes source = self.make_connection_id()
        self.original_destination_id = original_destination_id
        self.retry_source_id = retry_source_id
        self.local_ids.issue(source, self.reset_token_of(source))
        self.path.destination = source
        self.set_initial_keys(destination_id)
        self.recovery.peer_completed_address_validation = True
        if validated:
            self.path.on_validated()
        self.tls = self.make_tls()

    # --- datagrams ------------------------------------------------------------------------------

    def receive(self, batch, double now):
        """Take datagrams, in order, and make the upcalls they cause."""
        self.now = now
        self.streams.now = now
        if self.state == ACTIVE and self.is_first():
            self._handler.on_connection_id_issued(
                (<IssuedId>self.local_ids.active[0]).connection_id
            )
        try:
            self.receive_batch(batch)
        except QuicError as error:
            self.fail(error.error_code, error.frame_type, error.phrase, False)
        except Exception:
            # The boundary to the peer: what nobody foresaw ends this connection only.
            self.report_defect("receive a datagram")
            self.fail(TransportError.INTERNAL_ERROR, 0, "", False)
        if self.state == ACTIVE:
            self.streams.deliver()
        if self.state == CLOSING:
            self._count_since_close(batch)
        if not self.received_any and not self.is_client and self.state == ACTIVE:
            # Nothing valid came: no state is kept for it (attack 13).
            self.close_phrase = "no valid packet"
            self.end_without_a_word()
        self.settle()

    cdef int receive_batch(self, batch) except -1:
        """Process datagrams, and those that waited for their keys once the keys are there."""
        cdef bytes payload
        for payload, source, ecn in batch:
            if self.state != ACTIVE:
                return 0
            self.came_early = False
            self.receive_datagram(payload, source, ecn)
            if self.came_early:
                if len(self.undecryptable) < UNDECRYPTABLE_MAX and (
                    len(payload) <= UNDECRYPTABLE_SIZE_MAX
                ):
                    self.undecryptable.append((payload, source, ecn))
                else:
                    self.drop(DROP_NO_KEYS)
            elif self.undecryptable:
                self.receive_again()
        return 0

    cdef int receive_again(self) except -1:
        """Try again what came before its keys."""
        cdef list waiting
        if self.handshake_keys is None and not self.established:
            return 0
        waiting, self.undecryptable = self.undecryptable, []
        self.again = True
        for payload, source, ecn in waiting:
            if self.state != ACTIVE:
                break
            self.came_early = False
            self.receive_datagram(payload, source, ecn)
            if self.came_early:
                self.undecryptable.append((payload, source, ecn))
        self.again = False
        return 0

    def is_first(self):
        """Whether nothing was received before; True once."""
        if self.announced:
            return False
        self.announced = True
        return True

    def _count_since_close(self, batch):
        """Say again that it is over, ever more rarely (RFC 9000 section 10.2.1)."""
        cdef bytes payload
        for payload, source, _ in batch:
            if source == self.path.address:
                self.path.bytes_received += len(payload)
        self.received_since_close += len(batch)
        if self.received_since_close >= self.repeat_after:
            self.repeat_after = 2 * self.received_since_close
            self.goodbye_due = True

    cdef int settle(self) except -1:
        """Tell what became possible, and that it ended."""
        if self.state == ACTIVE:
            self.tell_streams()
            self.streams.tell_writable()
        self.report_close()
        return 0

    cdef int tell_streams(self) except -1:
        """Tell the streams what the path is like."""
        self.streams.smoothed_rtt = self.recovery.smoothed_rtt
        self.streams.congestion_window = self.recovery.congestion.window
        return 0

    # --- time -----------------------------------------------------------------------------------

    def deadline(self):
        """Return when ``expire`` must be called, or ``None``."""
        cdef double when
        if self.state == TERMINATED:
            return None
        if self.state == CLOSING or self.state == DRAINING:
            return self.end_at
        when = self.next_deadline()
        return None if when == INFINITY else when

    cdef double next_deadline(self) noexcept:
        cdef double when = min(self.idle_at, self.recovery.deadline())
        cdef int epoch
        cdef Path path
        cdef bint content = False
        cdef double paced
        for epoch in range(3):
            if self.keys_of(epoch) is not None or self.may_send(epoch):
                if not (self.acknowledgments_held and self.recovery.space(epoch).ack_due(self.now)):
                    when = min(when, self.recovery.space(epoch).ack_deadline())
                content = content or self.has_content(epoch)
        if content and self.recovery.congestion_room() >= <Py_ssize_t>self.path.mtu:
            paced = self.recovery.pacing_deadline(self.now)
            if paced > 0:
                when = min(when, paced)
        if self.path.challenge is not None:
            when = min(when, self.path.challenge_until)
        for path in self.other_paths:
            if path.challenge is not None:
                when = min(when, path.challenge_until)
            elif self.may_give_up(path):
                when = min(when, path.forget_at)
        return when

    def expire(self, double now):
        """Do what is due: loss detection, idle timeout, path validation."""
        self.now = now
        self.streams.now = now
        if self.state == CLOSING or self.state == DRAINING:
            if now >= self.end_at:
                self.end_without_a_word()
        elif self.state == ACTIVE:
            if now >= self.idle_at:
                self.close_timed_out = True
                self.close_phrase = "idle timeout"
                self.end_without_a_word()
            else:
                try:
                    self.on_loss_timer()
                    self.expire_paths()
                except QuicError as error:
                    self.fail(error.error_code, error.frame_type, error.phrase, False)
                except Exception:
                    # As in receive: a defect ends this connection only, not the worker's turn.
                    self.report_defect("do what is due")
                    self.fail(TransportError.INTERNAL_ERROR, 0, "", False)
        self.settle()

    cdef int on_loss_timer(self) except -1:
        """Detect losses by time, and probe when nothing comes back (RFC 9002 section 6.2)."""
        cdef list lost = []
        cdef int count = self.recovery.on_timeout(self.now, lost)
        cdef int epoch
        cdef SentPacket packet
        self.on_lost_packets(lost)
        if not count:
            return 0
        epoch = self.recovery.probe_epoch
        # A client's second one would have no CRYPTO data, and if it came first, be a violation.
        if self.is_client and epoch == SPACE_INITIAL:
            count = 1
        self.probes_due[epoch] = count
        if self.recovery.pto_count >= SHRINK_AFTER_PROBE_TIMEOUTS and (
            self.path.mtu > MINIMUM_DATAGRAM_SIZE
        ):
            self.path.shrink(self.now)
            self.recovery.set_max_datagram_size(self.path.mtu, self.now)
        for packet in self.recovery.oldest_ack_eliciting(epoch, count):
            self.on_records_lost(packet)
        return 0

    cdef int expire_paths(self) except -1:
        """Ask again, or give up, where nobody answered (RFC 9000 section 8.2.4).

        A path that was probed or left, and is not used, goes as well: its ID is of use elsewhere
        (section 5.1.2).
        """
        cdef Path path, back
        for path in [self.path, *self.other_paths]:
            if path.challenge is None:
                if path is not self.path and self.may_give_up(path) and (
                    self.now >= path.forget_at
                ):
                    self.drop_path(path)
                continue
            if self.now < path.challenge_until:
                continue
            if path.challenges_left > 0:
                self.challenge(path)
                continue
            path.on_unanswered()
            if path is not self.path:
                self.drop_path(path)
                continue
            for back in reversed(self.other_paths):
                if back.validated and self.give_id(back):
                    # The client never was where that packet came from (section 9.3.2): it is where
                    # it was last known to be.
                    self.move_to(back)
                    self.drop_path(path)
                    break
            else:
                if not path.validated:
                    # There is no place known where the peer ever was (section 9.3.2).
                    self.close_phrase = "no proven path"
                    self.end_without_a_word()
                    return 0
        return 0

    # --- streams --------------------------------------------------------------------------------

    @property
    def all_acknowledged(self):
        """Whether the peer has everything that was sent on streams."""
        return self.streams.all_acknowledged()

    def open_stream(self, bint unidirectional):
        """Return the ID of a new stream, or ``None`` while the peer's limit is reached."""
        return self.streams.open_stream(unidirectional)

    def send(self, uint64_t stream_id, bytes data, bint fin):
        """Send stream data and return how many bytes were accepted."""
        return self.streams.send(stream_id, data, fin)

    def consume(self, uint64_t stream_id, Py_ssize_t count):
        """Credit ``count`` delivered bytes back to the peer."""
        self.streams.consume(stream_id, count)

    def reset(self, uint64_t stream_id, uint64_t error_code):
        """Abandon our sending part (RESET_STREAM); what is unsent is dropped."""
        self.streams.reset(stream_id, error_code)

    def stop_sending(self, uint64_t stream_id, uint64_t error_code):
        """Ask the peer to abandon its sending part."""
        self.streams.stop_sending(stream_id, error_code)

    def set_priority(self, uint64_t stream_id, int urgency, bint incremental):
        """Say in which order streams are served (RFC 9218)."""
        self.streams.set_priority(stream_id, urgency, incremental)

    def held(self):
        """Return the streams that hold data, with how much; bytes."""
        return self.streams.held()

    @property
    def acknowledged(self):
        """How much of the streams' data the peer has acknowledged; bytes."""
        return self.streams.acknowledged

    def unacknowledged(self, uint64_t stream_id):
        """Return how much of a stream is held that the peer has not acknowledged; bytes."""
        return self.streams.unacknowledged(stream_id)

    def is_held_up(self, uint64_t stream_id):
        """Return whether a stream has something to send that its own window does not allow."""
        return self.streams.is_held_up(stream_id)

    @property
    def peer_stream_limit(self):
        """How many bidirectional streams the peer was allowed to open so far."""
        return self.streams.announced_streams()

    # --- the connection -------------------------------------------------------------------------

    def ping(self):
        """Send a PING, to keep the connection or to probe it."""
        self.ping_due = True

    def probe_path(self):
        """Go on from another address of ours, with another connection ID of the peer's."""
        try:
            if not self.peer_ids.use_next():
                return
        except QuicError as error:
            # The peer acknowledges no retirement (CVE-2024-22189).
            self.fail(error.error_code, error.frame_type, error.phrase, False)
            return
        self.recovery.reset_for_path(self.now)
        self.challenge(self.path)

    def request_key_update(self):
        """Change the 1-RTT keys before the next packet that may (RFC 9001 section 6.1)."""
        if self.application_keys is not None:
            self.application_keys.update_wanted = True

    def limit_sealing(self, uint64_t packets):
        """Bear only so many more packets under each key, fewer than its AEAD; for tests."""
        cdef EpochKeys keys
        for keys in (self.initial_keys, self.early_keys, self.handshake_keys, self.application_keys):
            if keys is not None:
                keys.set_limit(packets)

    def limit_forgeries(self, uint64_t packets):
        """Bear only so many packets that do not authenticate, fewer than the AEAD; for tests."""
        self.forgeries_max = packets

    def close(self, uint64_t error_code, str phrase, bint is_application):
        """Close the connection."""
        self.fail(error_code, 0, phrase, is_application)

    def figures(self):
        """Return of :meth:`statistics` what is counted of every connection."""
        return (
            self.packets_sent,
            self.packets_received,
            self.packets_lost,
            self.recovery.smoothed_rtt,
            self.recovery.congestion.window,
        )

    def take_dropped(self):
        """Return how many packets were dropped since the last call, by why; None if none were."""
        cdef int why
        if not self.any_dropped:
            return None
        counts = []
        for why in range(DROPS):
            counts.append(self.dropped[why])
            self.dropped[why] = 0
        self.any_dropped = False
        return tuple(counts)

    def statistics(self):
        """Return figures of the transport; times in seconds, sizes in bytes."""
        return {
            "packets_sent": self.packets_sent,
            "packets_received": self.packets_received,
            "packets_lost": self.packets_lost,
            "smoothed_rtt": self.recovery.smoothed_rtt,
            "congestion_window": self.recovery.congestion.window,
            "bytes_in_flight": self.recovery.bytes_in_flight,
            "mtu": self.path.mtu,
            "ecn": self.recovery.ecn.state,
        }
