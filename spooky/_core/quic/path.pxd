"""C declarations of a network path."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.connection_ids cimport IssuedId


cdef class Path:
    cdef readonly object address
    # What packets there carry (RFC 9000 section 9.5); None: nothing yet, or it is the current path,
    # whose ID is PeerIds.current.
    cdef IssuedId peer_id
    cdef bytes destination  # The ID of ours that the peer uses there; None if it is not known.
    # --- address validation (RFC 9000 section 8)
    cdef readonly bint validated
    cdef double forget_at  # When it is, if it is not the current one and nothing comes from there.
    cdef readonly uint64_t bytes_received
    cdef readonly uint64_t bytes_sent
    cdef bytes challenge  # Outstanding; None if there is none.
    cdef bint challenge_due
    cdef bint challenge_small  # It did not fill a datagram that every path must carry.
    cdef double challenge_until  # When it is sent again, or given up.
    cdef int challenges_left
    cdef bytes response  # To be sent, the answer to the latest challenge; None if there is none.
    # --- path MTU discovery (RFC 8899)
    cdef readonly uint32_t mtu
    cdef bint is_filled  # A datagram was as large as it may be: larger ones would be of use.
    cdef uint32_t _ceiling  # The largest size not known to fail.
    cdef uint32_t _probe  # What is on its way; 0 if nothing is.
    cdef int _probes_lost  # In a row, of that size.
    cdef int _large_lost  # Of packets larger than every path carries, since one was delivered.
    cdef double _large_delivered  # When the last of them that was delivered was sent.
    cdef bint _halving  # The ceiling failed once: halfway next.
    cdef double _search_after

    cdef Py_ssize_t room(self) noexcept  # What address validation lets out; bytes.
    cdef Py_ssize_t content_room(self) noexcept
    cdef void set_ceiling(self, uint32_t size) noexcept
    cdef bint is_answer(self, const uint8_t* data) noexcept
    cdef void on_validated(self) noexcept
    cdef void on_unanswered(self) noexcept  # It is not asked any more.
    cdef int begin_challenge(self, bytes data, double until) except -1
    cdef uint64_t challenge_number(self) noexcept  # Its data, for a frame record.
    cdef bint may_ask_again(self, uint64_t number) noexcept
    cdef uint32_t probe_size(self, double now) noexcept  # 0 if there is nothing to find out.
    cdef void on_probe_sent(self, uint32_t size) noexcept
    cdef void on_probe_acked(self, uint32_t size) noexcept
    cdef void on_probe_lost(self, uint32_t size) noexcept
    cdef void on_acked(self, uint32_t size, double time_sent) noexcept
    # True: the path became smaller.
    cdef bint on_lost(self, uint32_t size, double time_sent, double now) noexcept
    cdef void shrink(self, double search_after) noexcept
