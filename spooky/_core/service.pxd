# C types for spooky/_core/pure/service.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.access_record cimport AccessRecord
from spooky._core.accounts cimport Accounts
from spooky._core.decisions cimport Ring
from spooky._core.gate cimport Places
from spooky._core.shared cimport Segment
from spooky._core.terms cimport Client, InForce
from spooky._core.turns cimport Turns

cdef uint64_t _SEQUENCE_MAX


cdef class Service:
    cdef readonly Turns runtime
    cdef public InForce generation
    cdef public object access_log
    cdef readonly Places held
    cdef readonly Places kept
    cdef public bint keeps_decisions
    cdef Segment _segment
    cdef object _exchange
    cdef public Accounts _accounts
    cdef public Ring _decisions
    cdef public uint64_t _sequence
    cdef public str _id_prefix

    cpdef InForce switch(self, uint64_t number)
    cpdef object accept(self, object stream, Client client)
    @cython.locals(generation=InForce, number=uint64_t)
    cpdef InForce in_force(self)
    cpdef str next_request_id(self)
    cpdef object begin_ids(self)
    @cython.locals(now=double, protocol=str, runtime=Turns)
    cpdef object finished(self, Client client, object stream, AccessRecord record, object reason)
