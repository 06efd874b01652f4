"""C declarations of the UDP kernel."""


cdef class Peer:
    cdef bytes sockaddr  # as the kernel has it
    cdef tuple address  # as Python has it
    cdef bytes local  # the packed address it sent to last; empty if unknown


cdef struct Inbox


cdef class UdpSocket:
    cdef public bint gro
    cdef public bint gso
    cdef public bint ecn
    cdef public bint pktinfo
    cdef public bint path_mtu_discovery
    cdef public bint recvmmsg
    cdef readonly Py_ssize_t coalesced
    cdef readonly Py_ssize_t truncated
    cdef int _fd
    cdef int _family
    cdef Inbox* _inbox
    cdef Peer _last
    cdef dict _young
    cdef dict _old

    cdef bint _turn_on(self, int level, int option, int value) noexcept
    cdef bint _is_wildcard(self) except -1
    cdef int _open_inbox(self) except -1
    cdef int _fill(self, int count) noexcept
    cdef int _deliver(self, int index, list batch) except -1
    cdef Peer _source(self, int index)
    cdef Peer _destination(self, object address)
    cdef Peer _known(self, object key)
    cdef int _remember(self, Peer peer) except -1
    cdef Py_ssize_t _send_run(
        self, char* data, Py_ssize_t length, Py_ssize_t segment_size, Peer peer, int ecn
    ) except -1
    cdef Py_ssize_t _send_once(
        self, char* data, Py_ssize_t length, Py_ssize_t segment_size, Peer peer, int ecn
    ) noexcept
