# cython: language_level=3, boundscheck=False, wraparound=False
"""Reading datagrams and their packets, and following the peer to other addresses."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from spooky._core.quic.crypto cimport (
    MASK_LENGTH,
    SAMPLE_LENGTH,
    TAG_LENGTH,
    retry_integrity_tag,
)
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.endpoint cimport (
    ACTIVE,
    DROP_FORGED,
    DROP_MALFORMED,
    DROP_NO_KEYS,
    DROP_STRANGE,
    DROP_VERSION,
)
from spooky._core.quic.frame_processing cimport FrameProcessing
from spooky._core.quic.frames cimport ALL_FRAMES, EARLY_FRAMES, HANDSHAKE_FRAMES
from spooky._core.quic.headers cimport (
    FIXED_BIT,
    HANDSHAKE_TYPE,
    INITIAL_TYPE,
    KEY_PHASE_BIT,
    LONG_HEADER,
    LONG_PROTECTED_BITS,
    LONG_RESERVED_BITS,
    NUMBER_LENGTH_BITS,
    NUMBER_MAX_LENGTH,
    RETRY_TYPE,
    SHORT_PROTECTED_BITS,
    SHORT_RESERVED_BITS,
)
from spooky._core.quic.limits cimport (
    CONNECTION_ID_LENGTH,
    CONNECTION_ID_MAX_LENGTH,
    LINGER_PROBE_TIMEOUTS,
    MINIMUM_DATAGRAM_SIZE,
    PATH_CHALLENGES,
    RESET_TOKEN_LENGTH,
    RETRY_TOKEN_MAX,
)
from spooky._core.quic.path cimport Path
from spooky._core.quic.protection cimport EpochKeys
from spooky._core.quic.space cimport (
    SPACE_APPLICATION,
    SPACE_HANDSHAKE,
    SPACE_INITIAL,
    PacketNumberSpace,
)
from spooky._core.quic.wire cimport Reader, read_byte, read_bytes, read_uint32, read_varint

from spooky._core.quic.crypto import VERSION_2
from spooky._core.quic.errors import QuicError, TransportError

cdef enum:
    SMALLEST_RESET = 21
    # RFC 9000 section 10.3.

cdef uint32_t SECOND_VERSION = VERSION_2


cdef class Receiving(FrameProcessing):
    """A connection as it receives."""

    def __cinit__(self):
        self.undecryptable = []

    cdef int receive_datagram(self, bytes payload, object source, uint8_t ecn) except -1:
        """Process the packets of a datagram."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(payload)
        cdef const uint8_t* start = data
        cdef const uint8_t* end = data + len(payload)
        cdef Packet packet, first
        cdef bint parsed
        cdef Path path = self.path_from(source)
        if path is None:
            return 0
        first.destination, first.destination_size = NULL, 0
        if not self.again:
            path.bytes_received += len(payload)
        self.recovery.amplification_limited = False
        self.acknowledgments_held = False
        while data < end and self.state == ACTIVE:
            parsed = self.parse(data, end, &packet)
            if not parsed or not self.is_for_us(&packet):
                if data == start and self.is_stateless_reset(data, end):
                    self._on_stateless_reset()
                elif parsed:
                    self.drop(DROP_STRANGE)
                elif data == start or not _is_filling(data, end):
                    self.drop(DROP_MALFORMED)
                return 0
            if data == start:
                first = packet
            elif not _have_one_destination(&packet, &first):
                # Whoever joined them is not who made them (RFC 9000 section 12.2).
                self.drop(DROP_STRANGE)
                data = packet.end
                continue
            if packet.epoch == SPACE_INITIAL and not self.is_client and (
                end - start < MINIMUM_DATAGRAM_SIZE
            ):
                # It could be answered with more than it is worth (RFC 9000 section 14.1).
                self.drop(DROP_MALFORMED)
                return 0
            if packet.epoch >= 0:
                self.receive_packet(&packet, path, ecn)
            elif not self.is_client:
                # Version Negotiation and Retry are what servers send.
                self.drop(DROP_MALFORMED)
            elif packet.version == 0:
                self.on_version_negotiation(&packet)
            elif packet.kind == RETRY_TYPE:
                self.on_retry(&packet)
            data = packet.end
        return 0

    # --- headers --------------------------------------------------------------------------------

    cdef bint parse(self, const uint8_t* data, const uint8_t* end, Packet* packet) noexcept:
        """Read the unprotected part of a header; False if it can be no packet."""
        cdef Reader reader
        cdef uint64_t size
        reader.data, reader.position, reader.end, reader.failed = data, 1, end - data, False
        packet.start, packet.end, packet.epoch = data, end, -1
        packet.token_size = packet.source_size = 0
        packet.is_long = data[0] & LONG_HEADER != 0
        packet.is_early = False
        if not packet.is_long:
            packet.version = self.version
            packet.destination_size = CONNECTION_ID_LENGTH
            packet.destination = read_bytes(&reader, CONNECTION_ID_LENGTH)
            packet.number_at = data + reader.position
            packet.epoch = SPACE_APPLICATION
            return not reader.failed and data[0] & FIXED_BIT
        if end - data < 7:
            return False
        packet.version = read_uint32(data + 1)
        reader.position = 5
        packet.destination_size = read_byte(&reader)
        packet.destination = read_bytes(&reader, packet.destination_size)
        packet.source_size = read_byte(&reader)
        packet.source = read_bytes(&reader, packet.source_size)
        packet.number_at = data + reader.position
        if reader.failed:
            return False
        if packet.version == 0:
            packet.kind = -1
            return True
        if (
            not data[0] & FIXED_BIT
            or packet.destination_size > CONNECTION_ID_MAX_LENGTH
            or packet.source_size > CONNECTION_ID_MAX_LENGTH
        ):
            return False
        packet.kind = (data[0] >> 4) & 3
        if packet.version == SECOND_VERSION:
            packet.kind = (packet.kind + 3) & 3
        if packet.kind == RETRY_TYPE:
            return True
        if packet.kind == INITIAL_TYPE:
            size = read_varint(&reader)
            packet.token_size = size
            packet.token = read_bytes(&reader, size)
        size = read_varint(&reader)
        packet.number_at = data + reader.position
        if read_bytes(&reader, size) == NULL:
            return False
        packet.end = packet.number_at + size
        if packet.kind == INITIAL_TYPE:
            packet.epoch = SPACE_INITIAL
        elif packet.kind == HANDSHAKE_TYPE:
            packet.epoch = SPACE_HANDSHAKE
        elif not self.is_client:
            packet.is_early, packet.epoch = True, SPACE_APPLICATION
        return True

    cdef bint is_for_us(self, Packet* packet):
        """Whether its destination is an ID of ours, or the one a client chose for us."""
        cdef bytes destination = self.path.destination
        if destination is not None and len(destination) == packet.destination_size and (
            memcmp(PyBytes_AS_STRING(destination), packet.destination, len(destination)) == 0
        ):
            self.packet_destination = destination
            return True
        destination = packet.destination[: packet.destination_size]
        if self.local_ids.holds(destination):
            self.packet_destination = destination
            return True
        if not self.is_client and packet.is_long:
            self.packet_destination = destination
            return destination == (self.retry_source_id or self.original_destination_id)
        return False

    # --- packets --------------------------------------------------------------------------------

    cdef EpochKeys opening_keys(self, Packet* packet):
        """Return the keys for a packet; None if there are none yet or any more."""
        cdef EpochKeys keys
        if packet.is_early:
            return self.early_opening_keys(packet)
        if packet.epoch == SPACE_APPLICATION and not self.is_client and not self.established:
            # Before the client has proven itself (RFC 9001 section 5.7).
            return None
        keys = self.keys_of(packet.epoch)
        if not packet.is_long or packet.version == self.version:
            return keys
        if packet.epoch != SPACE_INITIAL or keys is None:
            return None
        if packet.version == self.original_version:
            return self.first_initial_keys
        if (
            self.is_client
            and self.handshake_keys is None
            and self.version == self.original_version
            and packet.version in self.parameters.versions
        ):
            # A server that answers in a version we offered (RFC 9368 section 2.3). It may do so as
            # late as with its hello: an acknowledgment of ours settles nothing.
            return self._keys_in(packet.version)
        return None

    cdef EpochKeys early_opening_keys(self, Packet* packet):
        """Return the keys for a 0-RTT packet: for a while after the handshake for those late."""
        if self.established and self.now > self.early_until:
            self.early_keys = None
        return self.early_keys if packet.version == self.version else None

    def _keys_in(self, uint32_t version):
        """Return Initial keys of another version, without using it yet."""
        cdef uint32_t before = self.version
        cdef EpochKeys keys = self.initial_keys
        self.version = version
        self.set_initial_keys(self.retry_source_id or self.original_destination_id)
        self.version, self.initial_keys, keys = before, keys, self.initial_keys
        return keys

    cdef int receive_packet(self, Packet* packet, Path path, uint8_t ecn) except -1:
        """Open a packet and process it; what does not authenticate is dropped."""
        cdef EpochKeys keys = self.opening_keys(packet)
        cdef PacketNumberSpace space = self.recovery.space(packet.epoch)
        cdef Py_ssize_t header_size, size
        cdef uint8_t[MASK_LENGTH] mask
        cdef uint8_t* plain
        cdef uint8_t first
        cdef int length, index
        cdef uint64_t number = 0, allowed = HANDSHAKE_FRAMES
        cdef bint is_one_rtt = packet.epoch == SPACE_APPLICATION and not packet.is_early
        cdef Reader reader
        if packet.end - packet.number_at < NUMBER_MAX_LENGTH + SAMPLE_LENGTH or (
            packet.is_long and self.is_misplaced(packet)
        ):
            self.drop(DROP_MALFORMED)
            return 0
        if keys is None or keys.opening is None:
            self.keep_for_later(packet)
            return 0
        keys.unmasking.mask(packet.number_at + NUMBER_MAX_LENGTH, mask)
        first = packet.start[0] ^ (
            mask[0] & (LONG_PROTECTED_BITS if packet.is_long else SHORT_PROTECTED_BITS)
        )
        length = (first & NUMBER_LENGTH_BITS) + 1
        header_size = packet.number_at - packet.start + length
        plain = <uint8_t*>PyMem_Malloc(packet.end - packet.start)
        if plain == NULL:
            raise MemoryError()
        try:
            memcpy(plain, packet.start, header_size)
            plain[0] = first
            for index in range(length):
                plain[header_size - length + index] ^= mask[1 + index]
                number = number << 8 | plain[header_size - length + index]
            number = _whole_number(
                number, length, space.received.items[space.received.count - 1].stop
                if space.received.count else 0
            )
            if is_one_rtt:
                size = self.application_keys.open_phased(
                    first & KEY_PHASE_BIT != 0, number, plain, header_size,
                    packet.start + header_size, packet.end - packet.start - header_size,
                    plain + header_size, self.now,
                    LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout(),
                )
            else:
                size = keys.opening.open(
                    number, plain, header_size, packet.start + header_size,
                    packet.end - packet.start - header_size, plain + header_size,
                )
            if size < 0:
                if is_one_rtt and self.is_stateless_reset(packet.start, packet.end):
                    self._on_stateless_reset()
                else:
                    self.on_forgery()
                return 0
            if space.is_duplicate(number):
                return 0
            if first & (LONG_RESERVED_BITS if packet.is_long else SHORT_RESERVED_BITS):
                raise QuicError(TransportError.PROTOCOL_VIOLATION, 0, "reserved bits are set")
            self.packets_received += 1
            self.on_authentic(packet, path, keys)
            if packet.epoch == SPACE_INITIAL and self.first_source_id is None:
                self.first_source_id = packet.source[: packet.source_size]
                self.peer_ids.replace_first(self.first_source_id)
            self.packet_path = path
            reader.data, reader.position, reader.failed = plain + header_size, 0, False
            reader.end = size
            index = space.received.count == 0 or (
                number >= space.received.items[space.received.count - 1].stop
            )
            if packet.epoch == SPACE_APPLICATION:
                allowed = ALL_FRAMES if is_one_rtt else EARLY_FRAMES
            self.process_payload(packet.epoch, allowed, &reader)
            self.on_opened(packet, path, number, index, ecn)
        finally:
            PyMem_Free(plain)
        return 0

    cdef bint is_misplaced(self, Packet* packet):
        """Whether a long header says what the peer's may not."""
        if packet.epoch == SPACE_INITIAL and self.is_client and packet.token_size:
            # RFC 9000 section 17.2.2.
            return True
        # Its ID is settled by its first Initial (RFC 9000 section 7.2).
        return self.first_source_id is not None and (
            packet.source[: packet.source_size] != self.first_source_id
        )

    cdef int keep_for_later(self, Packet* packet) except -1:
        """Note that the datagram at hand came before its keys, as after reordering, or too late."""
        cdef bint kept = False
        if not self.established and packet.epoch != SPACE_INITIAL:
            # The hello settles two: once there are keys for an answer, 0-RTT was refused.
            kept = self.handshake_keys is None or not (
                packet.epoch == SPACE_HANDSHAKE or packet.is_early
            )
        if kept:
            self.came_early = True
        elif packet.version == self.version or packet.version == self.original_version:
            self.drop(DROP_NO_KEYS)
        else:
            self.drop(DROP_VERSION)
        return 0

    cdef void drop(self, int why) noexcept:
        """Count a packet that is dropped: at the first look at its datagram, a forged one at each."""
        if not self.again or why == DROP_FORGED:
            self.dropped[why] += 1
            self.any_dropped = True

    cdef int on_forgery(self) except -1:
        """Count a packet that did not authenticate, under whatever key (RFC 9001 section 6.6)."""
        self.drop(DROP_FORGED)
        self.forged += 1
        if self.forged > self.forgeries_max:
            raise QuicError(TransportError.AEAD_LIMIT_REACHED, 0, "too many forged packets")
        return 0

    cdef int on_authentic(self, Packet* packet, Path path, EpochKeys keys) except -1:
        """Learn from a packet that only the peer can have made."""
        self.received_any = True
        self.keep_path(path)
        if packet.epoch == SPACE_APPLICATION:
            return 0
        if self.is_client:
            if packet.epoch == SPACE_INITIAL and packet.version != self.version:
                self.version, self.initial_keys = packet.version, keys
            return 0
        if packet.epoch == SPACE_HANDSHAKE:
            # Only who got our Initial packets can make these (RFC 9000 section 8.1), and those went
            # to the address that the handshake began from: wherever this came from, it proves no
            # other.
            self.path.on_validated()
            if self.initial_keys is not None:
                self.discard_keys(SPACE_INITIAL)
        return 0

    cdef int on_opened(
        self, Packet* packet, Path path, uint64_t number, bint latest, uint8_t ecn
    ) except -1:
        """Note a packet that was processed."""
        cdef PacketNumberSpace space = self.recovery.space(packet.epoch)
        if space is not None and self.keys_of(packet.epoch) is not None:
            space.on_packet_received(number, self.packet_eliciting, ecn, self.now)
        self.eliciting_since_receipt = False
        self.restart_idle_timer()
        if path is self.path:
            if packet.epoch == SPACE_APPLICATION and latest and not packet.is_early:
                path.destination = self.packet_destination
        elif (
            latest
            and not self.packet_probing
            and self.is_confirmed
            and not self.is_client
            and self.state == ACTIVE
        ):
            self.follow(path)
        return 0

    # --- before the handshake -------------------------------------------------------------------

    cdef int on_version_negotiation(self, Packet* packet) except -1:
        """Begin again with a version that both speak (RFC 9000 section 6.2)."""
        cdef const uint8_t* at
        cdef list offered = []
        if (
            self.negotiated_by_packet
            or self.received_any
            or self.retry_source_id is not None
        ):
            return 0
        if packet.source[: packet.source_size] != self.peer_ids.current.connection_id:
            return 0
        at = packet.number_at
        while at + 4 <= packet.end:
            offered.append(read_uint32(at))
            at += 4
        if self.version in offered:
            return 0
        for version in self.parameters.versions:
            if version in offered:
                self.negotiated_by_packet = True
                self.original_version = self.version = version
                self.begin_again()
                return 0
        self.fail(
            TransportError.VERSION_NEGOTIATION_ERROR, 0, "no version in common", False
        )
        return 0

    cdef int on_retry(self, Packet* packet) except -1:
        """Prove our address with the token we got (RFC 9000 section 17.2.5)."""
        cdef const uint8_t* tag = packet.end - TAG_LENGTH
        cdef bytes expected
        if (
            self.received_any
            or self.retry_source_id is not None
            or packet.version != self.version
            or tag <= packet.number_at
            or tag - packet.number_at > RETRY_TOKEN_MAX
            # Section 17.2.5.1.
            or packet.source[: packet.source_size] == self.original_destination_id
        ):
            return 0
        expected = retry_integrity_tag(
            self.version, self.original_destination_id, packet.start[: tag - packet.start]
        )
        if expected != tag[:TAG_LENGTH]:
            return 0
        self.token = packet.number_at[: tag - packet.number_at]
        self.retry_source_id = packet.source[: packet.source_size]
        self.peer_ids.replace_first(self.retry_source_id)
        self.set_initial_keys(self.retry_source_id)
        self.take_back(SPACE_INITIAL)
        # Section 17.2.5.3: 0-RTT packets too, under the same keys and new numbers.
        self.take_back(SPACE_APPLICATION)
        return 0

    cdef int begin_again(self) except -1:
        """Say another hello: the first one names the version it was sent in."""
        self.recovery.forget_sent(SPACE_INITIAL, [], self.now)
        self.take_back(SPACE_APPLICATION)
        self.early_keys = None
        self.initial_crypto = CryptoStream(SPACE_INITIAL, self.parameters.limits)
        self.set_initial_keys(self.peer_ids.current.connection_id)
        self.tls = self.make_tls()
        self.tls.start(self.own_parameters())
        self.take_tls_output()
        return 0

    # --- paths ----------------------------------------------------------------------------------

    cdef Path path_from(self, object source):
        """Return the path of an address; None if nothing is taken from there."""
        cdef Path path
        if source == self.path.address:
            return self.path
        for path in self.other_paths:
            if path.address == source:
                return path
        if self.is_client:
            # Servers do not move (RFC 9000 section 9).
            return None
        return Path(source, False)

    cdef int keep_path(self, Path path) except -1:
        """Remember a path that the peer itself has used, in the place of one not proven."""
        cdef Path other
        if path is self.path:
            return 0
        path.forget_at = self.now + PATH_CHALLENGES * self.path_patience()
        if path in self.other_paths:
            return 0
        if len(self.other_paths) >= self.parameters.limits.other_paths:
            for other in self.other_paths:
                if not other.validated:
                    break
            else:
                other = self.other_paths[0]
            self.drop_path(other)
        self.other_paths.append(path)
        return 0

    cdef int follow(self, Path path) except -1:
        """Follow the client to another address (RFC 9000 section 9.3).

        Not before it has issued an ID for that, where it uses another one itself: who has none left
        cannot answer an attempt to move (section 9.5).
        """
        self.name_path(path)
        if path.peer_id is not None:
            self.move_to(path)
        return 0

    cdef int move_to(self, Path path) except -1:
        """Go on with another path, which has its ID."""
        cdef Path old = self.path
        self.other_paths.remove(path)
        self.other_paths.append(old)
        old.peer_id = self.peer_ids.current
        old.forget_at = self.now + PATH_CHALLENGES * self.path_patience()
        self.peer_ids.switch_to(path.peer_id)
        path.peer_id = None
        self.path = path
        if self.peer_payload_max:
            path.set_ceiling(self.peer_payload_max)
        self.recovery.reset_for_path(self.now)
        self.recovery.set_max_datagram_size(path.mtu, self.now)
        if not path.validated or path.challenge is not None:
            # What was asked there while the peer was elsewhere proves nothing by its silence.
            path.on_unanswered()
            self.challenge(path)
        if not old.validated or old.challenge is not None:
            return 0
        self.challenge(old)
        return 0

    # --- stateless reset ------------------------------------------------------------------------

    cdef bint is_stateless_reset(self, const uint8_t* data, const uint8_t* end):
        """Whether a datagram ends in the token of an ID we use (RFC 9000 section 10.3.1)."""
        if end - data < SMALLEST_RESET:
            return False
        return self.peer_ids.is_reset_token((end - RESET_TOKEN_LENGTH)[:RESET_TOKEN_LENGTH])

    def _on_stateless_reset(self):
        self.close_by_peer = True
        self.close_phrase = "stateless reset"
        self.drain()


cdef bint _have_one_destination(const Packet* one, const Packet* other) noexcept:
    return one.destination_size == other.destination_size and (
        memcmp(one.destination, other.destination, one.destination_size) == 0
    )


cdef bint _is_filling(const uint8_t* data, const uint8_t* end) noexcept:
    """Whether all are zeros, with which some clients fill datagrams behind their packets."""
    while data < end:
        if data[0]:
            return False
        data += 1
    return True


cdef uint64_t _whole_number(uint64_t truncated, int length, uint64_t expected) noexcept:
    """Return the packet number whose low bytes a packet tells (RFC 9000 appendix A.3)."""
    cdef uint64_t window = <uint64_t>1 << (8 * length)
    cdef uint64_t half = window // 2
    cdef uint64_t candidate = (expected & ~(window - 1)) | truncated
    if candidate + half <= expected and candidate < (1ULL << 62) - window:
        return candidate + window
    if candidate > expected + half and candidate >= window:
        return candidate - window
    return candidate
