# C types for spooky/_core/pure/admission.py, which is the source.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from spooky._core.balance cimport Balancer, hash_key
from spooky._core.decisions cimport Admitted
from spooky._core.fields cimport ForwardingPolicy
from spooky._core.gate cimport Gate
from spooky._core.outcomes cimport Tally
from spooky._core.validate cimport Request

cdef object _COMPLETED, _CIRCUIT_OPEN
cdef Py_ssize_t _SCAN_MAX, _PASSED_MAX


cdef class AdmissionStage:
    cdef public Gate gate
    cdef public uint64_t limit
    cdef public object reason
    cdef public str name
    cdef public int64_t ticket

    cpdef bint enter(self, Request request, double now) except -1
    cpdef object answered(self, Admission admission)
    cpdef object leave(self, Admission admission)
    cpdef object withdraw(self)
    cpdef int64_t value(self) except? -1


cdef class Backend:
    cdef readonly str id
    cdef readonly bytes scheme
    cdef readonly bytes authority
    cdef public object pool
    cdef readonly AdmissionStage stage
    cdef readonly Tally tally
    cdef readonly object health


cdef class Upstream:
    cdef readonly str name
    cdef readonly Balancer balancer
    cdef readonly object key_source
    cdef readonly tuple backends
    cdef readonly ForwardingPolicy forwarding
    cdef readonly object retry
    cdef readonly tuple stages
    cdef readonly object excluded
    cdef readonly object budget
    cdef readonly bint is_timed

    cpdef Upstream behind(self, tuple stages)


cdef class Refusal:
    cdef readonly object reason
    cdef readonly AdmissionStage stage
    cdef readonly int64_t value
    cdef readonly uint64_t limit
    cdef readonly Gate gate
    cdef readonly list passed
    cdef readonly Admitted admitted


cdef class PassedOver:
    cdef readonly Py_ssize_t index
    cdef readonly AdmissionStage stage
    cdef readonly object reason
    cdef readonly int64_t value
    cdef readonly uint64_t limit


cdef class Admission:
    cdef readonly Upstream upstream
    cdef readonly Py_ssize_t index
    cdef readonly Backend backend
    cdef readonly int64_t ticket
    cdef readonly bint is_answered
    cdef readonly int status
    cdef readonly double service_ms
    cdef readonly object reason
    cdef readonly double elapsed_ms
    cdef readonly double now
    cdef public list passed
    cdef bint _open

    @cython.locals(stages=tuple, stage=AdmissionStage)
    cpdef object answered(self, double now, int status, double service_ms)
    @cython.locals(
        balancer=Balancer, passed=Py_ssize_t, stage=AdmissionStage, stages=tuple, tally=Tally,
        upstream=Upstream,
    )
    cpdef object leave(
        self, object reason, int status, double elapsed_ms, double latency_ms, double now
    )


@cython.locals(
    stages=tuple, stage=AdmissionStage, passed=Py_ssize_t, key=uint64_t, refusal=Refusal
)
cpdef object admit(
    Upstream upstream, Request request, bytes address, bytes connection_id, double now
)
@cython.locals(admitted=Admitted, stages=tuple, balancer=Balancer, upstream=Upstream)
cpdef Admitted admitted_by(Admission admission)
@cython.locals(admitted=Admitted, at=Py_ssize_t)
cdef Admitted _passed_stages(tuple stages, Py_ssize_t count)
cdef object _note_stage(Admitted admitted, AdmissionStage stage)
@cython.locals(
    balancer=Balancer, stages=tuple, backends=tuple, backend=Backend, stage=AdmissionStage,
    index=Py_ssize_t, passed=list, admission=Admission, refusal=Refusal,
)
cdef object _choose(Upstream upstream, Request request, uint64_t key, double now)
@cython.locals(refusal=Refusal, best=PassedOver, other=PassedOver)
cpdef Refusal refusal_of(list passed)
cpdef object pass_over(list passed, Py_ssize_t index, AdmissionStage stage)
@cython.locals(
    balancer=Balancer, backends=tuple, stage=AdmissionStage, index=Py_ssize_t, count=Py_ssize_t,
    start=int64_t, offset=Py_ssize_t, other=Py_ssize_t, refused=Py_ssize_t, first=PassedOver,
)
cdef Py_ssize_t _choose_other(
    Upstream upstream, Request request, uint64_t key, list passed, double now
) except -2
@cython.locals(stage=AdmissionStage)
cdef object _withdraw(tuple stages, Py_ssize_t count)
