"""C declarations of a connection's state, which the modules of the engine share.

Endpoint -> Sending -> FrameProcessing -> Receiving -> Connection: each adds one thing it does.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.connection_ids cimport LocalIds, PeerIds
from spooky._core.quic.crypto_stream cimport CryptoStream
from spooky._core.quic.path cimport Path
from spooky._core.quic.protection cimport EpochKeys, PhasedKeys
from spooky._core.quic.recovery cimport Recovery
from spooky._core.quic.sent_packet cimport SentPacket
from spooky._core.quic.streams cimport Streams
from spooky._core.quic.transport_parameters cimport TransportParameters

cdef enum State:
    ACTIVE
    CLOSE_DUE  # We ended it, and have not said so yet.
    CLOSING  # We said so (RFC 9000 section 10.2.1).
    DRAINING  # The peer said so (section 10.2.2).
    TERMINATED


cdef enum Drop:
    # Why packets are dropped; `edge/quic_measures.py` has the reasons in the same order.
    DROP_MALFORMED
    DROP_STRANGE  # It names no connection ID of ours.
    DROP_VERSION
    DROP_FORGED
    DROP_NO_KEYS
    DROPS


cdef class Endpoint:
    cdef object _handler
    cdef readonly bint is_client
    cdef readonly bint established
    cdef readonly object parameters
    cdef public object tls  # None once it is over.
    cdef object make_connection_id  # Callables; see Connection.
    cdef object make_reset_token
    cdef double now
    cdef State state

    # --- versions
    cdef readonly uint32_t original_version
    cdef readonly uint32_t version
    cdef bint negotiated_by_packet  # A Version Negotiation packet was heeded.

    # --- packets
    cdef Recovery recovery
    cdef CryptoStream initial_crypto
    cdef CryptoStream handshake_crypto
    cdef CryptoStream application_crypto
    cdef EpochKeys initial_keys
    cdef EpochKeys first_initial_keys  # Of the client's version, after an upgrade.
    cdef EpochKeys handshake_keys
    cdef EpochKeys early_keys  # Of 0-RTT packets; None if there are none, or no more.
    cdef double early_until  # When a server forgets them.
    cdef TransportParameters remembered  # What a client's 0-RTT data relies on; else None.
    cdef PhasedKeys application_keys
    cdef bint received_any  # A packet that was authentic.
    cdef uint64_t forged  # Packets that were not, under whatever keys.
    cdef uint64_t forgeries_max  # What the weakest AEAD of these bears.
    cdef bint is_confirmed  # RFC 9001 section 4.1.2.
    cdef bint streams_open  # Streams may be used: since 0-RTT was offered or taken, or established.
    cdef int[3] probes_due

    # --- connection IDs and paths
    cdef bytes original_destination_id
    cdef bytes retry_source_id
    cdef bytes first_source_id  # The peer's, of its first packet.
    cdef bytes token  # What a client's Initial packets carry.
    cdef LocalIds local_ids
    cdef PeerIds peer_ids
    cdef list ids_to_announce  # Sequence numbers of ours.
    cdef Path path
    cdef list other_paths
    # Of the peer's transport parameters what is needed after they are applied.
    cdef uint64_t peer_ids_max
    cdef uint64_t peer_ack_delay_exponent
    cdef uint64_t peer_payload_max  # 0 until TLS brought them.

    # --- what is due
    cdef Streams streams
    cdef bint handshake_done_due
    cdef bint ping_due
    cdef uint8_t ecn  # What the datagrams of this flush are marked with.
    cdef bytes token_to_give  # In a NEW_TOKEN frame; None if there is none.
    cdef readonly double idle_timeout  # 0: none.
    cdef double idle_at
    cdef bint eliciting_since_receipt
    cdef bint acknowledgments_held  # The last flush had no room for what was due.

    # --- the end
    cdef uint64_t close_code
    cdef uint64_t close_frame_type
    cdef bint close_is_application
    cdef str close_phrase
    cdef bint close_by_peer
    cdef bint close_timed_out
    cdef bint close_reported
    cdef double end_at
    cdef list goodbye
    cdef Py_ssize_t goodbye_size
    cdef bint goodbye_due
    cdef uint64_t received_since_close
    cdef uint64_t repeat_after

    # --- statistics
    cdef uint64_t packets_sent
    cdef uint64_t packets_received
    cdef uint64_t packets_lost
    cdef uint64_t[DROPS] dropped  # Since they were last told.
    cdef bint any_dropped

    cdef EpochKeys keys_of(self, int epoch)
    cdef CryptoStream crypto_of(self, int epoch)
    cdef int discard_keys(self, int epoch) except -1
    cdef int set_initial_keys(self, bytes connection_id) except -1
    cdef int take_tls_output(self) except -1
    cdef int issue_connection_ids(self) except -1
    cdef int confirm_handshake(self) except -1
    cdef int begin_early_data(self, bint sending, int cipher_suite, bytes secret) except -1
    cdef int take_back(self, int epoch) except -1
    cdef void restart_idle_timer(self) noexcept
    cdef int fail(self, uint64_t code, uint64_t frame_type, str phrase, bint is_application) except -1
    cdef int end_without_a_word(self) except -1
    cdef int drain(self) except -1
    cdef int report_close(self) except -1
    cdef int on_records_acked(self, SentPacket packet) except -1
    cdef int on_records_lost(self, SentPacket packet) except -1
    cdef int on_lost_packets(self, list lost) except -1
    cdef bytes own_parameters(self)
    cdef TransportParameters shared_parameters(self)
    cdef int check_peer_parameters(self, TransportParameters theirs) except -1
    cdef int end_early_data(self) except -1
    cdef int set_stream_limits(self, TransportParameters theirs) except -1
    cdef int compare_with_remembered(self, TransportParameters theirs) except -1
    cdef int settle_version(self, TransportParameters theirs) except -1
    cdef int apply_peer_parameters(self, TransportParameters theirs) except -1
    cdef bytes reset_token_of(self, bytes connection_id)
