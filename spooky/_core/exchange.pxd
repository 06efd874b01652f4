# C types for spooky/_core/pure/exchange.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

from spooky._core.access_record cimport AccessRecord
from spooky._core.accounts cimport Lots
from spooky._core.admission cimport Admission, Backend, Refusal, Upstream, admit, admitted_by
from spooky._core.attempt cimport Attempt, Owner
from spooky._core.balance cimport Balancer
from spooky._core.deadlines cimport Deadlines
from spooky._core.fields cimport ForwardingPolicy
from spooky._core.routes cimport RouteTable
from spooky._core.service cimport Service
from spooky._core.terms cimport BodyLimits, Client, InForce, RequestPolicy, Timeouts
from spooky._core.validate cimport Request, Response

cdef Py_ssize_t _MAX_COUNT, _MAX_BYTES
cdef int _REVIEWED_STATUS
cdef object _COMPLETED, _UPSTREAM_HEAD_TIMEOUT, _UPSTREAM_BODY_TIMEOUT


cdef class Exchange(Owner):
    cdef readonly Service service
    cdef readonly object stream
    cdef readonly Client client
    cdef readonly AccessRecord record
    cdef readonly Deadlines deadlines
    cdef readonly Request request
    cdef readonly RequestPolicy policy
    cdef readonly Upstream upstream
    cdef public Attempt attempt
    cdef public Refusal waiting_at
    cdef public object prebuffer
    cdef public bint reviews_heads
    cdef public bint redialled
    cdef public object tries
    cdef public object replay
    cdef readonly bint request_ended
    cdef public bint response_started
    cdef public bint response_ended
    cdef readonly bint finished
    cdef object _pending
    cdef list _trailers
    cdef bint _body_sent
    cdef public int64_t _seen_taken
    cdef public int64_t _seen_beside
    cdef int64_t _owed
    cdef readonly int64_t _held

    @cython.locals(
        generation=InForce, policy=RequestPolicy, bodies=BodyLimits, request=Request,
        routes=RouteTable, upstream=Upstream, client=Client,
    )
    cpdef object on_head(self, list fields, bint end)
    cpdef object on_informational(self, list fields)
    @cython.locals(size=Py_ssize_t, attempt=Attempt)
    cpdef object on_data(self, bytes data, bint end)
    @cython.locals(attempt=Attempt)
    cpdef object on_trailers(self, list fields)
    cpdef object on_reset(self, object reason)
    cpdef object on_stopped(self)
    @cython.locals(attempt=Attempt, owed=int64_t)
    cpdef object on_writable(self)
    @cython.locals(client=Client, budget=Lots)
    cdef object _admit(self, double started)
    @cython.locals(attempt=Attempt, record=AccessRecord, balancer=Balancer)
    cdef object _dispatch(self, Admission admission, double started)
    cdef double _now(self) except? -1
    @cython.locals(now=double, ends=bint)
    cdef object _on_upstream_connected(self, Attempt attempt, object stream)
    @cython.locals(fields=list, forwarding=ForwardingPolicy, backend=Backend, address=bytes)
    cdef list _head_for(self, Admission admission)
    @cython.locals(data=bytes, last=Py_ssize_t, end=bint)
    cdef object _send_pending(self, object stream)
    cdef object _on_upstream_writable(self, Attempt attempt)
    @cython.locals(owed=int64_t)
    cdef object _credit_owed(self)
    cpdef bint can_send_again(self) except -1
    cpdef object take_back(self)
    cdef object _on_response_informational(self, Attempt attempt, list fields)
    @cython.locals(response=Response, now=double)
    cdef object _on_response_head(self, Attempt attempt, list fields, bint end)
    @cython.locals(size=Py_ssize_t, accepted=bint)
    cdef object _on_response_data(self, Attempt attempt, bytes data, bint end)
    @cython.locals(accepted=bint)
    cdef object _on_response_trailers(self, Attempt attempt, list fields)
    @cython.locals(size=Py_ssize_t)
    cdef object _send_upstream(self, object upstream, bytes data, bint end)
    @cython.locals(timeouts=Timeouts, is_declared=bint)
    cdef object _expect_request_progress(self)
    cpdef object expect_first_byte(self)
    cpdef int64_t client_moved(self) except -1
    cdef object _hold(self, Py_ssize_t size)
    cdef object _release_held(self, Py_ssize_t size)
    @cython.locals(attempt=Attempt)
    cdef object _end_response(self, bint accepted)
    @cython.locals(attempt=Attempt)
    cpdef object end_attempt(self, object reason)
    @cython.locals(attempt=Attempt)
    cdef object _finish(self, object reason)
