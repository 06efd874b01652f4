# cython: language_level=3, boundscheck=False, wraparound=False
"""Loops over kernel calls as other kernels make them: through C, without Python between."""

from libc.stdint cimport uint8_t, uint64_t

from spooky._core.balance cimport Balancer
from spooky._core.quic.crypto cimport TAG_LENGTH, HeaderKey, PacketKey
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


def protections(PacketKey key not None, HeaderKey mask not None, bytearray packet, int count):
    """Seal ``count`` packets in place, each with the next number, and mask their headers.

    The packet has its header of 13 bytes, four of them the number, and room for the tag.
    """
    cdef uint8_t* p = packet
    cdef size_t size = len(packet) - 13 - TAG_LENGTH
    cdef uint8_t[5] found
    cdef int i
    for i in range(count):
        key.seal(i, p, 13, p + 13, size, p + 13)
        mask.mask(p + 13, found)
        p[0] ^= found[0] & 0x1F
    return count


def no_protections(PacketKey key not None, HeaderKey mask not None, bytearray packet, int count):
    """Do what ``protections`` does, without sealing and masking."""
    cdef uint8_t* p = packet
    cdef int i
    for i in range(count):
        p[0] ^= p[13] & 0x1F
    return count


def openings(PacketKey key not None, bytes header, bytes sealed, int count):
    """Open one packet ``count`` times; return the bytes opened."""
    cdef bytearray room = bytearray(len(sealed))
    cdef uint8_t* out = room
    cdef const uint8_t* p = sealed
    cdef const uint8_t* h = header
    cdef size_t size = len(sealed), header_size = len(header)
    cdef Py_ssize_t total = 0
    for _ in range(count):
        total += key.open(1, h, header_size, p, size, out)
    return total


def no_openings(PacketKey key not None, bytes header, bytes sealed, int count):
    """Do what ``openings`` does, without opening."""
    cdef Py_ssize_t total = 0
    cdef size_t size = len(sealed)
    for _ in range(count):
        total += size
    return total
