# cython: language_level=3, boundscheck=False, wraparound=False
"""A network path: whether its address is proven, and how large its datagrams may be."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from spooky._core.quic.limits cimport (
    AMPLIFICATION_FACTOR,
    MINIMUM_DATAGRAM_SIZE,
    PATH_CHALLENGES,
    PATH_DATA_LENGTH,
    SMALLEST_DATAGRAM,
)

cdef enum:
    PROBES_PER_SIZE = 3
    # RFC 8899 section 5.1.2, MAX_PROBES.

    SEARCH_STEP = 16
    # Less than this between what passes and what does not is not worth a probe.

    LARGE_LOSSES_MAX = 12
    # So many large packets lost, and none delivered that was sent with or after them, are no
    # congestion: a path that lost its MTU (RFC 8899 section 4.3). More than a full queue drops at
    # once of a small window.

    SEARCH_AGAIN_SECONDS = 600
    # After those, for a path whose probes pass and whose packets do not would lose a window each
    # time (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER).

    ETHERNET_IPV4 = 1472
    ETHERNET_IPV6 = 1452
    # What 1,500 bytes leave to a UDP payload; larger paths do not reach across the Internet.

    IPV6_ADDRESS_LENGTH = 4
    # Of what the socket module gives: host, port, flow and scope.

    ROOM_WITHOUT_LIMIT = 0x7FFFFFFF


@cython.final
cdef class Path:
    """The way to one address of the peer.

    Arguments:
        address: Where packets go, and come from.
        validated: Whether the peer is known to be there.

    Attributes:
        mtu: The largest datagram that is known to pass, bytes.
    """

    def __init__(self, address, bint validated):
        self.address = address
        self.validated = validated
        self.mtu = MINIMUM_DATAGRAM_SIZE
        self._ceiling = ETHERNET_IPV6 if len(address) == IPV6_ADDRESS_LENGTH else ETHERNET_IPV4

    # --- address validation ---------------------------------------------------------------------

    cdef Py_ssize_t room(self) noexcept:
        if self.validated:
            return ROOM_WITHOUT_LIMIT
        return AMPLIFICATION_FACTOR * self.bytes_received - self.bytes_sent

    cdef Py_ssize_t content_room(self) noexcept:
        """Return what is left beside one more question, without whose answer nothing goes on."""
        if self.challenge is None:
            return self.room()
        return self.room() - SMALLEST_DATAGRAM

    cdef bint is_answer(self, const uint8_t* data) noexcept:
        return (
            self.challenge is not None
            and memcmp(data, PyBytes_AS_STRING(self.challenge), PATH_DATA_LENGTH) == 0
        )

    cdef void on_validated(self) noexcept:
        self.validated = True
        self.challenge = None
        self.challenge_due = False

    cdef int begin_challenge(self, bytes data, double until) except -1:
        """Ask the peer to answer from this address.

        Arguments:
            data: 8 bytes that nobody else can know.
            until: When to ask again.
        """
        if self.challenge is None:
            self.challenges_left = PATH_CHALLENGES
        self.challenge = data
        self.challenge_due = True
        self.challenge_until = until
        self.challenges_left -= 1
        return 0

    cdef void on_unanswered(self) noexcept:
        self.challenge = None
        self.challenge_due = False

    cdef uint64_t challenge_number(self) noexcept:
        cdef uint64_t number = 0
        if self.challenge is not None:
            memcpy(&number, PyBytes_AS_STRING(self.challenge), PATH_DATA_LENGTH)
        return number

    cdef bint may_ask_again(self, uint64_t number) noexcept:
        """Return whether the outstanding challenge is this one, and not the last."""
        return (
            self.challenge is not None
            and self.challenges_left > 0
            and number == self.challenge_number()
        )

    # --- path MTU discovery ---------------------------------------------------------------------

    cdef void set_ceiling(self, uint32_t size) noexcept:
        """Heed the largest datagram the peer takes."""
        self._ceiling = min(self._ceiling, size)
        self.mtu = min(self.mtu, self._ceiling)

    cdef uint32_t probe_size(self, double now) noexcept:
        """Return a size to try: the largest at first, then halfway to what failed.

        None before a datagram was full: a connection that says little gains nothing by larger ones.
        """
        if self._probe or not self.is_filled or not self.validated or now < self._search_after:
            return 0
        if self._halving:
            if self._ceiling < self.mtu + SEARCH_STEP:
                return 0
            return (self.mtu + self._ceiling + 1) // 2
        return self._ceiling if self._ceiling > self.mtu else 0

    cdef void on_probe_sent(self, uint32_t size) noexcept:
        self._probe = size

    cdef void on_probe_acked(self, uint32_t size) noexcept:
        if size != self._probe:
            # Of another path, or from before this one shrank.
            return
        self._probe = 0
        self._probes_lost = 0
        self.mtu = max(self.mtu, size)

    cdef void on_probe_lost(self, uint32_t size) noexcept:
        if size != self._probe:
            return
        self._probe = 0
        self._probes_lost += 1
        if self._probes_lost < PROBES_PER_SIZE:
            return
        # Not the largest: from now on halfway between what passes and what did not.
        self._probes_lost = 0
        self._ceiling = max(self.mtu, min(self._ceiling, size - 1))
        self._halving = True

    cdef void on_acked(self, uint32_t size, double time_sent) noexcept:
        if size > MINIMUM_DATAGRAM_SIZE:
            self._large_lost = 0
            self._large_delivered = max(self._large_delivered, time_sent)

    cdef bint on_lost(self, uint32_t size, double time_sent, double now) noexcept:
        if size <= MINIMUM_DATAGRAM_SIZE or time_sent <= self._large_delivered:
            return False
        self._large_lost += 1
        if self._large_lost < LARGE_LOSSES_MAX or self.mtu == MINIMUM_DATAGRAM_SIZE:
            return False
        self.shrink(now + SEARCH_AGAIN_SECONDS)
        return True

    cdef void shrink(self, double search_after) noexcept:
        """Go back to what every path carries, and search again later."""
        self._ceiling = max(self.mtu, self._ceiling)
        self.mtu = MINIMUM_DATAGRAM_SIZE
        self._large_lost = 0
        self._probe = 0
        self._probes_lost = 0
        self._halving = False
        self._search_after = search_after
