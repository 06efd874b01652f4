# cython: language_level=3
"""The state of a connection, its handshake, and its end."""

from os import urandom

from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from spooky._core.quic.connection_ids cimport IssuedId
from spooky._core.quic.crypto cimport initial_secrets, integrity_limit
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.frames cimport FRAME_CRYPTO
from spooky._core.quic.limits cimport (
    ACK_DELAY_EXPONENT,
    ACTIVE_CONNECTION_IDS,
    DATAGRAM_MAX_SIZE,
    LINGER_PROBE_TIMEOUTS,
    MAX_ACK_DELAY_MS,
    REASON_PHRASE_MAX,
    RESET_TOKEN_LENGTH,
)
from spooky._core.quic.handshake cimport NativeTls
from spooky._core.quic.protection cimport EpochKeys, PhasedKeys
from spooky._core.quic.records cimport *
from spooky._core.quic.sent_packet cimport FrameRecord, SentPacket
from spooky._core.quic.space cimport (
    LEVEL_EARLY,
    SPACE_APPLICATION,
    SPACE_HANDSHAKE,
    SPACE_INITIAL,
)
from spooky._core.quic.transport_parameters cimport TransportParameters, decode, encode_ids

from spooky._core.quic.crypto import TLS_AES_128_GCM_SHA256, VERSION_1
from spooky._core.quic.errors import QuicError, TransportError

# Of Initial packets, whatever TLS chooses later (RFC 9001 section 5.2).
cdef int INITIAL_CIPHER_SUITE = TLS_AES_128_GCM_SHA256

cdef uint32_t FIRST_VERSION = VERSION_1


cdef class Endpoint:
    """What the parts of a connection share.

    A subclass in ``protocol/quic/native_session.py`` gives it what the engine does not know:
    ``make_tls``, ``make_token``, ``keep_token``, and the words of the seam, ``make_handshake``, and
    ``make_close`` and ``make_transmit``, which take a tuple; and ``report_defect``, our own.

    Attributes:
        is_client: Which role it has.
        established: Whether the handshake completed.
        version: The QUIC version in use.
        original_version: That of the client's first hello; after a Version Negotiation packet, of the
            one it said then.
    """

    @property
    def handler(self):
        """Where upcalls go."""
        return self._handler

    @handler.setter
    def handler(self, handler):
        self._handler = handler
        self.streams.handler = handler

    @property
    def terminated(self):
        """Whether it is over and may be forgotten."""
        return self.state == TERMINATED

    @property
    def draining(self):
        """Whether it only waits for what is on its way, as the peer ended it."""
        return self.state == DRAINING

    @property
    def peer(self):
        """The address packets are sent to."""
        return self.path.address

    # --- keys -----------------------------------------------------------------------------------

    cdef EpochKeys keys_of(self, int epoch):
        if epoch == SPACE_APPLICATION:
            return self.application_keys
        return self.handshake_keys if epoch == SPACE_HANDSHAKE else self.initial_keys

    cdef CryptoStream crypto_of(self, int epoch):
        if epoch == SPACE_APPLICATION:
            return self.application_crypto
        return self.handshake_crypto if epoch == SPACE_HANDSHAKE else self.initial_crypto

    cdef int discard_keys(self, int epoch) except -1:
        """Forget a packet number space (RFC 9001 section 4.9)."""
        if epoch == SPACE_INITIAL:
            self.initial_keys = self.first_initial_keys = None
            self.initial_crypto = None
        else:
            self.handshake_keys = None
            self.handshake_crypto = None
        self.probes_due[epoch] = 0
        self.recovery.discard_space(epoch, self.now)
        return 0

    cdef int set_initial_keys(self, bytes connection_id) except -1:
        """Derive the keys of Initial packets from the client's first choice of an ID."""
        cdef EpochKeys keys = EpochKeys()
        client, server = initial_secrets(self.version, connection_id)
        keys.set_secret(self.is_client, INITIAL_CIPHER_SUITE, self.version, client)
        keys.set_secret(not self.is_client, INITIAL_CIPHER_SUITE, self.version, server)
        self.initial_keys = keys
        self.forgeries_max = integrity_limit(INITIAL_CIPHER_SUITE)
        return 0

    # --- TLS ------------------------------------------------------------------------------------

    def on_secret(self, bint sending, int epoch, int cipher_suite, bytes secret):
        """Take a traffic secret from TLS.

        Arguments:
            sending: Whether it protects what we send.
            epoch: 1 for Handshake packets, 2 for 1-RTT packets, 3 for 0-RTT packets.
            cipher_suite: What TLS chose.
            secret: The traffic secret.
        """
        self.forgeries_max = min(self.forgeries_max, integrity_limit(cipher_suite))
        if epoch == SPACE_HANDSHAKE:
            if self.handshake_keys is None:
                self.handshake_keys = EpochKeys()
                self.handshake_crypto = CryptoStream(SPACE_HANDSHAKE, self.parameters.limits)
            self.handshake_keys.set_secret(sending, cipher_suite, self.version, secret)
            self.recovery.has_handshake_keys = True
        elif epoch == SPACE_APPLICATION:
            if self.application_keys is None:
                self.application_keys = PhasedKeys()
            self.application_keys.set_secret(sending, cipher_suite, self.version, secret)
        elif epoch == LEVEL_EARLY:
            self.begin_early_data(sending, cipher_suite, secret)

    cdef int begin_early_data(self, bint sending, int cipher_suite, bytes secret) except -1:
        """Let streams be used before the handshake is complete (RFC 9001 section 4.6)."""
        self.early_keys = EpochKeys()
        self.early_keys.set_secret(sending, cipher_suite, self.version, secret)
        self.early_until = INFINITY
        self.streams_open = True
        if not self.is_client:
            self._handler.on_early_data()
        return 0

    def remember_parameters(self, bytes encoded):
        """Take the transport parameters of an earlier connection, on which 0-RTT data relies."""
        self.remembered = decode(encoded, False)
        self.set_stream_limits(self.remembered)

    def on_early_data_refused(self):
        """Learn from TLS that a client's 0-RTT data is not taken: the server asked for another hello.

        What was sent is sent again once there are other keys (RFC 8446 section 4.1.2).
        """
        self.early_keys = None
        self.take_back(SPACE_APPLICATION)

    def on_peer_parameters(self, bytes encoded):
        """Take the peer's transport parameters from TLS.

        Returns:
            Ours, if we are the server: which version they say may depend on the client's.

        Raises:
            QuicError: They are not acceptable.
        """
        cdef TransportParameters theirs = decode(encoded, not self.is_client)
        self.check_peer_parameters(theirs)
        if self.remembered is not None:
            self.compare_with_remembered(theirs)
        self.settle_version(theirs)
        self.apply_peer_parameters(theirs)
        return None if self.is_client else self.own_parameters()

    def on_handshake_complete(self):
        """Learn from TLS that the handshake is complete."""
        self.established = self.streams_open = True
        self.remembered = None
        self.parameters = self.parameters.established
        if self.early_keys is not None:
            self.end_early_data()
        if not self.is_client:
            self.handshake_done_due = True
            self.token_to_give = self.make_token()
            self.confirm_handshake()
        self.issue_connection_ids()
        self._handler.on_handshake(self.make_handshake())

    cdef int end_early_data(self) except -1:
        """Send no more 0-RTT packets, and take only late ones (RFC 9001 section 4.9.3)."""
        self.early_until = self.now + LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout()
        if not self.is_client:
            return 0
        self.early_keys = None
        if not self.tls.early_data:
            self.take_back(SPACE_APPLICATION)
        return 0

    cdef int take_back(self, int epoch) except -1:
        """Send again what the peer dropped or will not process."""
        cdef list packets = []
        cdef SentPacket packet
        self.recovery.forget_sent(epoch, packets, self.now)
        for packet in packets:
            self.on_records_lost(packet)
        return 0

    cdef int confirm_handshake(self) except -1:
        """Both sides have completed it (RFC 9001 section 4.1.2)."""
        self.is_confirmed = True
        self.recovery.handshake_confirmed = True
        self.recovery.peer_completed_address_validation = True
        if self.handshake_keys is not None:
            self.discard_keys(SPACE_HANDSHAKE)
        return 0

    cdef int take_tls_output(self) except -1:
        """Queue what TLS has to say."""
        cdef int epoch
        cdef bytes data
        cdef CryptoStream stream
        cdef NativeTls tls = self.tls
        for epoch in range(3):
            data = tls.take_output(epoch)
            stream = self.crypto_of(epoch)
            if data and stream is not None:
                stream.write(data)
        return 0

    # --- transport parameters -------------------------------------------------------------------

    cdef bytes own_parameters(self):
        """Return what we tell of ourselves; what all connections say is encoded once."""
        cdef IssuedId first = self.local_ids.active[0]
        cdef dict encoded = self.parameters.encoded
        cdef bytes shared = encoded.get(self.version)
        if shared is None:
            shared = encoded[self.version] = self.shared_parameters().encode_shared()
        if self.is_client:
            return shared + encode_ids(None, first.connection_id, None, None)
        return shared + encode_ids(
            self.original_destination_id,
            first.connection_id,
            self.retry_source_id,
            first.reset_token,
        )

    cdef TransportParameters shared_parameters(self):
        cdef TransportParameters ours = TransportParameters()
        parameters = self.parameters
        ours.max_idle_timeout = int(parameters.idle_timeout * 1000)
        ours.max_udp_payload_size = DATAGRAM_MAX_SIZE
        ours.initial_max_data = parameters.connection_window
        ours.initial_max_stream_data_bidi_local = parameters.stream_window
        ours.initial_max_stream_data_bidi_remote = parameters.stream_window
        ours.initial_max_stream_data_uni = parameters.stream_window
        ours.initial_max_streams_bidi = parameters.max_streams_bidi
        ours.initial_max_streams_uni = parameters.max_streams_uni
        ours.ack_delay_exponent = ACK_DELAY_EXPONENT
        ours.max_ack_delay = MAX_ACK_DELAY_MS
        ours.active_connection_id_limit = ACTIVE_CONNECTION_IDS
        ours.chosen_version = self.version
        ours.available_versions = parameters.versions
        return ours

    cdef int check_peer_parameters(self, TransportParameters theirs) except -1:
        """Compare with what the handshake's packets said (RFC 9000 section 7.3)."""
        if theirs.initial_source_connection_id != self.first_source_id:
            raise _parameter_error("initial_source_connection_id is not what packets came from")
        if not self.is_client:
            return 0
        if theirs.original_destination_connection_id != self.original_destination_id:
            raise _parameter_error("original_destination_connection_id is not what we chose")
        if theirs.retry_source_connection_id != self.retry_source_id:
            raise _parameter_error("retry_source_connection_id is not what the Retry came from")
        return 0

    cdef int compare_with_remembered(self, TransportParameters theirs) except -1:
        """Check that 0-RTT data was within limits (RFC 9000 section 7.4.1).

        They may be lower where it was refused; what was sent by then is too much even so.
        """
        cdef TransportParameters before = self.remembered
        if (
            theirs.initial_max_data < before.initial_max_data
            or theirs.initial_max_stream_data_bidi_local
            < before.initial_max_stream_data_bidi_local
            or theirs.initial_max_stream_data_bidi_remote
            < before.initial_max_stream_data_bidi_remote
            or theirs.initial_max_stream_data_uni < before.initial_max_stream_data_uni
            or theirs.initial_max_streams_bidi < before.initial_max_streams_bidi
            or theirs.initial_max_streams_uni < before.initial_max_streams_uni
            or theirs.active_connection_id_limit < before.active_connection_id_limit
        ):
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, FRAME_CRYPTO,
                "a limit is lower than that on which 0-RTT data relied",
            )
        return 0

    cdef int settle_version(self, TransportParameters theirs) except -1:
        """Choose or check the version (RFC 9368 sections 4 to 6)."""
        if not theirs.chosen_version:
            # A server that speaks version 1 alone need not know what this is (section 8).
            if self.version != self.original_version or (
                self.negotiated_by_packet and self.version != FIRST_VERSION
            ):
                raise _version_error("version information is missing")
            return 0
        if theirs.chosen_version != self.version:
            raise _version_error("the chosen version is not that of the packets")
        if self.is_client:
            self._check_downgrade(theirs)
            return 0
        if theirs.chosen_version not in theirs.available_versions:
            raise _parameter_error("the chosen version is not among the available ones")
        for version in theirs.available_versions:
            if version in self.parameters.versions:
                if version != self.version:
                    self._upgrade(version)
                return 0
        return 0

    def _check_downgrade(self, TransportParameters theirs):
        """Would we have begun again in the same version, had the server said what it speaks?

        That it went on in the one we prefer does not matter: someone else sent the packet.
        """
        if not self.negotiated_by_packet:
            return
        if not theirs.available_versions:
            raise _version_error("the server does not say which versions it speaks")
        for version in self.parameters.versions:
            if version == self.version or version in theirs.available_versions:
                if version != self.original_version:
                    raise _version_error("the server speaks a version we prefer")
                return

    def _upgrade(self, version):
        """Answer in a version that the client prefers (RFC 9368 section 2.3)."""
        self.first_initial_keys = self.initial_keys
        self.version = version
        self.set_initial_keys(self.retry_source_id or self.original_destination_id)

    cdef int apply_peer_parameters(self, TransportParameters theirs) except -1:
        """Heed what the peer says of itself."""
        cdef double ours = self.parameters.idle_timeout
        cdef double other = theirs.max_idle_timeout / 1000.0
        self.idle_timeout = min(ours, other) if ours and other else max(ours, other)
        self.restart_idle_timer()
        self.recovery.max_ack_delay = theirs.max_ack_delay / 1000.0
        self.path.set_ceiling(theirs.max_udp_payload_size)
        self.peer_payload_max = theirs.max_udp_payload_size
        self.peer_ack_delay_exponent = theirs.ack_delay_exponent
        self.peer_ids_max = theirs.active_connection_id_limit
        self.peer_ids.set_first_token(theirs.stateless_reset_token)
        self.set_stream_limits(theirs)
        return 0

    cdef int set_stream_limits(self, TransportParameters theirs) except -1:
        self.streams.set_peer_limits(
            theirs.initial_max_data,
            theirs.initial_max_stream_data_bidi_local,
            theirs.initial_max_stream_data_bidi_remote,
            theirs.initial_max_stream_data_uni,
            theirs.initial_max_streams_bidi,
            theirs.initial_max_streams_uni,
        )
        return 0

    # --- connection IDs -------------------------------------------------------------------------

    cdef int issue_connection_ids(self) except -1:
        """Give the peer as many IDs as it wants, up to our limit (RFC 9000 section 5.1.1)."""
        cdef Py_ssize_t wanted = min(
            <uint64_t>ACTIVE_CONNECTION_IDS, self.peer_ids_max
        )
        cdef bytes connection_id
        cdef IssuedId entry
        while len(self.local_ids.active) < wanted:
            connection_id = self.make_connection_id()
            entry = self.local_ids.issue(connection_id, self.reset_token_of(connection_id))
            self.ids_to_announce.append(entry.sequence)
            self._handler.on_connection_id_issued(connection_id)
        return 0

    cdef bytes reset_token_of(self, bytes connection_id):
        if self.make_reset_token is None:
            return urandom(RESET_TOKEN_LENGTH)
        return self.make_reset_token(connection_id)

    # --- what became of packets -----------------------------------------------------------------

    cdef int on_lost_packets(self, list lost) except -1:
        """Send again what mattered in packets that are lost."""
        cdef SentPacket packet
        for packet in lost:
            self.packets_lost += 1
            if packet.is_mtu_probe:
                self.path.on_probe_lost(packet.size)
            elif self.path.on_lost(packet.size, packet.time_sent, self.now):
                self.recovery.set_max_datagram_size(self.path.mtu, self.now)
            self.on_records_lost(packet)
        lost.clear()
        return 0

    cdef int on_records_acked(self, SentPacket packet) except -1:
        cdef int index
        cdef FrameRecord* record
        cdef CryptoStream crypto
        for index in range(packet.frame_count):
            record = &packet.frames[index]
            if record.kind <= RECORD_STREAMS_LAST:
                self.streams.on_record_acked(record)
            elif record.kind == RECORD_CRYPTO:
                crypto = self.crypto_of(record.id)
                if crypto is not None:
                    crypto.on_acked(record)
            elif record.kind == RECORD_RETIRE_CONNECTION_ID:
                self.peer_ids.on_retirement_acked(record.id)
            elif record.kind == RECORD_MTU_PROBE:
                self.path.on_probe_acked(record.id)
                self.recovery.set_max_datagram_size(self.path.mtu, self.now)
            elif record.kind == RECORD_PATH_CHALLENGE:
                # An answer is sent at once, and not again: if it is not here when we send, it is lost.
                if self.path.may_ask_again(record.id):
                    self.path.challenge_until = self.now
        return 0

    cdef int on_records_lost(self, SentPacket packet) except -1:
        """Queue again what was in a packet; also to repeat it in a probe."""
        cdef int index
        cdef FrameRecord* record
        cdef CryptoStream crypto
        for index in range(packet.frame_count):
            record = &packet.frames[index]
            if record.kind <= RECORD_STREAMS_LAST:
                self.streams.on_record_lost(record)
            elif record.kind == RECORD_CRYPTO:
                crypto = self.crypto_of(record.id)
                if crypto is not None:
                    crypto.on_lost(record)
            elif record.kind == RECORD_HANDSHAKE_DONE:
                self.handshake_done_due = True
            elif record.kind == RECORD_NEW_CONNECTION_ID:
                if (
                    self.local_ids.find(record.id) is not None
                    and record.id not in self.ids_to_announce
                ):
                    self.ids_to_announce.append(record.id)
            elif record.kind == RECORD_RETIRE_CONNECTION_ID:
                self.peer_ids.retire_again(record.id)
            elif record.kind == RECORD_PATH_CHALLENGE:
                if self.path.may_ask_again(record.id):
                    self.path.challenge_until = self.now
            elif record.kind == RECORD_NEW_TOKEN and self.path.validated:
                # For no address but one that is proven: it is itself a proof.
                self.token_to_give = self.make_token()
        return 0

    # --- the end --------------------------------------------------------------------------------

    cdef void restart_idle_timer(self) noexcept:
        """Begin the idle timeout anew; at least three PTO (RFC 9000 section 10.1)."""
        if self.idle_timeout:
            self.idle_at = self.now + max(
                self.idle_timeout, LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout()
            )
        else:
            self.idle_at = INFINITY

    cdef int fail(
        self, uint64_t code, uint64_t frame_type, str phrase, bint is_application
    ) except -1:
        """End the connection, which the peer is told by the next flush."""
        if self.state != ACTIVE:
            return 0
        self.state = CLOSE_DUE
        self.close_code = code
        self.close_frame_type = frame_type
        self.close_phrase = phrase[:REASON_PHRASE_MAX]
        self.close_is_application = is_application
        # Nothing more is delivered, nor sent.
        self.streams.close()
        return 0

    cdef int end_without_a_word(self) except -1:
        """Be over at once."""
        self.state = TERMINATED
        self.goodbye = None
        return 0

    cdef int drain(self) except -1:
        """Wait for what is still on its way, silently (RFC 9000 section 10.2.2)."""
        self.state = DRAINING
        self.end_at = self.now + LINGER_PROBE_TIMEOUTS * self.recovery.probe_timeout()
        return 0

    cdef int report_close(self) except -1:
        """Tell the handler that it ended, once, and let go of what is not needed any more."""
        if self.state == ACTIVE or self.close_reported:
            return 0
        self.close_reported = True
        self.streams.close()
        self.tls = None
        self.other_paths = []
        # No upcall follows, and the handler has the session: without this only the collector
        # would free both.
        handler, self.handler = self._handler, None
        handler.on_closed(
            self.make_close((
                self.close_code,
                self.close_is_application,
                self.close_phrase,
                self.close_by_peer,
                self.close_timed_out,
            ))
        )
        return 0


cdef object _parameter_error(str phrase):
    return QuicError(TransportError.TRANSPORT_PARAMETER_ERROR, FRAME_CRYPTO, phrase)


cdef object _version_error(str phrase):
    return QuicError(TransportError.VERSION_NEGOTIATION_ERROR, FRAME_CRYPTO, phrase)
