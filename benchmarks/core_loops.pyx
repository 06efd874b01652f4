# cython: language_level=3, boundscheck=False, wraparound=False
"""Loops over kernel calls as other kernels make them: through C, without Python between.

Built by ``benchmarks/loops.py``, never installed.
"""

from libc.stdint cimport uint64_t

from spooky._core.balance cimport Balancer
from spooky._core.routes cimport RouteTable


def calls(object function not None, tuple arguments not None, int count):
    """Call a kernel's function ``count`` times; return what the last call returned."""
    cdef object result = None
    for _ in range(count):
        result = function(*arguments)
    return result


def no_calls(object function not None, tuple arguments not None, int count):
    """Do what ``calls`` does, without calling."""
    cdef object result = None
    for _ in range(count):
        result = arguments
    return result


def picks(Balancer balancer not None, int count):
    """Pick ``count`` times, each time for another key; return a sum of the picks."""
    cdef uint64_t key = 0
    cdef Py_ssize_t total = 0
    for _ in range(count):
        key += <uint64_t>0x9E3779B97F4A7C15  # Successive keys fall all over the ring.
        total += balancer.pick(key)
    return total


def no_picks(Balancer balancer not None, int count):
    """Do what ``picks`` does, without picking."""
    cdef uint64_t key = 0
    cdef uint64_t total = 0
    for _ in range(count):
        key += <uint64_t>0x9E3779B97F4A7C15
        total ^= key >> 60
    return total


def lookups(RouteTable table not None, list requests not None):
    """Look up each (host, path, method); return how many found a target."""
    cdef tuple request
    cdef int found = 0
    for request in requests:
        if table.lookup(<bytes>request[0], <bytes>request[1], <bytes>request[2]) is not None:
            found += 1
    return found


def no_lookups(RouteTable table not None, list requests not None):
    """Do what ``lookups`` does, without looking up."""
    cdef tuple request
    cdef int found = 0
    for request in requests:
        if <bytes>request[0] is not None and <bytes>request[2] is not None:
            found += 1
    return found
