# cython: language_level=3, boundscheck=False, wraparound=False
"""The keys of a connection, and their updates (RFC 9001 sections 4.1, 6 and 6.6)."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from spooky._core.quic.crypto cimport (
    PacketKey,
    confidentiality_limit,
    header_key,
    next_secret,
    packet_key,
)

cdef enum:
    NOT_AUTHENTIC = -1

    LIMIT_FRACTION = 2
    # Keys are changed at half of their limit: the change may have to wait for the last one.

    KEPT_TO_CLOSE = 64
    # Packets below the limit at which nothing but the close is sent any more: it is one, and probes
    # of paths may go before it.

cdef uint64_t NONE_RECEIVED = <uint64_t>-1


cdef class EpochKeys:
    """Keys of both directions in one packet number space."""

    cdef int set_secret(
        self, bint sending, int cipher_suite, unsigned int version, bytes secret
    ) except -1:
        """Take a traffic secret."""
        self.cipher_suite = cipher_suite
        self.set_limit(confidentiality_limit(cipher_suite))
        if sending:
            self.sealing = packet_key(cipher_suite, version, secret, True)
            self.masking = header_key(cipher_suite, version, secret)
        else:
            self.opening = packet_key(cipher_suite, version, secret, False)
            self.unmasking = header_key(cipher_suite, version, secret)
        return 0

    cdef void set_limit(self, uint64_t limit) noexcept:
        """Let so many packets be sealed under one key from now on (RFC 9001 section 6.6)."""
        self._sealed = 0
        self._limit = limit

    cdef bint at_confidentiality_limit(self) noexcept:
        """Whether the keys must not be used on, and could not be changed."""
        return self._sealed + KEPT_TO_CLOSE >= self._limit


@cython.final
cdef class PhasedKeys(EpochKeys):
    """The 1-RTT keys, which change.

    Attributes:
        phase: The Key Phase bit of what is sent.
    """

    def __init__(self):
        self._first_received = NONE_RECEIVED

    cdef int set_secret(
        self, bint sending, int cipher_suite, unsigned int version, bytes secret
    ) except -1:
        self._version = version
        if sending:
            self._send_secret = secret
        else:
            self._receive_secret = secret
        return EpochKeys.set_secret(self, sending, cipher_suite, version, secret)

    cdef Py_ssize_t open_phased(
        self, bint phase, uint64_t number, const uint8_t* header, Py_ssize_t header_size,
        const uint8_t* cipher, Py_ssize_t cipher_size, uint8_t* out, double now, double keep,
    ) except -2:
        """Open a packet, with the keys of its phase (RFC 9001 section 6.3).

        Arguments:
            phase: Its Key Phase bit.
            number: Its packet number.
            now: Seconds.
            keep: How long keys stay after a change, seconds.
        """
        cdef Py_ssize_t size
        cdef PacketKey key = self.opening
        cdef bint changes = False
        if now >= self._previous_until and self._first_received != NONE_RECEIVED:
            # The peer has followed, and what it sent before is late.
            self._previous = None
        if phase != self.phase:
            if self._previous is not None and number < self._first_received:
                key = self._previous
            else:
                key = self._next_opening()
                changes = True
        size = key.open(number, header, header_size, cipher, cipher_size, out)
        if size < 0:
            return NOT_AUTHENTIC
        if changes:
            # The peer began it: what we send follows (section 6.2).
            self._update(NONE_RECEIVED, now, keep)
        if key is not self._previous and number < self._first_received:
            self._first_received = number
        return size

    cdef int prepare_to_seal(
        self, uint64_t number, int64_t largest_acknowledged, bint confirmed, double now,
        double keep,
    ) except -1:
        """Count a packet, and change the keys before it if it is time.

        Arguments:
            number: Of the packet.
            largest_acknowledged: By the peer; -1 for none.
            confirmed: Whether the handshake is (RFC 9001 section 6.1).
            now: Seconds.
            keep: How long keys stay after a change, seconds.
        """
        self._sealed += 1
        if self._first_sent == NONE_RECEIVED:
            self._first_sent = number
        if not self.update_wanted and self._sealed < self._change_after:
            return 0
        if not confirmed or largest_acknowledged < <int64_t>self._first_sent:
            return 0
        self._update(number, now, keep)
        return 0

    cdef void set_limit(self, uint64_t limit) noexcept:
        EpochKeys.set_limit(self, limit)
        self._change_after = limit // LIMIT_FRACTION

    cdef int _update(self, uint64_t next_number, double now, double keep) except -1:
        cdef PacketKey following = self._next_opening()
        self._send_secret = next_secret(self.cipher_suite, self._version, self._send_secret)
        self._receive_secret = next_secret(self.cipher_suite, self._version, self._receive_secret)
        self.sealing = packet_key(self.cipher_suite, self._version, self._send_secret, True)
        self._previous, self.opening, self._following = self.opening, following, None
        self._previous_until = now + keep
        self.phase = not self.phase
        self.update_wanted = False
        self._first_sent = next_number
        self._first_received = NONE_RECEIVED
        self._sealed = 0
        return 0

    cdef PacketKey _next_opening(self):
        if self._following is None:
            self._following = packet_key(
                self.cipher_suite,
                self._version,
                next_secret(self.cipher_suite, self._version, self._receive_secret),
                False,
            )
        return self._following
