# C types for spooky/_core/pure/h3_fields.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

cdef Py_ssize_t _FIELD_SIZE_OVERHEAD

cpdef object field_value(object fields, bytes name)

cpdef int64_t declared_length(object fields) except? -2

@cython.locals(size=Py_ssize_t, name=bytes, value=bytes)
cpdef Py_ssize_t section_size(object fields) except -1
