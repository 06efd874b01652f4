# cython: language_level=3, wraparound=False
"""UDP in batches; the rules are those of the twin, :mod:`spooky._core.pure.udp`.

The system calls never wait, so the interpreter stays locked during them.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINVAL, EIO, ENOSYS, EOPNOTSUPP, errno
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

import os

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    """
    enum:
        AF_INET
        AF_INET6
        INET6_ADDRSTRLEN
        IPPROTO_IP
        IPPROTO_IPV6
        IPPROTO_UDP
        IP_MTU_DISCOVER
        IP_PKTINFO
        IP_PMTUDISC_PROBE
        IP_RECVTOS
        IP_TOS
        IPV6_MTU_DISCOVER
        IPV6_PKTINFO
        IPV6_PMTUDISC_PROBE
        IPV6_RECVPKTINFO
        IPV6_RECVTCLASS
        IPV6_TCLASS
        MSG_CTRUNC
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_TRUNC
        UDP_GRO
        UDP_SEGMENT
    ctypedef unsigned int socklen_t
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr:
        pass
    struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    size_t CMSG_ALIGN(size_t length) nogil
    uint16_t htons(uint16_t value) nogil
    uint16_t ntohs(uint16_t value) nogil
    uint32_t htonl(uint32_t value) nogil
    uint32_t ntohl(uint32_t value) nogil
    const char* inet_ntop(int family, const void* source, char* text, socklen_t size) nogil
    int inet_pton(int family, const char* text, void* result) nogil
    int getsockname(int fd, sockaddr* address, socklen_t* length) nogil
    int setsockopt(int fd, int level, int option, const void* value, socklen_t length) nogil
    ssize_t recvmsg(int fd, msghdr* message, int flags) nogil
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, void* timeout) nogil
    ssize_t sendmsg(int fd, const msghdr* message, int flags) nogil

cdef enum:
    PEERS = 32768  # remembered; more than the connections that a worker has by default
    SEGMENTS = 64  # most in one call: UDP_MAX_SEGMENTS of the first kernels with GSO
    SEND_MAX = 65487  # most bytes in one call: an IP packet less its headers, IPv6
    MESSAGES = 16  # received by one system call
    STRIDE = 65536  # size of a buffer: longer than any datagram
    CONTROL = 192  # bytes for what we ask to be told, 112, and what the socket's owner asked for

PEERS_MAX = PEERS
SEGMENTS_MAX = SEGMENTS
SEND_MAX_BYTES = SEND_MAX

cdef struct Inbox:
    # Where a batch is received.
    mmsghdr[MESSAGES] messages
    iovec[MESSAGES] parts
    sockaddr_in6[MESSAGES] names
    unsigned char[MESSAGES][CONTROL] controls
    unsigned char[MESSAGES][STRIDE] payloads

cdef struct Control:
    # What the control messages of a datagram say.
    int segment_size
    int ecn
    size_t local_length
    unsigned char[16] local


cdef void read_messages(const unsigned char* data, size_t length, Control* control) noexcept nogil:
    """Read control messages; what is malformed ends the reading."""
    cdef cmsghdr header
    cdef const unsigned char* content
    cdef size_t step, size
    memset(control, 0, sizeof(Control))
    while length >= sizeof(cmsghdr):
        memcpy(&header, data, sizeof(cmsghdr))
        if header.cmsg_len < sizeof(cmsghdr) or header.cmsg_len > length:
            return
        content = data + sizeof(cmsghdr)
        size = header.cmsg_len - sizeof(cmsghdr)
        if header.cmsg_level == IPPROTO_UDP:
            if header.cmsg_type == UDP_GRO and size >= sizeof(int):
                memcpy(&control.segment_size, content, sizeof(int))
        elif header.cmsg_level == IPPROTO_IP:
            if header.cmsg_type == IP_TOS and size >= 1:
                control.ecn = content[0] & 3
            elif header.cmsg_type == IP_PKTINFO and size >= 12:
                control.local_length = 4  # after interface and routing address
                memcpy(control.local, content + 8, 4)
        elif header.cmsg_level == IPPROTO_IPV6:
            if header.cmsg_type == IPV6_TCLASS and size >= sizeof(int):
                memcpy(&control.ecn, content, sizeof(int))
                control.ecn &= 3
            elif header.cmsg_type == IPV6_PKTINFO and size >= 20:
                control.local_length = 16
                memcpy(control.local, content, 16)
        step = CMSG_ALIGN(header.cmsg_len)
        if step > length:
            return
        data += step
        length -= step


cdef size_t write_message(
    unsigned char* data, int level, int kind, const void* content, size_t size
) noexcept nogil:
    """Write a control message and return the bytes it takes."""
    cdef cmsghdr header
    header.cmsg_len = sizeof(cmsghdr) + size
    header.cmsg_level = level
    header.cmsg_type = kind
    memcpy(data, &header, sizeof(cmsghdr))
    memcpy(data + sizeof(cmsghdr), content, size)
    return CMSG_ALIGN(header.cmsg_len)


def read_control(bytes control not None):
    """Read the control messages of a received datagram; what is malformed ends the reading."""
    cdef Control found
    read_messages(
        <const unsigned char*>PyBytes_AS_STRING(control), PyBytes_GET_SIZE(control), &found
    )
    return found.segment_size, found.ecn, found.local[:found.local_length]


cdef tuple decode(const sockaddr_in6* name):
    """Return an address as Python has it."""
    cdef char[INET6_ADDRSTRLEN] text
    cdef const sockaddr_in* name4 = <const sockaddr_in*>name
    if name.sin6_family == AF_INET6:
        inet_ntop(AF_INET6, &name.sin6_addr, text, INET6_ADDRSTRLEN)
        return (
            (<bytes>text).decode("ascii"), <int>ntohs(name.sin6_port),
            ntohl(name.sin6_flowinfo), name.sin6_scope_id,
        )  # fmt: skip
    inet_ntop(AF_INET, &name4.sin_addr, text, INET6_ADDRSTRLEN)
    return (<bytes>text).decode("ascii"), <int>ntohs(name4.sin_port)


cdef bytes encode(object address, int family):
    """Return an address as the kernel has it."""
    cdef sockaddr_in6 name
    cdef sockaddr_in* name4 = <sockaddr_in*>&name
    cdef bytes host = address[0].encode()
    cdef int numeric
    memset(&name, 0, sizeof(name))
    if not 0 <= address[1] <= 0xFFFF:
        raise ValueError(f"no such port: {address[1]}")
    name.sin6_family = family
    name.sin6_port = htons(address[1])
    if family == AF_INET6:
        numeric = inet_pton(AF_INET6, host, &name.sin6_addr)
        if len(address) == 4:
            name.sin6_flowinfo = htonl(address[2])
            name.sin6_scope_id = address[3]
    else:
        numeric = inet_pton(AF_INET, host, &name4.sin_addr)
    if numeric != 1:
        raise ValueError(f"not a numeric address of the socket's family: {address[0]}")
    return (<char*>&name)[: sizeof(sockaddr_in6) if family == AF_INET6 else sizeof(sockaddr_in)]


@cython.final
cdef class Peer:
    """Somebody who sends or is sent to."""


cdef Peer make_peer(bytes name, tuple address):
    cdef Peer peer = Peer.__new__(Peer)
    peer.sockaddr = name
    peer.address = address
    peer.local = b""
    return peer


@cython.final
cdef class UdpSocket:
    """A UDP socket, with as many features as its kernel has."""

    def __init__(self, int fd, int family):
        if family != AF_INET and family != AF_INET6:
            raise ValueError("a UDP socket is of the family AF_INET or AF_INET6")
        self._fd = fd
        self._family = family
        self._young = {}
        self._old = {}
        self.recvmmsg = True
        wildcard = self._is_wildcard()
        self.gro = self._turn_on(IPPROTO_UDP, UDP_GRO, 1)
        self.gso = self._turn_on(IPPROTO_UDP, UDP_SEGMENT, 0)
        self.ecn = self._turn_on(IPPROTO_IP, IP_RECVTOS, 1)
        self.path_mtu_discovery = self._turn_on(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        if family == AF_INET6:
            # An IPv6 socket takes IPv4 too, under the options above.
            self.ecn = self._turn_on(IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
            self.path_mtu_discovery = self._turn_on(
                IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE
            )
            self.pktinfo = wildcard and self._turn_on(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            self.pktinfo = wildcard and self._turn_on(IPPROTO_IP, IP_PKTINFO, 1)

    def __dealloc__(self):
        free(self._inbox)

    def release(self):
        """Use the descriptor no more; its owner may close it."""
        self._fd = -1

    cdef bint _turn_on(self, int level, int option, int value) noexcept:
        return setsockopt(self._fd, level, option, &value, sizeof(value)) == 0

    cdef bint _is_wildcard(self) except -1:
        """Return whether the socket is bound to all addresses."""
        cdef sockaddr_in6 name
        cdef sockaddr_in* name4 = <sockaddr_in*>&name
        cdef socklen_t length = sizeof(name)
        cdef char[16] unspecified
        memset(&name, 0, sizeof(name))
        memset(unspecified, 0, sizeof(unspecified))
        if getsockname(self._fd, <sockaddr*>&name, &length) != 0:
            raise os_error()
        if self._family == AF_INET6:
            return memcmp(&name.sin6_addr, unspecified, 16) == 0
        return memcmp(&name4.sin_addr, unspecified, 4) == 0

    # --- receiving ----------------------------------------------------------------------------

    def receive(self, Py_ssize_t max_datagrams):
        """Receive what is there, without waiting."""
        cdef list batch = []
        cdef int wanted, got, index
        if self._inbox == NULL:
            self._open_inbox()
        while len(batch) < max_datagrams:
            wanted = <int>min(MESSAGES, max_datagrams - len(batch))
            got = self._fill(wanted)
            if got < 0:
                if errno == EAGAIN or batch:
                    break
                raise os_error()
            for index in range(got):
                self._deliver(index, batch)
            if got < wanted:
                break
        return batch

    cdef int _open_inbox(self) except -1:
        # Nothing is written where payloads go: pages that nothing is received into take no memory,
        # and a socket of a short life costs no MiB of zeros.
        cdef Inbox* inbox = <Inbox*>malloc(sizeof(Inbox))
        cdef int index
        if inbox == NULL:
            raise MemoryError
        memset(inbox, 0, <char*>inbox.payloads - <char*>inbox)
        for index in range(MESSAGES):
            inbox.parts[index].iov_base = inbox.payloads[index]
            inbox.parts[index].iov_len = STRIDE
            inbox.messages[index].msg_hdr.msg_iov = &inbox.parts[index]
            inbox.messages[index].msg_hdr.msg_iovlen = 1
            inbox.messages[index].msg_hdr.msg_name = &inbox.names[index]
            inbox.messages[index].msg_hdr.msg_control = inbox.controls[index]
        self._inbox = inbox
        return 0

    cdef int _fill(self, int count) noexcept:
        """Receive at most so many buffers; return how many, or -1 and ``errno``."""
        cdef mmsghdr* messages = self._inbox.messages
        cdef int index
        cdef ssize_t size
        for index in range(count):
            messages[index].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
            messages[index].msg_hdr.msg_controllen = CONTROL
        if self.recvmmsg:
            index = recvmmsg(self._fd, messages, count, MSG_DONTWAIT, NULL)
            if index >= 0 or errno != ENOSYS:
                return index
            self.recvmmsg = False
        for index in range(count):
            size = recvmsg(self._fd, &messages[index].msg_hdr, MSG_DONTWAIT)
            if size < 0:
                return index if index else -1
            messages[index].msg_len = <unsigned int>size
        return count

    cdef int _deliver(self, int index, list batch) except -1:
        """Append the datagrams of a received buffer to the batch."""
        cdef mmsghdr* message = &self._inbox.messages[index]
        cdef const char* payload = <const char*>self._inbox.payloads[index]
        cdef Py_ssize_t length = message.msg_len
        cdef Py_ssize_t start, size
        cdef Control control
        cdef Peer peer
        if message.msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC):
            # Without its control messages, where one datagram ends and the next begins is unknown.
            self.truncated += 1
            return 0
        read_messages(self._inbox.controls[index], message.msg_hdr.msg_controllen, &control)
        peer = self._source(index)
        if control.local_length and (
            control.local_length != <size_t>PyBytes_GET_SIZE(peer.local)
            or memcmp(control.local, PyBytes_AS_STRING(peer.local), control.local_length) != 0
        ):
            peer.local = control.local[: control.local_length]
        size = control.segment_size
        if size <= 0 or size >= length:
            batch.append((PyBytes_FromStringAndSize(payload, length), peer.address, control.ecn))
            return 0
        self.coalesced += 1
        for start in range(0, length, size):
            batch.append((
                PyBytes_FromStringAndSize(payload + start, min(size, length - start)),
                peer.address,
                control.ecn,
            ))  # fmt: skip
        return 0

    cdef Peer _source(self, int index):
        """Return who sent a received buffer."""
        cdef const sockaddr_in6* name = &self._inbox.names[index]
        cdef Py_ssize_t length = self._inbox.messages[index].msg_hdr.msg_namelen
        cdef Peer peer = self._last
        cdef bytes key
        if (
            peer is not None
            and length == PyBytes_GET_SIZE(peer.sockaddr)
            and memcmp(name, PyBytes_AS_STRING(peer.sockaddr), length) == 0
        ):
            return peer
        key = PyBytes_FromStringAndSize(<const char*>name, length)
        peer = self._known(key)
        if peer is None:
            peer = make_peer(key, decode(name))
            self._remember(peer)
        self._last = peer
        return peer

    # --- peers --------------------------------------------------------------------------------

    def asked(self, object address):
        """Return the packed address that a peer sent to last; empty if not told or forgotten."""
        cdef Peer peer = self._known(address)
        return b"" if peer is None else peer.local

    def learn(self, object address, bytes asked not None):
        """Remember the address that a peer sent to, as another socket was told."""
        if len(asked) != (16 if self._family == AF_INET6 else 4):
            raise ValueError("not a packed address of the socket's family")
        self._destination(address).local = asked

    def forget_unused(self):
        """Forget the peers that were not heard of or sent to since the last call but one."""
        self._old = self._young
        self._young = {}
        # It would not be looked up, so not be remembered.
        self._last = None

    cdef Peer _destination(self, object address):
        """Return whom to send to."""
        cdef Peer peer = self._known(address)
        cdef bytes name
        if peer is None:
            name = encode(address, self._family)
            peer = self._known(name)
            if peer is None:
                peer = make_peer(name, decode(<const sockaddr_in6*>PyBytes_AS_STRING(name)))
            self._remember(peer)
            # It may be written in another way than the kernel's.
            self._young[address] = peer
        return peer

    cdef Peer _known(self, object key):
        """Return a peer by its address in either form, or ``None`` if it is not remembered."""
        cdef Peer peer = self._young.get(key)
        if peer is None:
            peer = self._old.get(key)
            if peer is not None:
                self._remember(peer)
        return peer

    cdef int _remember(self, Peer peer) except -1:
        """Remember a peer; when there are too many, forget those unused for longest."""
        if len(self._young) >= 2 * PEERS:
            self._old = self._young
            self._young = {}
        self._young[peer.sockaddr] = peer
        self._young[peer.address] = peer
        return 0

    # --- sending ------------------------------------------------------------------------------

    def send(self, object payload, Py_ssize_t segment_size, object address, int ecn):
        """Send a run of datagrams, in as few system calls as possible, without waiting."""
        cdef Py_buffer view
        cdef Peer peer = None
        if segment_size < 1 or not 0 <= ecn <= 3:
            raise ValueError("segments have at least one byte, and ECN is of two bits")
        if address is not None:
            peer = self._destination(address)
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            return self._send_run(<char*>view.buf, view.len, segment_size, peer, ecn)
        finally:
            PyBuffer_Release(&view)

    cdef Py_ssize_t _send_run(
        self, char* data, Py_ssize_t length, Py_ssize_t segment_size, Peer peer, int ecn
    ) except -1:
        """Send a run; return how many bytes the kernel took."""
        cdef Py_ssize_t sent = 0
        cdef Py_ssize_t at_once = segment_size
        cdef Py_ssize_t size
        cdef bint doubtful = False
        if self.gso:
            at_once = max(1, min(SEGMENTS, SEND_MAX // segment_size)) * segment_size
        while sent < length:
            size = min(at_once, length - sent)
            if self._send_once(data + sent, size, segment_size, peer, ecn) >= 0:
                sent += size
                if doubtful:
                    # A part alone passes: it is segmentation that does not work here.
                    self.gso = doubtful = False
            elif errno == EAGAIN:
                break
            elif size > segment_size and errno in (EINVAL, EIO, EOPNOTSUPP):
                at_once = segment_size
                doubtful = True
            else:
                raise os_error()
        return sent

    cdef Py_ssize_t _send_once(
        self, char* data, Py_ssize_t length, Py_ssize_t segment_size, Peer peer, int ecn
    ) noexcept:
        """Send by one system call, as segments if it is longer than one."""
        cdef unsigned char[CONTROL] control
        cdef unsigned char[20] source
        cdef uint16_t segment = <uint16_t>segment_size
        cdef size_t used = 0
        cdef Py_ssize_t local_length = 0
        cdef msghdr message
        cdef iovec part
        memset(&message, 0, sizeof(message))
        part.iov_base = data
        part.iov_len = length
        message.msg_iov = &part
        message.msg_iovlen = 1
        if peer is not None:
            message.msg_name = PyBytes_AS_STRING(peer.sockaddr)
            message.msg_namelen = <socklen_t>PyBytes_GET_SIZE(peer.sockaddr)
            local_length = PyBytes_GET_SIZE(peer.local)
        if local_length:
            memset(source, 0, sizeof(source))
            if local_length == 4:
                memcpy(source + 4, PyBytes_AS_STRING(peer.local), 4)
                used = write_message(control, IPPROTO_IP, IP_PKTINFO, source, 12)
            else:
                # A link-local source needs its interface, which is the scope of the destination.
                memcpy(source, PyBytes_AS_STRING(peer.local), 16)
                memcpy(source + 16, &(<sockaddr_in6*>message.msg_name).sin6_scope_id, 4)
                used = write_message(control, IPPROTO_IPV6, IPV6_PKTINFO, source, 20)
        if ecn:
            # Whether it will be an IPv4 or an IPv6 packet, the other's mark is ignored.
            used += write_message(control + used, IPPROTO_IP, IP_TOS, &ecn, sizeof(ecn))
            if self._family == AF_INET6:
                used += write_message(control + used, IPPROTO_IPV6, IPV6_TCLASS, &ecn, sizeof(ecn))
        if length > segment_size:
            used += write_message(
                control + used, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)
            )
        if used:
            message.msg_control = control
            message.msg_controllen = used
        return sendmsg(self._fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)


cdef object os_error():
    """Return what ``errno`` says as an exception."""
    cdef int number = errno
    return OSError(number, os.strerror(number))
