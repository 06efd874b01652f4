# C types for spooky/_core/pure/hand_off.py, which is the source.

cimport cython


cdef class Connection:
    cdef public object pool
    cdef public object _idle_timer
    cdef public object session
    cdef public Py_ssize_t served
    cdef public bint ready

    cpdef object open(self, object caller)
    cpdef object on_progress(self)


cdef class Pool:
    cdef public bint closed
    cdef public list _ready

    @cython.locals(connection=Connection)
    cpdef object request(self, object caller)
    @cython.locals(connection=Connection)
    cpdef Connection take_ready(self)
