# cython: language_level=3, boundscheck=False, wraparound=False
"""What the frames of a packet mean (RFC 9000 section 19)."""

import secrets

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.connection_ids cimport IssuedId
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.endpoint cimport ACTIVE
from spooky._core.quic.frames cimport *
from spooky._core.quic.limits cimport (
    CONNECTION_ID_MAX_LENGTH,
    LINGER_PROBE_TIMEOUTS,
    PATH_DATA_LENGTH,
    RESET_TOKEN_LENGTH,
)
from spooky._core.quic.path cimport Path
from spooky._core.quic.ranges cimport RangeSet
from spooky._core.quic.records cimport RECORD_ACK
from spooky._core.quic.sending cimport Sending
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.space cimport SPACE_APPLICATION, PacketNumberSpace
from spooky._core.quic.wire cimport Reader, read_byte, read_bytes, read_varint, skip_zeros

from spooky._core.quic.errors import QuicError, TlsAlert, TransportError

# RFC 9000 section 8.2.4: three probe timeouts of a path that nothing is known of.
cdef double SHORTEST_CHALLENGE_SECONDS = 3.0

cdef uint64_t LARGEST_INTEGER = (1ULL << 62) - 1


cdef class FrameProcessing(Sending):
    """A connection as it understands frames."""

    def __cinit__(self):
        self.ack_ranges = RangeSet()
        self.newly_acked = []
        self.newly_lost = []

    cdef int process_payload(self, int epoch, uint64_t allowed, Reader* reader) except -1:
        """Process the frames of a packet, in order.

        Arguments:
            epoch: Its packet number space.
            allowed: As bits, the frame types it may carry (RFC 9000 section 12.4).
        """
        cdef uint64_t frame_type
        cdef Py_ssize_t start
        self.packet_eliciting = False
        self.packet_probing = True
        if reader.position == reader.end:
            raise _violation(0, "a packet without frames")
        while reader.position < reader.end and self.state == ACTIVE:
            start = reader.position
            frame_type = read_varint(reader)
            if reader.failed:
                raise _malformed(0, "a frame type that is cut off")
            if frame_type == FRAME_PADDING:
                skip_zeros(reader)
                continue
            if frame_type > FRAME_LAST:
                raise _unknown(frame_type)
            if reader.position - start != 1:
                raise _violation(frame_type, "a frame type in more bytes than it needs")
            if not is_in(frame_type, allowed):
                raise _violation(frame_type, "a frame that this kind of packet may not carry")
            if not is_in(frame_type, NOT_ACK_ELICITING_FRAMES):
                self.packet_eliciting = True
            if not is_in(frame_type, PROBING_FRAMES):
                self.packet_probing = False
            self.process_frame(epoch, frame_type, reader)
            if reader.failed:
                raise _malformed(frame_type, "a frame that is cut off")
        return 0

    cdef int process_frame(self, int epoch, uint64_t frame_type, Reader* reader) except -1:
        if FRAME_STREAM <= frame_type <= FRAME_STREAMS_BLOCKED_UNI:
            self.streams.on_frame(frame_type, reader)
        elif frame_type == FRAME_ACK or frame_type == FRAME_ACK_ECN:
            self.on_ack(epoch, frame_type, reader)
        elif frame_type == FRAME_CRYPTO:
            self.on_crypto(epoch, reader)
        elif frame_type == FRAME_RESET_STREAM or frame_type == FRAME_STOP_SENDING:
            self.streams.on_frame(frame_type, reader)
        elif frame_type == FRAME_NEW_CONNECTION_ID:
            self.on_new_connection_id(reader)
        elif frame_type == FRAME_RETIRE_CONNECTION_ID:
            self.on_retire_connection_id(reader)
        elif frame_type == FRAME_PATH_CHALLENGE:
            self.on_path_challenge(reader)
        elif frame_type == FRAME_PATH_RESPONSE:
            self.on_path_response(reader)
        elif frame_type == FRAME_NEW_TOKEN:
            self.on_new_token(reader)
        elif frame_type == FRAME_HANDSHAKE_DONE:
            if not self.is_client:
                raise _violation(frame_type, "a client that says the handshake is done")
            self.confirm_handshake()
        elif frame_type == FRAME_CONNECTION_CLOSE or frame_type == FRAME_APPLICATION_CLOSE:
            self.on_connection_close(frame_type, reader)
        return 0

    # --- acknowledgments ------------------------------------------------------------------------

    cdef int on_ack(self, int epoch, uint64_t frame_type, Reader* reader) except -1:
        cdef uint64_t largest = read_varint(reader)
        cdef uint64_t delay = read_varint(reader)
        cdef uint64_t count = read_varint(reader)
        cdef uint64_t size = read_varint(reader)
        cdef uint64_t ect0 = 0, ect1 = 0, ce = 0, lowest
        cdef double seconds = 0.0
        cdef SentPacket packet
        cdef PacketNumberSpace space = self.recovery.space(epoch)
        cdef bint counted = frame_type == FRAME_ACK_ECN
        self.ack_ranges.clear()
        if reader.failed or size > largest:
            raise _malformed(frame_type, "an ACK range below zero")
        lowest = largest - size
        self.ack_ranges.add(lowest, largest + 1)
        while count and not reader.failed:
            count -= 1
            size = read_varint(reader)
            if reader.failed or size + 2 > lowest:
                raise _malformed(frame_type, "an ACK range below zero")
            largest = lowest - size - 2
            size = read_varint(reader)
            if reader.failed or size > largest:
                raise _malformed(frame_type, "an ACK range below zero")
            lowest = largest - size
            self.ack_ranges.add(lowest, largest + 1)
        if counted:
            ect0, ect1, ce = read_varint(reader), read_varint(reader), read_varint(reader)
        if reader.failed:
            return 0
        if epoch == SPACE_APPLICATION:
            seconds = (delay << self.peer_ack_delay_exponent) / 1_000_000.0
        try:
            self.recovery.on_ack_received(
                epoch, self.ack_ranges, seconds, self.now, self.newly_acked, self.newly_lost
            )
        except ValueError as error:
            raise _violation(frame_type, str(error)) from error
        self.recovery.on_ecn_counts(epoch, counted, ect0, ect1, ce, self.now)
        for packet in self.newly_acked:
            self.path.on_acked(packet.size, packet.time_sent)
            self.on_records_acked(packet)
            if packet.frame_count and packet.frames[0].kind == RECORD_ACK:
                space.on_ack_acknowledged(packet.frames[0].id)
        self.newly_acked.clear()
        if self.newly_lost:
            self.on_lost_packets(self.newly_lost)
        return 0

    # --- the handshake --------------------------------------------------------------------------

    cdef int on_crypto(self, int epoch, Reader* reader) except -1:
        cdef uint64_t offset = read_varint(reader)
        cdef uint64_t size = read_varint(reader)
        cdef const uint8_t* data = read_bytes(reader, size)
        cdef CryptoStream crypto = self.crypto_of(epoch)
        cdef bytes turn
        if reader.failed or crypto is None:
            return 0
        if offset + size > LARGEST_INTEGER:
            raise _malformed(FRAME_CRYPTO, "CRYPTO data beyond 2^62 - 1")
        turn = crypto.receive(offset, data, size)
        if turn:
            try:
                self.tls.receive(epoch, turn)
            except TlsAlert as alert:
                # RFC 9001 section 4.8.
                raise QuicError(
                    TransportError.CRYPTO_ERROR + alert.alert, FRAME_CRYPTO, alert.phrase
                ) from alert
            if self.state == ACTIVE:
                self.take_tls_output()
        return 0

    cdef int on_new_token(self, Reader* reader) except -1:
        cdef uint64_t size = read_varint(reader)
        cdef const uint8_t* data = read_bytes(reader, size)
        if not self.is_client:
            raise _violation(FRAME_NEW_TOKEN, "a client that gives a token")
        if not reader.failed and not size:
            raise _malformed(FRAME_NEW_TOKEN, "an empty token")
        if not reader.failed:
            self.keep_token(data[:size])
        return 0

    # --- connection IDs and paths ---------------------------------------------------------------

    cdef int on_new_connection_id(self, Reader* reader) except -1:
        cdef uint64_t sequence = read_varint(reader)
        cdef uint64_t retire_prior_to = read_varint(reader)
        cdef uint8_t size = read_byte(reader)
        cdef const uint8_t* connection_id = read_bytes(reader, size)
        cdef const uint8_t* token = read_bytes(reader, RESET_TOKEN_LENGTH)
        if not 0 < size <= CONNECTION_ID_MAX_LENGTH:
            raise _malformed(FRAME_NEW_CONNECTION_ID, "a connection ID not of 1 to 20 bytes")
        if retire_prior_to > sequence:
            raise _malformed(FRAME_NEW_CONNECTION_ID, "retires later connection IDs")
        if not reader.failed:
            self.peer_ids.add(
                sequence, retire_prior_to, connection_id[:size], token[:RESET_TOKEN_LENGTH]
            )
        return 0

    cdef int on_retire_connection_id(self, Reader* reader) except -1:
        cdef uint64_t sequence = read_varint(reader)
        cdef IssuedId retired
        if reader.failed:
            return 0
        retired = self.local_ids.retire(sequence, self.packet_destination)
        if retired is not None:
            self._handler.on_connection_id_retired(retired.connection_id)
            self.issue_connection_ids()
        return 0

    cdef int on_path_challenge(self, Reader* reader) except -1:
        cdef const uint8_t* data = read_bytes(reader, PATH_DATA_LENGTH)
        if data != NULL:
            # Of several, the last is answered: each would cost a datagram.
            self.packet_path.response = data[:PATH_DATA_LENGTH]
            if self.packet_path is not self.path:
                self.name_path(self.packet_path)
        return 0

    cdef int on_path_response(self, Reader* reader) except -1:
        cdef const uint8_t* data = read_bytes(reader, PATH_DATA_LENGTH)
        cdef Path path
        if data != NULL:
            for path in [self.path, *self.other_paths]:
                if path.is_answer(data):
                    path.on_validated()
                    if path is not self.path:
                        continue
                    self.keep_an_id(self.packet_path)
                    if path.challenge_small:
                        # Section 8.2.1: that the peer is there does not say what gets there.
                        self.challenge(path)
        return 0

    cdef int name_path(self, Path path) except -1:
        """Settle what ID packets to another address carry (RFC 9000 section 9.5).

        That of a known address will do where the peer itself addresses us as it does from there: a
        NAT moved it. If it uses another ID, it must not be known again by that of its answers.
        """
        cdef Path known
        if path.destination != self.packet_destination:
            path.destination = self.packet_destination
            # What was sent there has been seen there, if there is no other.
            if self.shares_its_id(path) and (self.peer_ids.spare or not path.bytes_sent):
                path.peer_id = None
        if path.peer_id is None or not self.peer_ids.uses(path.peer_id):
            for known in [self.path, *self.other_paths]:
                if known is not path and self.id_of(known) is not None and (
                    known.destination == path.destination
                    or not self.peer_ids.current.connection_id
                ):
                    path.peer_id = self.id_of(known)
                    break
        self.give_id(path)
        self.keep_an_id(path)
        return 0

    cdef IssuedId id_of(self, Path path):
        """Return what packets to an address carry; None if there is nothing yet, or any more."""
        if path is self.path:
            return self.peer_ids.current
        if path.peer_id is not None and self.peer_ids.uses(path.peer_id):
            return path.peer_id
        return None

    cdef bint shares_its_id(self, Path path):
        cdef Path other
        for other in [self.path, *self.other_paths]:
            if other is not path and self.id_of(other) is path.peer_id:
                return True
        return False

    cdef bint may_give_up(self, Path path) noexcept:
        """Whether another path is not what the connection may have to go back to.

        That is one which is proven, until the current one is.
        """
        return self.path.validated or not path.validated

    cdef int drop_path(self, Path path) except -1:
        """Forget another path, and the ID that nothing but it used."""
        cdef Path other
        self.other_paths.remove(path)
        if path.peer_id is None:
            return 0
        for other in self.other_paths:
            if other.peer_id is path.peer_id:
                return 0
        self.peer_ids.give_back(path.peer_id)
        return 0

    cdef int keep_an_id(self, Path spared) except -1:
        """Give up the path known for longest, where no ID is left for the next: it is replaced.

        Paths that share an ID are given up together, or nothing would be gained.
        """
        cdef Path path
        cdef Py_ssize_t before
        if self.peer_ids.spare or not self.peer_ids.elsewhere:
            return 0
        before = len(self.peer_ids.elsewhere)
        for path in list(self.other_paths):
            if path.peer_id is spared.peer_id or not self.may_give_up(path):
                continue
            if path.peer_id in self.peer_ids.elsewhere:
                self.drop_path(path)
                if len(self.peer_ids.elsewhere) < before:
                    return 0
        return 0

    def challenge(self, Path path):
        """Ask whether the peer is at an address."""
        path.begin_challenge(
            secrets.token_bytes(PATH_DATA_LENGTH), self.now + self.path_patience()
        )

    cdef double path_patience(self) noexcept:
        """Return how long an answer may take, on whatever path; seconds (section 8.2.4)."""
        return max(
            LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout(), SHORTEST_CHALLENGE_SECONDS
        )

    # --- the end --------------------------------------------------------------------------------

    cdef int on_connection_close(self, uint64_t frame_type, Reader* reader) except -1:
        cdef uint64_t code = read_varint(reader)
        cdef uint64_t size
        cdef const uint8_t* phrase
        if frame_type == FRAME_CONNECTION_CLOSE:
            read_varint(reader)
        size = read_varint(reader)
        phrase = read_bytes(reader, size)
        if reader.failed:
            return 0
        # What came before it is the application's.
        self.streams.deliver()
        if self.state != ACTIVE:
            return 0
        self.close_code = code
        self.close_is_application = frame_type == FRAME_APPLICATION_CLOSE
        self.close_phrase = phrase[:size].decode(errors="replace")
        self.close_by_peer = True
        self.drain()
        return 0


cdef object _unknown(uint64_t frame_type):
    if FRAME_DATAGRAM <= frame_type <= FRAME_DATAGRAM_LAST:
        # RFC 9221 section 3.
        return _violation(frame_type, "a DATAGRAM frame, which was not offered")
    return _malformed(frame_type, "a frame of an unknown type")


cdef object _violation(uint64_t frame_type, str phrase):
    return QuicError(TransportError.PROTOCOL_VIOLATION, frame_type, phrase)


cdef object _malformed(uint64_t frame_type, str phrase):
    return QuicError(TransportError.FRAME_ENCODING_ERROR, frame_type, phrase)
