# cython: language_level=3, boundscheck=False, wraparound=False
"""Which upstream serves a request: the table of routes, compiled.

One graph holds everything: from three fixed nodes lead host names, host labels from the right,
and path segments; each node names the rule that ends there. The edges stand in one hash table
under (node, bytes), so a lookup compares slices of the request in place and allocates nothing.
It visits at most one node for each segment of the path and each host in the table that matches,
and stops at the first segment or label that the table does not know.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from spooky._core.pure.routes import Explanation, RouteConflict, Rule

cdef enum:
    ANY_HOST = 0
    HOSTS = 1
    WILDCARDS = 2


@cython.final
cdef class RouteTable:
    """An immutable index of rules; declaration order is irrelevant.

    Raises:
        RouteConflict: Two rules have the same host, path prefix and method.
    """

    def __cinit__(self, rules):
        self._rules = list(rules)
        self._targets = [rule.target for rule in self._rules]
        graph = _Graph()
        for index, rule in enumerate(self._rules):
            other = graph.add(index, rule)
            if other >= 0:
                raise RouteConflict(self._rules[other].name, rule.name)
        self._freeze(graph)

    def __dealloc__(self):
        PyMem_Free(self._nodes)
        PyMem_Free(self._edges)

    def __len__(self):
        return len(self._rules)

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

    def _freeze(self, graph):
        """Lay the graph out in C arrays."""
        cdef Py_ssize_t size = 2
        cdef Py_ssize_t index
        cdef uint64_t place
        cdef uint32_t parent, child
        cdef bytes data
        cdef bytearray text = bytearray()
        # Equal segments share their text: what many routes have in common stays in the cache.
        cdef dict offsets = {}
        while size < 2 * len(graph.edges):
            size *= 2
        self._nodes = <Node*>PyMem_Calloc(len(graph.nodes), sizeof(Node))
        self._edges = <Edge*>PyMem_Calloc(size, sizeof(Edge))
        if self._nodes == NULL or self._edges == NULL:
            raise MemoryError
        self._mask = size - 1
        for index, (rule, methods, paths) in enumerate(graph.nodes):
            self._nodes[index] = Node(rule, methods, paths)
        for (parent, data), child in graph.edges.items():
            hashed = _hash(parent, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            place = hashed & self._mask
            while self._edges[place].child != 0:
                place = (place + 1) & self._mask
            if data not in offsets:
                offsets[data] = len(text)
                text += data
            self._edges[place] = Edge(hashed, parent, child, offsets[data], len(data))
            self._longest = max(self._longest, len(data))
        self._text = bytes(text)
        self._has_wildcards = any(parent == WILDCARDS for parent, _ in graph.edges)

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
        cdef const char* text = PyBytes_AS_STRING(self._text)
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


class _Graph:
    """What a table is built from: nodes as [rule, methods, paths], edges by (node, bytes)."""

    def __init__(self):
        self.nodes = [[-1, 0, 0], [-1, 0, 0], [-1, 0, 0]]
        self.edges = {}

    def add(self, index, rule):
        """Add a rule; return the rule that already stands in its place, or -1."""
        node = self._root(rule)
        for segment in rule.segments:
            node = self._step(node, segment)
        if rule.method is not None:
            if self.nodes[node][1] == 0:
                self.nodes[node][1] = self._new_node()
            node = self._step(self.nodes[node][1], rule.method)
        other = self.nodes[node][0]
        self.nodes[node][0] = index
        return other

    def _root(self, rule):
        """Return the root of the paths of a rule's host."""
        if rule.host is None:
            return ANY_HOST
        if not rule.is_wildcard:
            return self._step(HOSTS, rule.host)
        node = WILDCARDS
        for label in reversed(rule.host.split(b".")[1:]):
            node = self._step(node, label)
        if self.nodes[node][2] == 0:
            self.nodes[node][2] = self._new_node()
        return self.nodes[node][2]

    def _step(self, node, data):
        child = self.edges.get((node, data))
        if child is None:
            child = self.edges[node, data] = self._new_node()
        return child

    def _new_node(self):
        self.nodes.append([-1, 0, 0])
        return len(self.nodes) - 1


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
