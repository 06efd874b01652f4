"""C declarations of the counting HTTP/3 client."""

from libc.stdint cimport int64_t

from spooky.bench.histogram cimport Histogram


cdef class Request:
    cdef readonly tuple pieces
    cdef readonly int64_t body_size


cdef class Tally:
    cdef readonly Histogram latencies
    cdef readonly int64_t requests
    cdef readonly int64_t bytes_received
    cdef readonly int64_t bytes_sent
    cdef readonly dict errors
    cdef readonly double since

    cpdef count_error(self, str what, int64_t count=*)


cdef class Exchange:
    cdef int64_t stream_id
    cdef double started
    cdef Request request
    cdef Py_ssize_t piece  # the next one to send
    cdef Py_ssize_t offset  # of what is unsent in it
    cdef int64_t frame
    cdef int64_t remaining  # of the frame, in bytes
    cdef bytes partial  # a frame header, or a field section, that is not whole yet
    cdef int status  # 0 until the final response's head came


cdef class CountingClient:
    cdef readonly object session
    cdef readonly object closed
    cdef public double now
    cdef readonly bint established
    cdef readonly Tally tally
    cdef dict _exchanges
    cdef tuple _requests
    cdef Py_ssize_t _next
    cdef Py_ssize_t _streams
    cdef Py_ssize_t _unused
    cdef bint _closed_loop
    cdef public bint stopping
    cdef dict _unread  # bytes of each stream that were not consumed; None where nothing is held back
    cdef object _waiting

    cdef int _begin(self, double started) except -1
    cdef int _push(self, Exchange exchange) except -1
    cdef int _read(self, Exchange exchange, bytes data) except -1
    cdef int _finish(self, Exchange exchange) except -1
    cdef list _unanswered(self)
    cdef int _go_on(self) except -1
