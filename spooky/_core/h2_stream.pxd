# C types for spooky/_core/pure/h2_stream.py, which is the source.

from libc.stdint cimport int64_t

cdef int _URGENCY


cdef class Owner:
    cpdef object send_head(self, Stream stream, object fields, bint end)
    cpdef object send_informational(self, Stream stream, object fields)
    cpdef bint send_data(self, Stream stream, bytes data, bint end) except -1
    cpdef bint send_trailers(self, Stream stream, object fields) except -1
    cpdef int64_t taken_beside(self, Stream stream) except? -2
    cpdef object credit(self, int64_t stream_id, Py_ssize_t count)
    cpdef object stop_receiving(self, Stream stream)
    cpdef object reset(self, Stream stream, int64_t code)


cdef class Stream:
    cdef public object handler
    cdef readonly str protocol
    cdef readonly Owner session
    cdef public int64_t id
    cdef public bint over
    cdef public bint local_ended
    cdef public bint remote_ended
    cdef public bint unwanted
    cdef public Py_ssize_t unconsumed
    cdef public int informational
    cdef public bint head_received
    cdef public object backlog
    cdef public Py_ssize_t backlog_bytes
    cdef public Py_ssize_t offset
    cdef public object trailers
    cdef public int64_t turn
    cdef public object signals
    cdef public int urgency
    cdef public bint incremental

    cpdef object prioritize(self, object priority)
    cpdef object send_head(self, object fields, bint end)
    cpdef object send_informational(self, object fields)
    cpdef bint send_data(self, bytes data, bint end) except -1
    cpdef bint send_trailers(self, object fields) except -1
    cpdef Py_ssize_t unsent(self) except -1
    cpdef int64_t taken_beside(self) except? -2
    cpdef object consume(self, Py_ssize_t count)
    cpdef object stop_receiving(self)
    cpdef object reset(self, object reason)
