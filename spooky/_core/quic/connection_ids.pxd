"""C declarations of the connection IDs of both sides."""

from libc.stdint cimport uint64_t

from spooky._core.quic.ranges cimport RangeSet


cdef class IssuedId:
    cdef readonly uint64_t sequence
    cdef readonly bytes connection_id
    cdef readonly bytes reset_token  # None if nobody told one.

    @staticmethod
    cdef IssuedId make(uint64_t sequence, bytes connection_id, bytes reset_token)


cdef class LocalIds:
    cdef readonly list active  # Of IssuedId, by sequence number.
    cdef uint64_t _next_sequence
    cdef uint64_t _announced  # Above the highest sequence number the peer was told.

    cdef IssuedId issue(self, bytes connection_id, bytes reset_token)
    cdef bint holds(self, bytes connection_id) noexcept
    cdef IssuedId find(self, uint64_t sequence)
    cdef void on_announced(self, uint64_t sequence) noexcept
    # Forgets an ID and returns it; None if it was retired before.
    cdef IssuedId retire(self, uint64_t sequence, bytes used)


cdef class PeerIds:
    cdef readonly IssuedId current
    cdef list elsewhere  # Of IssuedId: what other paths use; None if there never was one.
    cdef readonly list spare  # Of IssuedId, by sequence number.
    cdef readonly list retiring  # Sequence numbers whose retirement is to be sent.
    cdef Py_ssize_t _retirements_max
    cdef uint64_t _retire_prior_to
    cdef RangeSet _seen  # Sequence numbers at or above _retire_prior_to.
    cdef list _unacknowledged  # Sequence numbers whose retirement the peer may not know.

    cdef int replace_first(self, bytes connection_id) except -1
    cdef int set_first_token(self, bytes reset_token) except -1
    cdef int add(
        self, uint64_t sequence, uint64_t retire_prior_to, bytes connection_id, bytes reset_token
    ) except -1
    cdef bint use_next(self) except -1  # False if there is none.
    cdef bint uses(self, IssuedId entry) noexcept
    cdef IssuedId take(self)  # None if there is none.
    cdef int switch_to(self, IssuedId entry) except -1
    cdef int give_back(self, IssuedId entry) except -1
    cdef int retire_again(self, uint64_t sequence) except -1
    cdef int on_retirement_acked(self, uint64_t sequence) except -1
    cdef bint is_reset_token(self, bytes token)
    cdef int _retire(self, IssuedId entry) except -1
