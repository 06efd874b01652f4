# C types for spooky/_core/pure/authority.py, which is the source.

cimport cython


cdef class CoveredHosts:
    cdef readonly dict known

    cpdef bint includes(self, bytes host) except -1


cdef class Authorities:
    cdef bint _is_checked
    cdef dict _covered

    @cython.locals(covered=CoveredHosts)
    cpdef bint includes(self, object handshake, bytes host) except -1
    cpdef CoveredHosts _cover(self, object handshake)


cdef class ConnectionAuthority:
    cdef object _handshake
    cdef object _listener

    @cython.locals(authorities=Authorities)
    cpdef bint includes(self, bytes host) except -1
