"""UDP in batches: what the kernel coalesced comes in, what it shall segment goes out.

Python's socket module sends, with one system call for a run of datagrams. It cannot receive many
at once: that is libc's ``recvmmsg``, called through cffi. Where there is none of it, datagrams are
received one by one.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
ControlMessage: TypeAlias = tuple[int, int, bytes]

PEERS_MAX: Final = 32_768
"""Peers remembered: more than the connections that a worker has by default."""

SEGMENTS_MAX: Final = 64
"""Most datagrams in one call: UDP_MAX_SEGMENTS of the first kernels with GSO."""

SEND_MAX_BYTES: Final = 65_487
"""Most bytes in one call: an IP packet less its headers, IPv6."""

MESSAGES: Final = 16
"""Buffers received at once."""

STRIDE: Final = 65_536
"""Size of a buffer: longer than any datagram; bytes."""

CONTROL: Final = 192
"""Size for control messages: for what we ask to be told, 112 bytes, and what the socket's owner
asked for."""

# What the socket module has no names for: linux/in.h, linux/in6.h, linux/udp.h.
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IP_PMTUDISC_PROBE: Final = 3
IP_RECVTOS: Final = 13
IPV6_MTU_DISCOVER: Final = 23
IPV6_PMTUDISC_PROBE: Final = 3
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

ECN_MASK: Final = 3

# Level and type of control messages.
GRO: Final = (socket.IPPROTO_UDP, UDP_GRO)
SEGMENT: Final = (socket.IPPROTO_UDP, UDP_SEGMENT)
TOS: Final = (socket.IPPROTO_IP, socket.IP_TOS)
TCLASS: Final = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
PKTINFO: Final = (socket.IPPROTO_IP, IP_PKTINFO)
PKTINFO6: Final = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)

INT: Final = struct.Struct("@i")
UINT16: Final = struct.Struct("@H")
CONTROL_HEADER: Final = struct.Struct("@Nii")  # struct cmsghdr
INET: Final = struct.Struct("!2xH4s8x")  # struct sockaddr_in after its family
INET6: Final = struct.Struct("!2xHI16s")  # struct sockaddr_in6 up to its scope
SCOPE: Final = struct.Struct("@I")
INET_PKTINFO: Final = struct.Struct("@i4s4s")
INET6_PKTINFO: Final = struct.Struct("@16sI")

GSO_REFUSED: Final = (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP)

CONTROLS_MAX: Final = 256
"""Control messages whose meaning is remembered: those of successive datagrams are mostly alike."""

NAME: Final = 28
"""Size of a struct sockaddr_in6, bytes."""

LIBC_DECLARATIONS: Final = """
    struct iovec { void *base; size_t length; };
    struct msghdr {
        void *name; unsigned int name_length;
        struct iovec *parts; size_t part_count;
        void *control; size_t control_length;
        int flags;
    };
    struct mmsghdr { struct msghdr header; unsigned int length; };
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
"""


def control_messages(control: bytes) -> Iterator[ControlMessage]:
    """Yield level, type and content of control messages; what is malformed ends them."""
    at = 0
    while len(control) - at >= CONTROL_HEADER.size:
        length, level, kind = CONTROL_HEADER.unpack_from(control, at)
        if not CONTROL_HEADER.size <= length <= len(control) - at:
            return
        yield level, kind, control[at + CONTROL_HEADER.size : at + length]
        at += socket.CMSG_SPACE(length - CONTROL_HEADER.size)


def interpret(messages: Iterable[ControlMessage]) -> tuple[int, int, bytes]:
    """Return what control messages say; see :func:`read_control`."""
    segment_size, ecn, local = 0, 0, b""
    for level, kind, content in messages:
        message = level, kind
        if message == GRO and len(content) >= INT.size:
            (segment_size,) = INT.unpack_from(content)
        elif message == TOS and content:
            ecn = content[0] & ECN_MASK
        elif message == TCLASS and len(content) >= INT.size:
            ecn = INT.unpack_from(content)[0] & ECN_MASK
        elif message == PKTINFO and len(content) >= INET_PKTINFO.size:
            _, _, local = INET_PKTINFO.unpack_from(content)
        elif message == PKTINFO6 and len(content) >= INET6_PKTINFO.size:
            local, _ = INET6_PKTINFO.unpack_from(content)
    return segment_size, ecn, local


@lru_cache(maxsize=CONTROLS_MAX)
def read_control(control: bytes) -> tuple[int, int, bytes]:
    """Read the control messages of a received datagram; what is malformed ends the reading."""
    return interpret(control_messages(control))


def decode(name: bytes, family: int) -> Address:
    """Return an address as Python has it."""
    if family == socket.AF_INET6:
        port, flow, host = INET6.unpack_from(name)
        (scope,) = SCOPE.unpack_from(name, INET6.size)
        return socket.inet_ntop(family, host), port, flow, scope
    port, host = INET.unpack(name)
    return socket.inet_ntop(family, host), port


def normal(address: Address, family: int) -> Address:
    """Return an address as the kernel gives it.

    Raises:
        ValueError: It is not numeric: to send never means to resolve.
    """
    if not 0 <= address[1] <= 0xFFFF:
        raise ValueError(f"no such port: {address[1]}")
    try:
        host = socket.inet_ntop(family, socket.inet_pton(family, address[0]))
    except OSError as error:
        raise ValueError(f"not a numeric address of the socket's family: {address[0]}") from error
    if family == socket.AF_INET6:
        return host, address[1], *(address[2:] or (0, 0))
    return host, address[1]


@dataclass(slots=True)
class Peer:
    """Somebody who sends or is sent to.

    Attributes:
        address: Theirs.
        local: The packed address they sent to last; empty if unknown.
    """

    address: Address
    local: bytes = b""


class BorrowedSocket(socket.socket):
    """A socket of a descriptor that stays its owner's."""

    def __del__(self) -> None:
        self.detach()


Received: TypeAlias = tuple[memoryview, tuple[int, int, bytes], int, bytes | Address]
"""A buffer, what its control messages say, its flags, and who sent it in either form."""


@cache
def open_libc() -> tuple[Any, Any]:
    """Return cffi's view of the memory and of libc.

    Raises:
        ImportError: There is no cffi.
        OSError: It finds no libc.
    """
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(LIBC_DECLARATIONS)
    return ffi, ffi.dlopen(None)


class Inbox:
    """Where ``recvmmsg`` receives a batch; see :func:`open_libc` for errors."""

    def __init__(self) -> None:
        self._ffi, self._libc = open_libc()
        self._payloads, payloads = self._memory(STRIDE)
        self._names, names = self._memory(NAME)
        self._controls, controls = self._memory(CONTROL)
        self._messages = self._ffi.new("struct mmsghdr[]", MESSAGES)
        self._parts = self._ffi.new("struct iovec[]", MESSAGES)
        # What cffi makes of a part of an array, it makes anew each time.
        self._each_message = list(self._messages)
        self._headers = [message.header for message in self._messages]
        for index, header in enumerate(self._headers):
            self._parts[index].base = payloads + index * STRIDE
            self._parts[index].length = STRIDE
            header.parts, header.part_count = self._parts + index, 1
            header.name = names + index * NAME
            header.control = controls + index * CONTROL

    def _memory(self, size: int) -> tuple[memoryview, Any]:
        """Return memory of this size for each message, for Python and for cffi."""
        memory = bytearray(MESSAGES * size)
        return memoryview(memory), self._ffi.from_buffer(memory)

    def receive(self, fd: int, count: int) -> list[Received]:
        """Receive at most so many buffers by one system call."""
        for header in self._headers[:count]:
            header.name_length = NAME
            header.control_length = CONTROL
        try:
            recvmmsg = self._libc.recvmmsg
        except AttributeError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        got = recvmmsg(fd, self._messages, count, socket.MSG_DONTWAIT, self._ffi.NULL)
        if got < 0:
            raise OSError(self._ffi.errno, os.strerror(self._ffi.errno))
        return [self._received(index) for index in range(got)]

    def _received(self, index: int) -> Received:
        header = self._headers[index]
        payload, control, name = index * STRIDE, index * CONTROL, index * NAME
        return (
            self._payloads[payload : payload + self._each_message[index].length],
            read_control(bytes(self._controls[control : control + header.control_length])),
            header.flags,
            bytes(self._names[name : name + header.name_length]),
        )


def open_inbox() -> Inbox | None:
    """Return an inbox, or ``None`` where there is no cffi or no libc."""
    try:
        return Inbox()
    except (ImportError, OSError):
        return None


class UdpSocket:
    """A UDP socket, with as many features as its kernel has."""

    def __init__(self, fd: int, family: int) -> None:
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError("a UDP socket is of the family AF_INET or AF_INET6")
        self._family = family
        self._socket = BorrowedSocket(family, socket.SOCK_DGRAM, 0, fd)
        self._inbox = open_inbox()
        self._young: dict[Address | bytes, Peer] = {}
        self._old: dict[Address | bytes, Peer] = {}
        self.coalesced = 0
        self.truncated = 0
        self.recvmmsg = self._inbox is not None
        wildcard = self._is_wildcard()
        self.gro = self._turn_on(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.gso = self._turn_on(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        self.ecn = self._turn_on(socket.IPPROTO_IP, IP_RECVTOS, 1)
        self.path_mtu_discovery = self._turn_on(
            socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
        )
        if family == socket.AF_INET6:
            # An IPv6 socket takes IPv4 too, under the options above.
            self.ecn = self._turn_on(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            self.path_mtu_discovery = self._turn_on(
                socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE
            )
            self.pktinfo = wildcard and self._turn_on(
                socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1
            )
        else:
            self.pktinfo = wildcard and self._turn_on(socket.IPPROTO_IP, IP_PKTINFO, 1)

    def release(self) -> None:
        """Use the descriptor no more; its owner may close it."""
        self._socket.detach()

    def _turn_on(self, level: int, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def _is_wildcard(self) -> bool:
        """Return whether the socket is bound to all addresses."""
        name = self._socket.getsockname()
        return isinstance(name, tuple) and name[0] in ("0.0.0.0", "::")

    # --- receiving ----------------------------------------------------------------------------

    def receive(self, max_datagrams: int) -> list[tuple[bytes, Address, int]]:
        """Receive what is there, without waiting."""
        batch: list[tuple[bytes, Address, int]] = []
        while len(batch) < max_datagrams:
            wanted = min(MESSAGES, max_datagrams - len(batch))
            try:
                buffers = self._fill(wanted)
            except BlockingIOError:
                break
            except OSError:
                if batch:
                    break
                raise
            for received in buffers:
                self._deliver(received, batch)
            if len(buffers) < wanted:
                break
        return batch

    def _fill(self, count: int) -> list[Received]:
        """Receive at most so many buffers."""
        if self._inbox is not None and self.recvmmsg:
            try:
                return self._inbox.receive(self._socket.fileno(), count)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
            self.recvmmsg = False
        buffers: list[Received] = []
        for _ in range(count):
            try:
                payload, control, flags, source = self._socket.recvmsg(
                    STRIDE, CONTROL, socket.MSG_DONTWAIT
                )
            except OSError:
                if buffers:
                    break
                raise
            buffers.append((memoryview(payload), interpret(control), flags, source))
        return buffers

    def _deliver(self, received: Received, batch: list[tuple[bytes, Address, int]]) -> None:
        """Append the datagrams of a received buffer to the batch."""
        payload, (size, ecn, local), flags, source = received
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            # Without its control messages, where one datagram ends and the next begins is unknown.
            self.truncated += 1
            return
        peer = self._peer(source)
        if local:
            peer.local = local
        if not 0 < size < len(payload):
            batch.append((bytes(payload), peer.address, ecn))
            return
        self.coalesced += 1
        for start in range(0, len(payload), size):
            batch.append((bytes(payload[start : start + size]), peer.address, ecn))

    # --- peers --------------------------------------------------------------------------------

    def asked(self, address: Address) -> bytes:
        """Return the packed address that a peer sent to last; empty if not told or forgotten."""
        peer = self._young.get(address) or self._old.get(address)
        return b"" if peer is None else peer.local

    def learn(self, address: Address, asked: bytes) -> None:
        """Remember the address that a peer sent to, as another socket was told."""
        if len(asked) != (16 if self._family == socket.AF_INET6 else 4):
            raise ValueError("not a packed address of the socket's family")
        self._peer(address).local = asked

    def forget_unused(self) -> None:
        """Forget the peers that were not heard of or sent to since the last call but one."""
        self._old, self._young = self._young, {}

    def _peer(self, key: bytes | Address) -> Peer:
        """Return a peer by its address in either form, remembered from now on."""
        peer = self._young.get(key)
        if peer is None:
            peer = self._old.get(key)
            if peer is None:
                address = self._address(key)
                peer = self._young.get(address) or self._old.get(address) or Peer(address)
            self._remember(key, peer)
        return peer

    def _address(self, key: bytes | Address) -> Address:
        if isinstance(key, bytes):
            return decode(key, self._family)
        return normal(key, self._family)

    def _remember(self, key: bytes | Address, peer: Peer) -> None:
        """Remember a peer; when there are too many, forget those unused for longest."""
        if len(self._young) >= 2 * PEERS_MAX:
            self._old, self._young = self._young, {}
        self._young[key] = self._young[peer.address] = peer

    # --- sending ------------------------------------------------------------------------------

    def send(
        self,
        payload: bytes | bytearray | memoryview,
        segment_size: int,
        address: Address | None,
        ecn: int,
    ) -> int:
        """Send a run of datagrams, in as few system calls as possible, without waiting."""
        if segment_size < 1 or not 0 <= ecn <= ECN_MASK:
            raise ValueError("segments have at least one byte, and ECN is of two bits")
        peer = None if address is None else self._peer(address)
        view = memoryview(payload).cast("B")
        at_once = segment_size
        if self.gso:
            at_once *= max(1, min(SEGMENTS_MAX, SEND_MAX_BYTES // segment_size))
        sent = 0
        doubtful = False
        while sent < len(view):
            part = view[sent : sent + at_once]
            try:
                self._send_once(part, segment_size, peer, ecn)
            except BlockingIOError:
                break
            except OSError as error:
                if len(part) <= segment_size or error.errno not in GSO_REFUSED:
                    raise
                at_once = segment_size
                doubtful = True
                continue
            sent += len(part)
            if doubtful:
                # A part alone passes: it is segmentation that does not work here.
                self.gso = doubtful = False
        return sent

    def _send_once(self, part: memoryview, segment_size: int, peer: Peer | None, ecn: int) -> None:
        """Send by one system call, as segments if it is longer than one."""
        control: list[ControlMessage] = []
        if peer is not None and len(peer.local) == 4:
            control.append((*PKTINFO, INET_PKTINFO.pack(0, peer.local, bytes(4))))
        elif peer is not None and peer.local:
            # A link-local source needs its interface, which is the scope of the destination.
            scope = peer.address[3] if len(peer.address) == 4 else 0
            control.append((*PKTINFO6, INET6_PKTINFO.pack(peer.local, scope)))
        if ecn:
            # Whether it will be an IPv4 or an IPv6 packet, the other's mark is ignored.
            control.append((*TOS, INT.pack(ecn)))
            if self._family == socket.AF_INET6:
                control.append((*TCLASS, INT.pack(ecn)))
        if len(part) > segment_size:
            control.append((*SEGMENT, UINT16.pack(segment_size)))
        address = () if peer is None else (peer.address,)
        self._socket.sendmsg([part], control, socket.MSG_DONTWAIT, *address)
