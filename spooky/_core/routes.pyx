# cython: language_level=3, boundscheck=False, wraparound=False
"""Which upstream serves a request: the table of routes, compiled.

One graph holds everything: from three fixed nodes lead host names, host labels from the right,
and path segments; each node names the rule that ends there. The edges stand in one hash table
under (node, bytes), so a lookup compares slices of the request in place and allocates nothing.
It visits at most one node for each segment of the path and each host in the table that matches,
and stops at the first segment or label that the table does not know.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from spooky._core.pure.routes import Explanation, RouteConflict, Rule

cdef enum:
    ANY_HOST = 0
    HOSTS = 1
    WILDCARDS = 2
    FIRST_NODE = 3
    # What a table begins with room for; powers of two.
    NODES_MIN = 8
    EDGES_MIN = 8


@cython.final
cdef class RouteTable:
    """An index of rules; declaration order is irrelevant.

    Arguments:
        rules: The first of them; others are added one by one, before the table is asked.

    Raises:
        RouteConflict: Two rules have the same host, path prefix and method.
    """

    def __cinit__(self, rules=()):
        self._rules = []
        self._targets = []
        self._offsets = {}
        self._text = bytearray()
        self._grow_nodes()
        self._grow_edges()
        self._node_count = FIRST_NODE
        for rule in rules:
            self.add(rule)

    def __dealloc__(self):
        PyMem_Free(self._nodes)
        PyMem_Free(self._edges)

    def __len__(self):
        return len(self._rules)

    def add(self, rule):
        """Add a rule.

        Raises:
            RouteConflict: One is there with the same host, path prefix and method.
        """
        cdef uint32_t node = self._root(rule)
        cdef uint32_t methods
        for segment in rule.segments:
            node = self._step(node, segment)
        if rule.method is not None:
            if self._nodes[node].methods == 0:
                methods = self._new_node()
                self._nodes[node].methods = methods
            node = self._step(self._nodes[node].methods, rule.method)
        if self._nodes[node].rule >= 0:
            raise RouteConflict(self._rules[self._nodes[node].rule].name, rule.name)
        self._nodes[node].rule = <int32_t>len(self._rules)
        self._rules.append(rule)
        self._targets.append(rule.target)

    cpdef object lookup(self, bytes host, bytes path, bytes method):
        """Return the target of the best rule, or ``None``.

        Arguments:
            host: Normalised: lowercase, no port, no trailing dot (``Request.host``).
            path: Canonical, without query (``Request.path``).
        """
        if host is None or path is None or method is None:
            raise TypeError("host, path and method must be bytes")
        cdef Best best = self._search(host, path, method, None)
        return None if best.rule < 0 else self._targets[best.rule]

    def explain(self, bytes host not None, bytes path not None, bytes method not None):
        """Return the choice with its reason; for people, not for the hot path."""
        matching = []
        self._search(host, path, method, matching)
        return Explanation.of([self._rules[index] for index in matching])

    cdef uint32_t _root(self, rule) except 0xFFFFFFFF:
        """Return the root of the paths of a rule's host."""
        cdef uint32_t node = WILDCARDS
        cdef uint32_t paths
        if rule.host is None:
            return ANY_HOST
        if not rule.is_wildcard:
            return self._step(HOSTS, rule.host)
        self._has_wildcards = True
        for label in reversed(rule.host.split(b".")[1:]):
            node = self._step(node, label)
        if self._nodes[node].paths == 0:
            paths = self._new_node()
            self._nodes[node].paths = paths
        return self._nodes[node].paths

    cdef uint32_t _step(self, uint32_t parent, bytes data) except 0:
        """Return the node that ``data`` leads to, made if it is not there."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
        cdef uint32_t child = self._find(parent, PyBytes_AS_STRING(data), length)
        if child != 0:
            return child
        if 2 * (self._edge_count + 1) > self._mask + 1:
            self._grow_edges()
        child = self._new_node()
        # Equal segments share their text: what many routes have in common stays in the cache.
        offset = self._offsets.get(data)
        if offset is None:
            offset = self._offsets[data] = len(self._text)
            self._text += data
        cdef uint64_t hashed = _hash(parent, PyBytes_AS_STRING(data), length)
        self._put(Edge(hashed, parent, child, offset, <uint32_t>length))
        self._edge_count += 1
        self._longest = max(self._longest, length)
        return child

    cdef void _put(self, Edge edge) noexcept:
        cdef uint64_t place = edge.hash & self._mask
        while self._edges[place].child != 0:
            place = (place + 1) & self._mask
        self._edges[place] = edge

    cdef uint32_t _new_node(self) except 0:
        if self._node_count == self._node_room:
            self._grow_nodes()
        self._nodes[self._node_count] = Node(-1, 0, 0)
        self._node_count += 1
        return self._node_count - 1

    cdef int _grow_nodes(self) except -1:
        cdef uint32_t room = max(2 * self._node_room, NODES_MIN)
        cdef Node* nodes = <Node*>PyMem_Realloc(self._nodes, room * sizeof(Node))
        if nodes == NULL:
            raise MemoryError
        for index in range(FIRST_NODE if self._node_room == 0 else 0):
            nodes[index] = Node(-1, 0, 0)
        self._nodes = nodes
        self._node_room = room
        return 0

    cdef int _grow_edges(self) except -1:
        """Make room for twice as many edges; the table is at most half full."""
        cdef Edge* before = self._edges
        cdef uint64_t room = self._mask + 1 if before != NULL else 0
        cdef uint64_t size = max(2 * room, <uint64_t>EDGES_MIN)
        cdef uint64_t place
        cdef Edge* edges = <Edge*>PyMem_Calloc(size, sizeof(Edge))
        if edges == NULL:
            raise MemoryError
        self._edges = edges
        self._mask = size - 1
        for place in range(room):
            if before[place].child != 0:
                self._put(before[place])
        PyMem_Free(before)
        return 0

    cdef Best _search(self, bytes host, bytes path, bytes method, list matching) except *:
        """Return the best rule, and add every one that matches to ``matching``, if given.

        The less specific hosts come first: of paths equally long, the last one found wins.
        """
        cdef const char* name = PyBytes_AS_STRING(host)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(host)
        cdef Py_ssize_t dot
        cdef uint32_t node
        cdef Best best = Best(-1, -1)
        self._descend(ANY_HOST, path, method, &best, matching)
        if self._has_wildcards:
            node = WILDCARDS
            while True:
                dot = end - 1
                while dot > 0 and name[dot] != c".":
                    dot -= 1
                if dot <= 0:
                    break
                node = self._find(node, name + dot + 1, end - dot - 1)
                if node == 0:
                    break
                end = dot
                if self._nodes[node].paths != 0:
                    self._descend(self._nodes[node].paths, path, method, &best, matching)
        node = self._find(HOSTS, name, PyBytes_GET_SIZE(host))
        if node != 0:
            self._descend(node, path, method, &best, matching)
        return best

    cdef int _descend(
        self, uint32_t node, bytes path, bytes method, Best* best, list matching
    ) except -1:
        """Follow the segments of a path from a root, noting the rules passed on the way."""
        cdef const char* text = PyBytes_AS_STRING(path)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(path)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t start
        cdef const char* slash
        cdef uint32_t child
        cdef int32_t rule
        while True:
            rule = self._nodes[node].rule
            if rule >= 0 and matching is not None:
                matching.append(rule)
            if self._nodes[node].methods != 0:
                child = self._find(
                    self._nodes[node].methods, PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)
                )
                if child != 0:
                    rule = self._nodes[child].rule
                    if matching is not None:
                        matching.append(rule)
            if rule >= 0 and at >= best.length:
                best[0] = Best(rule, at)
            if at == length or text[at] != c"/":
                return 0
            start = at + 1
            slash = <const char*>memchr(text + start, c"/", length - start)
            at = length if slash == NULL else slash - text
            node = self._find(node, text + start, at - start)
            if node == 0:
                return 0

    cdef uint32_t _find(self, uint32_t parent, const char* data, Py_ssize_t length) noexcept:
        """Return the node that ``data`` leads to, or 0."""
        if length > self._longest:
            return 0  # Nothing so long is in the table: do not hash what a peer made long.
        cdef uint64_t hashed = _hash(parent, data, length)
        cdef uint64_t place = hashed & self._mask
        cdef const char* text = PyByteArray_AS_STRING(self._text)
        cdef Edge* edge
        while True:
            edge = &self._edges[place]
            if edge.child == 0:
                return 0
            if (
                edge.hash == hashed
                and edge.parent == parent
                and edge.length == length
                and memcmp(text + edge.offset, data, length) == 0
            ):
                return edge.child
            place = (place + 1) & self._mask


cdef inline uint64_t _hash(uint32_t parent, const char* data, Py_ssize_t length) noexcept nogil:
    """Hash the key of an edge: eight bytes a step; only operators choose what is stored."""
    cdef uint64_t value = (<uint64_t>parent << 32 | <uint32_t>length) * 0x9E3779B97F4A7C15ULL
    cdef uint64_t word = 0
    cdef uint32_t low, high
    while length >= 8:
        memcpy(&word, data, 8)
        value = _scramble(value ^ word)
        data += 8
        length -= 8
    if length >= 4:
        memcpy(&low, data, 4)
        memcpy(&high, data + length - 4, 4)
        word = <uint64_t>low << 32 | high
    elif length > 0:
        word = (
            <uint64_t><unsigned char>data[0] << 16
            | <uint64_t><unsigned char>data[length >> 1] << 8
            | <unsigned char>data[length - 1]
        )
    else:
        word = 0
    return _scramble(value ^ word)


cdef inline uint64_t _scramble(uint64_t value) noexcept nogil:
    value = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93ULL
    return value ^ (value >> 32)
