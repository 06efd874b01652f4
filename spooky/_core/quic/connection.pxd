"""C declarations of a QUIC connection."""

from spooky._core.quic.receiving cimport Receiving


cdef class Connection(Receiving):
    cdef bint announced  # The handler knows our first connection ID.

    cdef int receive_batch(self, batch) except -1
    cdef int receive_again(self) except -1
    cdef int settle(self) except -1
    cdef int tell_streams(self) except -1
    cdef double next_deadline(self) noexcept
    cdef int on_loss_timer(self) except -1
    cdef int expire_paths(self) except -1
