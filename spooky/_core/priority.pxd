# C types for spooky/_core/pure/priority.py, which is the source.

cimport cython
from libc.stdint cimport int64_t

cdef int _SPACE, _TAB, _QUOTE, _OPEN, _CLOSE, _COMMA, _MINUS, _DOT, _ZERO, _ONE, _COLON
cdef int _SEMICOLON, _EQUALS, _QUESTION, _BACKSLASH, _DELETE
cdef int _OTHER, _INTEGER, _BOOLEAN

cpdef object parse_priority(bytes value, object base)


@cython.final
cdef class _Parser:
    cdef bytes _data
    cdef Py_ssize_t _size
    cdef Py_ssize_t _position
    cdef int64_t _value

    @cython.locals(
        urgency=int64_t, incremental=int64_t, start=Py_ssize_t, length=Py_ssize_t, name=int,
        kind=int, in_range=bint,
    )
    cdef object parse(self, object base)
    cdef int _peek(self) except -2
    cdef object _skip_spaces(self)
    @cython.locals(start=Py_ssize_t)
    cdef Py_ssize_t _skip_of(self, bytes allowed) except -1
    cdef bint _read_separator(self) except -1
    cdef bint _read_key(self) except -1
    @cython.locals(kind=int, value=int64_t)
    cdef int _read_member(self) except -2
    cdef bint _read_parameters(self) except -1
    cdef int _read_inner_list(self) except -2
    @cython.locals(first=int)
    cdef int _read_item(self) except -2
    @cython.locals(
        negative=bint, start=Py_ssize_t, digits=Py_ssize_t, fraction=Py_ssize_t, value=int64_t,
        index=Py_ssize_t,
    )
    cdef int _read_number(self) except -2
    @cython.locals(byte=int, escaped=int)
    cdef int _read_string(self) except -2
