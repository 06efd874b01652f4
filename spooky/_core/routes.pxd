"""C declarations of the route table."""

from libc.stdint cimport int32_t, uint32_t, uint64_t


cdef struct Node:
    int32_t rule  # For every method; -1 for none.
    uint32_t methods  # The node that methods lead on from; 0 for none.
    uint32_t paths  # Of host labels: the root of the wildcard's paths; 0 for none.


cdef struct Edge:
    uint64_t hash
    uint32_t parent
    uint32_t child  # 0 marks an empty place.
    uint32_t offset
    uint32_t length


cdef struct Best:
    int32_t rule
    Py_ssize_t length


cdef class RouteTable:
    cdef list _rules
    cdef list _targets
    cdef Node* _nodes
    cdef Edge* _edges
    cdef uint32_t _node_count
    cdef uint32_t _node_room
    cdef uint64_t _mask
    cdef uint64_t _edge_count
    cdef bytearray _text
    cdef dict _offsets
    cdef Py_ssize_t _longest
    cdef bint _has_wildcards

    cpdef object lookup(self, bytes host, bytes path, bytes method)
    cdef uint32_t _root(self, rule) except 0xFFFFFFFF
    cdef uint32_t _step(self, uint32_t parent, bytes data) except 0
    cdef void _put(self, Edge edge) noexcept
    cdef uint32_t _new_node(self) except 0
    cdef int _grow_nodes(self) except -1
    cdef int _grow_edges(self) except -1
    cdef Best _search(self, bytes host, bytes path, bytes method, list matching) except *
    cdef int _descend(
        self, uint32_t node, bytes path, bytes method, Best* best, list matching
    ) except -1
    cdef uint32_t _find(self, uint32_t parent, const char* data, Py_ssize_t length) noexcept
