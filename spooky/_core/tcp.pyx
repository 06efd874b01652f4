# cython: language_level=3, boundscheck=False, wraparound=False
"""Reading and writing a connected TCP socket that does not block."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int descriptor, void* buffer, size_t length, int flags)
    ssize_t c_send "send"(int descriptor, const void* data, size_t length, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL

cdef enum:
    RECEIVE_MAX = 256 * 1024

RECEIVE_BYTES_MAX = RECEIVE_MAX

# One for all sockets: what was read is copied out before anything else happens.
cdef char BUFFER[RECEIVE_MAX]


cpdef bytes receive(int descriptor):
    # The interpreter is not let go of: nothing here waits, and to get it back costs more.
    cdef ssize_t count = recv(descriptor, BUFFER, RECEIVE_MAX, MSG_DONTWAIT)
    if count >= 0:
        return PyBytes_FromStringAndSize(BUFFER, count)
    if errno == EAGAIN or errno == EINTR:
        return None
    PyErr_SetFromErrno(OSError)


cpdef Py_ssize_t send(int descriptor, bytes data, Py_ssize_t start) except -1:
    cdef ssize_t count
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        raise ValueError("a start outside of the data")
    count = c_send(
        descriptor, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start,
        MSG_DONTWAIT | MSG_NOSIGNAL,
    )
    if count >= 0:
        return count
    if errno == EAGAIN or errno == EINTR:
        return 0
    PyErr_SetFromErrno(OSError)
