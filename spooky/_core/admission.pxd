# C types for spooky/_core/pure/admission.py, which is the source.

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.balance cimport Balancer, hash_key
from spooky._core.gate cimport Gate
from spooky._core.outcomes cimport Tally
from spooky._core.validate cimport Request

cdef object _COMPLETED


cdef class AdmissionStage:
    cdef public Gate gate
    cdef public uint64_t limit
    cdef public object reason

    cpdef bint enter(self, Request request) except -1
    cpdef object leave(self, object reason, int status, double elapsed_ms)
    cpdef object withdraw(self)


cdef class Refusal:
    cdef readonly object reason
    cdef readonly AdmissionStage stage


cdef class Admission:
    cdef readonly object upstream
    cdef readonly Py_ssize_t index
    cdef readonly object backend
    cdef bint _open

    @cython.locals(
        balancer=Balancer, observers=tuple, passed=Py_ssize_t, stage=AdmissionStage, stages=tuple,
        tally=Tally,
    )
    cpdef object leave(self, object reason, int status, double elapsed_ms, double latency_ms)


@cython.locals(stages=tuple, stage=AdmissionStage, passed=Py_ssize_t, key=uint64_t)
cpdef object admit(object upstream, Request request, bytes address, bytes connection_id)
@cython.locals(
    balancer=Balancer, stages=tuple, backends=tuple, stage=AdmissionStage, index=Py_ssize_t
)
cdef object _choose(object upstream, Request request, uint64_t key)
cdef bint _enter(AdmissionStage stage, Request request) except -1
@cython.locals(stage=AdmissionStage)
cdef object _withdraw(tuple stages, Py_ssize_t count)
