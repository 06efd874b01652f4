# cython: language_level=3, boundscheck=False, wraparound=False
"""Building packets, datagrams and runs of them (RFC 9000 sections 12 to 14)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memmove, memset

from spooky._core.quic.connection_ids cimport IssuedId
from spooky._core.quic.crypto cimport MASK_LENGTH, TAG_LENGTH
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.endpoint cimport ACTIVE, CLOSE_DUE, CLOSING, Endpoint
from spooky._core.quic.frames cimport *
from spooky._core.quic.headers cimport (
    FIXED_BIT,
    HANDSHAKE_TYPE,
    INITIAL_TYPE,
    KEY_PHASE_BIT,
    LONG_HEADER,
    LONG_PROTECTED_BITS,
    NUMBER_MAX_LENGTH,
    SHORT_PROTECTED_BITS,
    ZERO_RTT_TYPE,
)
from spooky._core.quic.limits cimport (
    ACK_DELAY_EXPONENT,
    DATAGRAM_MAX_SIZE,
    LINGER_PROBE_TIMEOUTS,
    MINIMUM_DATAGRAM_SIZE,
    RUN_MAX_SEGMENTS,
    RUN_MAX_SIZE,
    SMALLEST_DATAGRAM,
)
from spooky._core.quic.path cimport Path
from spooky._core.quic.protection cimport EpochKeys
from spooky._core.quic.records cimport *
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.space cimport (
    SPACE_APPLICATION,
    SPACE_HANDSHAKE,
    SPACE_INITIAL,
    PacketNumberSpace,
)
from spooky._core.quic.wire cimport (
    write_data,
    write_uint16_varint,
    write_uint32,
    write_varint,
)

from spooky._core.quic.crypto import VERSION_2
from spooky._core.quic.errors import TransportError

cdef enum:
    NUMBER_AND_PAYLOAD_MIN = 4
    # So that the sample for header protection is there (RFC 9001 section 5.4.2).

    FRAME_ROOM = 64
    # More than any frame needs whose size does not depend on its content.

cdef uint32_t SECOND_VERSION = VERSION_2

# Of one flush at a time: no upcall is made while it is filled.
cdef uint8_t* _buffer = <uint8_t*>malloc(RUN_MAX_SIZE + DATAGRAM_MAX_SIZE)
if _buffer == NULL:
    raise MemoryError()


cdef class Sending(Endpoint):
    """A connection as it sends."""

    cpdef list flush(self, double now):
        """Return the datagrams to send now."""
        cdef list runs = []
        self.now = now
        self.ecn = self.recovery.ecn_codepoint()
        if self.state == ACTIVE:
            runs = self.build_runs()
            self.acknowledgments_held = self.owes_acknowledgment()
            if self.must_not_seal():
                self.fail(
                    TransportError.AEAD_LIMIT_REACHED, 0, "too many packets under one key", False
                )
        if self.state == CLOSE_DUE:
            runs += self.build_close()
        elif self.state == CLOSING and self.goodbye_due:
            self.goodbye_due = False
            runs = self.repeat_goodbye()
        self.report_close()
        return runs

    cdef bint owes_acknowledgment(self) noexcept:
        """Whether an acknowledgment is due in any packet number space."""
        cdef int epoch
        for epoch in range(3):
            if self.keys_of(epoch) is not None and self.recovery.space(epoch).ack_due(self.now):
                return True
        return False

    cdef bint must_not_seal(self) noexcept:
        """Whether keys are used up: those of a handshake have none to follow, and the peer may let
        none follow those of 1-RTT packets."""
        return (
            _is_used_up(self.application_keys)
            or _is_used_up(self.handshake_keys)
            or _is_used_up(self.initial_keys)
            or _is_used_up(self.early_keys)
        )

    # --- runs -----------------------------------------------------------------------------------

    cdef list build_runs(self):
        """Fill datagrams while there is something to send and room for it."""
        cdef list runs = []
        cdef uint8_t* start = _buffer
        cdef uint8_t* out = _buffer
        cdef Py_ssize_t segment = 0, size
        if self.path.challenge is not None and self.path.challenges_left > 0 and (
            self.now >= self.path.challenge_until
        ):
            # Before content takes what an address that is not proven lets out.
            self.challenge(self.path)
        if self.other_paths or self.path.response is not None or self.path.challenge_due:
            self.add_path_probes(runs, _buffer)
        if self.is_confirmed and self.has_content(SPACE_APPLICATION):
            self.add_size_probe(runs, _buffer)
        while True:
            size = self.build_datagram(
                out, min(<Py_ssize_t>self.path.mtu, self.path.content_room())
            )
            if self.is_confirmed and size + FRAME_ROOM > <Py_ssize_t>self.path.mtu:
                self.path.is_filled = True
            if out > start and (
                size != segment or out - start + size > RUN_MAX_SIZE
                or (out - start) // segment >= RUN_MAX_SEGMENTS
            ):
                if 0 < size < segment and out - start + size <= RUN_MAX_SIZE and (
                    (out - start) // segment < RUN_MAX_SEGMENTS
                ):
                    out += size
                    runs.append(self.make_run(start, out - start, segment, self.path))
                    start = out = _buffer
                    continue
                runs.append(self.make_run(start, out - start, segment, self.path))
                if size:
                    memmove(_buffer, out, size)
                start = out = _buffer
            if size == 0:
                return runs
            segment = size
            out += size

    cdef object make_run(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t segment, Path path):
        return self.make_transmit((
            PyBytes_FromStringAndSize(<const char*>data, size),
            segment,
            path.address,
            self.ecn if path is self.path else 0,
        ))

    cdef int add_path_probes(self, list runs, uint8_t* buffer) except -1:
        """Ask and answer on each path whether it is there (RFC 9000 section 8.2)."""
        cdef Path path
        cdef Py_ssize_t size
        cdef uint8_t marked
        for path in [self.path, *self.other_paths]:
            if path.response is None and not path.challenge_due:
                continue
            if path is not self.path and not self.give_id(path):
                # The peer has to issue one first.
                continue
            size = MINIMUM_DATAGRAM_SIZE
            if path.room() < size:
                # Section 8.2.1: where it cannot be full, it need not take more than it must.
                size = SMALLEST_DATAGRAM
            if path.room() < size:
                continue
            if path.challenge_due:
                path.challenge_small = size < MINIMUM_DATAGRAM_SIZE
            marked = self.ecn
            if path is not self.path:
                self.ecn = 0
            size = self.build_probe(buffer, path, size, False)
            self.ecn = marked
            if size:
                runs.append(self.make_run(buffer, size, size, path))
        return 0

    cdef bint give_id(self, Path path):
        """Give another path an ID that was sent to no address yet, if it has none.

        Without one nothing may be sent there (RFC 9000 section 9.5).
        """
        if path.peer_id is None or not self.peer_ids.uses(path.peer_id):
            path.peer_id = self.peer_ids.take()
        return path.peer_id is not None

    cdef int add_size_probe(self, list runs, uint8_t* buffer) except -1:
        """Ask whether the path carries more, before a window that is never empty is filled.

        It is not what content waits for: there must be room for a datagram of that too.
        """
        cdef Py_ssize_t size = self.path.probe_size(self.now)
        if size and self.recovery.sending_room(self.now) >= size + <Py_ssize_t>self.path.mtu:
            size = self.build_probe(buffer, self.path, size, True)
            if size:
                runs.append(self.make_run(buffer, size, size, self.path))
        return 0

    # --- datagrams ------------------------------------------------------------------------------

    cdef bint sends_early(self) noexcept:
        """Whether what belongs to the application goes into 0-RTT packets."""
        return self.is_client and self.early_keys is not None and self.application_keys is None

    cdef bint may_send(self, int epoch) noexcept:
        """Whether there are keys to send in a packet number space."""
        cdef EpochKeys keys = self.keys_of(epoch)
        if keys is None:
            return epoch == SPACE_APPLICATION and self.sends_early()
        return keys.sealing is not None

    cdef bint has_content(self, int epoch) noexcept:
        """Whether there is something to send besides acknowledgments."""
        cdef CryptoStream crypto = self.crypto_of(epoch)
        if self.probes_due[epoch] or (crypto is not None and crypto.pending()):
            return True
        return epoch == SPACE_APPLICATION and self.streams_open and (
            self.streams.has_frames()
            or self.ping_due
            or self.handshake_done_due
            or self.token_to_give is not None
            or len(self.ids_to_announce) > 0
            or len(self.peer_ids.retiring) > 0
        )

    cdef Py_ssize_t build_datagram(self, uint8_t* out, Py_ssize_t limit) except -1:
        """Write one datagram on the current path; return its size, 0 if there is none."""
        cdef Draft[3] drafts
        cdef list packets = []
        cdef Draft* draft
        cdef int epoch, count = 0, index
        cdef uint8_t* position = out
        cdef bint blocked, blocked_here, fill = False, content, shakes_hands = False
        cdef Py_ssize_t padding
        cdef SentPacket packet
        if limit < SMALLEST_DATAGRAM:
            self.recovery.amplification_limited = True
            return 0
        if self.must_not_seal():
            return 0
        self.recovery.amplification_limited = False
        blocked = self.recovery.sending_room(self.now) < <Py_ssize_t>self.path.mtu
        for epoch in range(3):
            if not self.may_send(epoch):
                continue
            # What 0-RTT or 0.5-RTT data fills the window with has no probe timeout before the
            # handshake is confirmed (RFC 9002 section 6.2.1): the handshake must not wait for it.
            blocked_here = blocked and (epoch == SPACE_APPLICATION or not self.streams_open)
            content = (not blocked_here or self.probes_due[epoch] > 0) and self.has_content(epoch)
            if epoch == SPACE_INITIAL and not self.is_client and limit < MINIMUM_DATAGRAM_SIZE:
                content = False
            if not content and not self.recovery.space(epoch).ack_due(self.now):
                continue
            if out + limit - position < SMALLEST_DATAGRAM:
                break
            packet = SentPacket.__new__(SentPacket)
            draft = &drafts[count]
            draft.is_early = epoch == SPACE_APPLICATION and self.sends_early()
            if not self.draft_packet(epoch, position, out + limit, content, packet, draft):
                continue
            packets.append(packet)
            position = draft.end + TAG_LENGTH
            if epoch == SPACE_INITIAL and (self.is_client or draft.eliciting):
                fill = True
            shakes_hands = shakes_hands or epoch == SPACE_HANDSHAKE
            count += 1
        if count == 0:
            return 0
        padding = out + MINIMUM_DATAGRAM_SIZE - position if fill else 0
        if padding > 0 and limit < MINIMUM_DATAGRAM_SIZE:
            padding = out + limit - position
        for index in range(count):
            draft = &drafts[index]
            self.finish_packet(
                draft, packets[index], padding if index == count - 1 and padding > 0 else 0
            )
        position = drafts[count - 1].end + TAG_LENGTH
        self.path.bytes_sent += position - out
        if self.is_client and shakes_hands and self.initial_keys is not None:
            # The server has our Initials: it gave us these keys (RFC 9001 section 4.9.1).
            self.discard_keys(SPACE_INITIAL)
        return position - out

    cdef Py_ssize_t build_probe(
        self, uint8_t* out, Path path, Py_ssize_t size, bint is_mtu_probe
    ) except -1:
        """Write a datagram of one 1-RTT packet that asks something of a path; return its size."""
        cdef SentPacket packet = SentPacket.__new__(SentPacket)
        cdef Draft draft
        cdef FrameRecord* record
        cdef IssuedId peer_id = self.peer_ids.current if path is self.path else path.peer_id
        if self.application_keys is None or self.application_keys.sealing is None:
            return 0
        draft.epoch = SPACE_APPLICATION
        draft.is_early = False
        self.write_header(SPACE_APPLICATION, out, peer_id.connection_id, &draft)
        draft.end = draft.payload
        draft.eliciting = True
        if is_mtu_probe:
            draft.end[0] = FRAME_PING
            draft.end += 1
            record = packet.add_frame()
            record.kind, record.id = RECORD_MTU_PROBE, size
            packet.is_mtu_probe = True
            path.on_probe_sent(size)
        if path.response is not None:
            draft.end[0] = FRAME_PATH_RESPONSE
            draft.end = write_data(
                draft.end + 1, <const uint8_t*>PyBytes_AS_STRING(path.response), len(path.response)
            )
            path.response = None
        if path.challenge_due:
            draft.end[0] = FRAME_PATH_CHALLENGE
            draft.end = write_data(
                draft.end + 1,
                <const uint8_t*>PyBytes_AS_STRING(path.challenge),
                len(path.challenge),
            )
            path.challenge_due = False
            record = packet.add_frame()
            record.kind, record.id = RECORD_PATH_CHALLENGE, path.challenge_number()
        self.finish_packet(&draft, packet, size - (draft.end + TAG_LENGTH - out))
        path.bytes_sent += size
        return size

    # --- packets --------------------------------------------------------------------------------

    cdef bint draft_packet(
        self, int epoch, uint8_t* out, uint8_t* end, bint content, SentPacket packet, Draft* draft
    ) except -1:
        """Write a packet's header and payload; say whether it has any."""
        cdef PacketNumberSpace space = self.recovery.space(epoch)
        cdef FrameRecord* record
        cdef uint8_t* position
        cdef Py_ssize_t size
        draft.epoch = epoch
        position = self.write_header(epoch, out, self.peer_ids.current.connection_id, draft)
        end -= TAG_LENGTH
        if end - position < SMALLEST_DATAGRAM // 2:
            return False
        if space.ack_due(self.now) or (content and space.ack_wanted()):
            size = space.write_ack(position, end - position, ACK_DELAY_EXPONENT, self.now)
            if size:
                record = packet.add_frame()
                record.kind = RECORD_ACK
                record.id = space.received.items[space.received.count - 1].stop - 1
                position += size
        draft.end = position
        if content:
            position = self.write_content(epoch, position, end, packet)
            if position == draft.end and self.probes_due[epoch] and position < end:
                position[0] = FRAME_PING
                position += 1
        draft.eliciting = position > draft.end
        draft.end = position
        return position > draft.payload

    cdef uint8_t* write_header(
        self, int epoch, uint8_t* out, bytes destination, Draft* draft
    ) except NULL:
        """Write a header with its packet number, unprotected; the length comes later."""
        cdef PacketNumberSpace space = self.recovery.space(epoch)
        cdef uint64_t number = self.recovery.skip_if_due(epoch)
        cdef uint64_t distance = number - <uint64_t>(space.largest_acknowledged + 1) + 1
        # Twice the distance must fit (RFC 9000 section 17.1).
        cdef int size = 2 if distance < 1 << 15 else 3 if distance < 1 << 23 else 4
        cdef int index
        cdef bytes source
        cdef EpochKeys keys
        draft.number = number
        draft.start = out
        if epoch == SPACE_APPLICATION and not draft.is_early:
            self.application_keys.prepare_to_seal(
                number, space.largest_acknowledged, self.is_confirmed, self.now,
                LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout(),
            )
            out[0] = FIXED_BIT | (size - 1) | (KEY_PHASE_BIT if self.application_keys.phase else 0)
            out = _write_bytes(out + 1, destination)
        else:
            keys = self.early_keys if draft.is_early else self.keys_of(epoch)
            keys._sealed += 1
            source = (<IssuedId>self.local_ids.active[0]).connection_id
            index = INITIAL_TYPE if epoch == SPACE_INITIAL else (
                ZERO_RTT_TYPE if draft.is_early else HANDSHAKE_TYPE
            )
            if self.version == SECOND_VERSION:
                index = (index + 1) & 3
            out[0] = LONG_HEADER | FIXED_BIT | (index << 4) | (size - 1)
            out = write_uint32(out + 1, self.version)
            out[0] = len(destination)
            out = _write_bytes(out + 1, destination)
            out[0] = len(source)
            out = _write_bytes(out + 1, source)
            if epoch == SPACE_INITIAL:
                out = _write_bytes(write_varint(out, len(self.token)), self.token)
            out += 2
        draft.number_at = out
        for index in range(size):
            out[index] = <uint8_t>(number >> (8 * (size - 1 - index)))
        draft.payload = out + size
        return draft.payload

    cdef uint8_t* write_content(
        self, int epoch, uint8_t* out, uint8_t* end, SentPacket packet
    ) except NULL:
        """Write what is due besides acknowledgments, as far as it fits."""
        cdef CryptoStream crypto = self.crypto_of(epoch)
        cdef uint8_t* before
        if crypto is not None:
            while crypto.pending():
                before = out
                out = crypto.write_frame(out, end, packet)
                if out == before:
                    return out
        if epoch == SPACE_APPLICATION and self.streams_open:
            out = self.write_control(out, end, packet)
            if self.streams.has_frames():
                out = self.streams.write(out, end, packet)
        return out

    cdef uint8_t* write_control(self, uint8_t* out, uint8_t* end, SentPacket packet) except NULL:
        """Write the frames that belong to the connection."""
        cdef FrameRecord* record
        cdef IssuedId entry
        cdef uint64_t sequence
        if self.handshake_done_due and end > out:
            out[0] = FRAME_HANDSHAKE_DONE
            out += 1
            record = packet.add_frame()
            record.kind = RECORD_HANDSHAKE_DONE
            self.handshake_done_due = False
        if self.ping_due and end > out:
            out[0] = FRAME_PING
            out += 1
            self.ping_due = False
        while self.ids_to_announce and end - out >= FRAME_ROOM:
            entry = self.local_ids.find(self.ids_to_announce.pop(0))
            if entry is None:
                continue
            out[0] = FRAME_NEW_CONNECTION_ID
            out = write_varint(write_varint(out + 1, entry.sequence), 0)
            out[0] = len(entry.connection_id)
            out = _write_bytes(out + 1, entry.connection_id)
            out = _write_bytes(out, entry.reset_token)
            record = packet.add_frame()
            record.kind, record.id = RECORD_NEW_CONNECTION_ID, entry.sequence
            self.local_ids.on_announced(entry.sequence)
        while self.peer_ids.retiring and end - out >= FRAME_ROOM:
            sequence = self.peer_ids.retiring.pop(0)
            out[0] = FRAME_RETIRE_CONNECTION_ID
            out = write_varint(out + 1, sequence)
            record = packet.add_frame()
            record.kind, record.id = RECORD_RETIRE_CONNECTION_ID, sequence
        if self.token_to_give is not None and end - out >= len(self.token_to_give) + FRAME_ROOM:
            out[0] = FRAME_NEW_TOKEN
            out = _write_bytes(
                write_varint(out + 1, len(self.token_to_give)), self.token_to_give
            )
            record = packet.add_frame()
            record.kind = RECORD_NEW_TOKEN
            self.token_to_give = None
        return out

    cdef int finish_packet(self, Draft* draft, SentPacket packet, Py_ssize_t padding) except -1:
        """Pad a packet, protect it, and note it as sent."""
        cdef EpochKeys keys = self.early_keys if draft.is_early else self.keys_of(draft.epoch)
        cdef Py_ssize_t short = NUMBER_AND_PAYLOAD_MIN - (draft.end - draft.number_at)
        cdef bint is_long = draft.epoch != SPACE_APPLICATION or draft.is_early
        cdef uint8_t[MASK_LENGTH] mask
        cdef int index
        padding = max(padding, short)
        if padding > 0:
            memset(draft.end, FRAME_PADDING, padding)
            draft.end += padding
        if is_long:
            write_uint16_varint(draft.number_at - 2, draft.end - draft.number_at + TAG_LENGTH)
        keys.sealing.seal(
            draft.number, draft.start, draft.payload - draft.start,
            draft.payload, draft.end - draft.payload, draft.payload,
        )
        keys.masking.mask(draft.number_at + NUMBER_MAX_LENGTH, mask)
        draft.start[0] ^= mask[0] & (LONG_PROTECTED_BITS if is_long else SHORT_PROTECTED_BITS)
        for index in range(draft.payload - draft.number_at):
            draft.number_at[index] ^= mask[1 + index]
        packet.number = draft.number
        packet.size = draft.end + TAG_LENGTH - draft.start
        packet.ack_eliciting = draft.eliciting
        packet.in_flight = draft.eliciting or padding > 0
        packet.ecn = self.ecn
        self.recovery.on_packet_sent(draft.epoch, packet, self.now)
        self.packets_sent += 1
        if draft.eliciting:
            if self.probes_due[draft.epoch]:
                self.probes_due[draft.epoch] -= 1
            if not self.eliciting_since_receipt:
                self.eliciting_since_receipt = True
                self.restart_idle_timer()
        return 0

    # --- the end --------------------------------------------------------------------------------

    cdef list build_close(self):
        """Say in every kind of packet the peer may be able to read that it is over."""
        cdef uint8_t* position = _buffer
        cdef uint8_t* end = _buffer + min(<Py_ssize_t>MINIMUM_DATAGRAM_SIZE, self.path.room())
        cdef SentPacket packet
        cdef Draft draft
        cdef int epoch
        if not self.received_any and not self.is_client:
            self.end_without_a_word()
            return []
        for epoch in range(3):
            if self.keys_of(epoch) is None or self.keys_of(epoch).sealing is None:
                continue
            if epoch == SPACE_APPLICATION and not self.streams_open:
                continue
            if end - position < SMALLEST_DATAGRAM:
                break
            draft.epoch = epoch
            draft.eliciting = draft.is_early = False
            self.write_header(epoch, position, self.peer_ids.current.connection_id, &draft)
            draft.end = self.write_close(epoch, draft.payload, end - TAG_LENGTH)
            packet = SentPacket.__new__(SentPacket)
            self.finish_packet(
                &draft, packet,
                end - draft.end - TAG_LENGTH if epoch == SPACE_INITIAL and self.is_client else 0,
            )
            position = draft.end + TAG_LENGTH
        self.path.bytes_sent += position - _buffer
        self.state = CLOSING
        self.end_at = self.now + LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout()
        self.goodbye = []
        self.goodbye_size = position - _buffer
        if position > _buffer:
            self.goodbye.append(self.make_run(_buffer, position - _buffer, position - _buffer, self.path))
        return self.goodbye

    cdef list repeat_goodbye(self):
        """Return what was said at the end, as far as the address is proven (section 8.1)."""
        if self.path.room() < self.goodbye_size:
            return []
        self.path.bytes_sent += self.goodbye_size
        return self.goodbye

    cdef uint8_t* write_close(self, int epoch, uint8_t* out, uint8_t* end) except NULL:
        """Write CONNECTION_CLOSE (RFC 9000 sections 10.2.3 and 19.19)."""
        cdef bytes phrase = self.close_phrase.encode()
        cdef uint64_t code = self.close_code
        cdef bint is_application = self.close_is_application
        if is_application and epoch != SPACE_APPLICATION:
            # What the application says is not for everybody on the way.
            is_application, code, phrase = False, TransportError.APPLICATION_ERROR, b""
        out[0] = FRAME_APPLICATION_CLOSE if is_application else FRAME_CONNECTION_CLOSE
        out = write_varint(out + 1, code)
        if not is_application:
            out = write_varint(out, self.close_frame_type)
        phrase = phrase[: max(0, end - out - 2)]
        return _write_bytes(write_varint(out, len(phrase)), phrase)


cdef bint _is_used_up(EpochKeys keys) noexcept:
    return keys is not None and keys.at_confidentiality_limit()


cdef uint8_t* _write_bytes(uint8_t* out, bytes data) noexcept:
    return write_data(out, <const uint8_t*>PyBytes_AS_STRING(data), len(data))
