# C types for spooky/_core/pure/terms.py, which is the source.

from libc.stdint cimport int64_t, uint64_t

from spooky._core.authority cimport ConnectionAuthority
from spooky._core.routes cimport RouteTable
from spooky._core.validate cimport Limits


cdef class Rates:
    cdef readonly double request
    cdef readonly double stream
    cdef readonly double response
    cdef readonly double grace


cdef class Timeouts:
    cdef readonly double response_head
    cdef readonly double first_byte
    cdef readonly double response_idle
    cdef readonly double request_idle
    cdef readonly Rates rates
    cdef readonly object total
    cdef readonly double admission
    cdef readonly double admission_target


cdef class BodyLimits:
    cdef readonly object request
    cdef readonly object response
    cdef readonly int64_t prebuffer
    cdef readonly uint64_t held_requests


cdef class RequestPolicy:
    cdef readonly Limits limits
    cdef readonly Timeouts timeouts
    cdef readonly BodyLimits bodies
    cdef readonly frozenset early_methods
    cdef readonly int64_t retry_after


cdef class InForce:
    cdef object __weakref__
    cdef readonly uint64_t number
    cdef readonly RequestPolicy policy
    cdef readonly RouteTable routes


cdef class Client:
    cdef readonly bytes address
    cdef readonly int port
    cdef readonly int version
    cdef readonly bytes connection_id
    cdef readonly tuple response_fields
    cdef readonly bytes hop
    cdef readonly bint is_early
    cdef readonly object proxies
    cdef readonly ConnectionAuthority covered

    cpdef Client of_request(self, list fields)
