# C types for spooky/_core/pure/stages.py, which is the source.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from spooky._core.admission cimport Admission, AdmissionStage
from spooky._core.breaker cimport Breaker
from spooky._core.concurrency cimport AdaptiveLimit
from spooky._core.gate cimport Gate
from spooky._core.validate cimport Request

cdef double _STEP
cdef int _UNCOUNTED, _GATEWAY_ERROR
cdef object _BROWNOUT, _ADAPTIVE, _CIRCUIT_OPEN, _BACKEND_INFLIGHT, _HEAD_TIMEOUT
cdef object _TRY_TIMEOUT


cdef class Pressure:
    cdef readonly double value
    cdef readonly object reason
    cdef list _owed

    @cython.locals(start=double, share=double, owed=double)
    cpdef bint sheds(self, int priority) except -1


cdef class Brownout:
    cdef readonly int level
    cdef Gate _gate
    cdef int64_t _limit
    cdef AdaptiveLimit _adaptive
    cdef int64_t _trigger
    cdef int64_t _recover
    cdef int _highest
    cdef double _next

    cpdef bint sheds(self, int priority, double now) except -1
    @cython.locals(in_flight=int64_t, limit=int64_t)
    cdef object _step(self, double now)
    cdef int64_t _present_limit(self) except -1


cdef class PriorityStage(AdmissionStage):
    cdef Pressure _pressure
    cdef int _priority
    cdef tuple _brownouts

    @cython.locals(pressure=Pressure, brownout=Brownout)
    cpdef bint enter(self, Request request, double now) except -1
    cpdef object leave(self, Admission admission)
    cpdef object withdraw(self)
    @cython.locals(brownout=Brownout)
    cpdef int64_t value(self) except? -1


cdef class AdaptiveStage(AdmissionStage):
    cdef AdaptiveLimit _adaptive

    cpdef bint enter(self, Request request, double now) except -1
    cpdef object answered(self, Admission admission)
    cpdef object leave(self, Admission admission)


cdef class BackendStage(AdmissionStage):
    cdef Breaker _breaker

    @cython.locals(breaker=Breaker)
    cpdef bint enter(self, Request request, double now) except -1
    @cython.locals(breaker=Breaker)
    cpdef object answered(self, Admission admission)
    @cython.locals(breaker=Breaker)
    cpdef object leave(self, Admission admission)
    @cython.locals(outcome=int)
    cdef object _judge(self, Breaker breaker, Admission admission)
