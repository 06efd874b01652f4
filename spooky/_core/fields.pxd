cdef enum Forwarded:
    OVERWRITE
    APPEND
    PRESERVE


cdef enum HostMode:
    PASS_THROUGH
    REWRITE
    UPSTREAM


cdef class ForwardingPolicy:
    cdef Forwarded forwarded
    cdef readonly bint appends
    cdef HostMode host_mode
    cdef bytes host
