"""The sockets of a listener, made and bound before any worker sees them."""

import ctypes
import errno
import logging
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from spooky.config.performance import Performance
from spooky.config.schema import Listener
from spooky.edge.tcp import TCP_BACKLOG
from spooky.protocol.quic.steering import steering_program

logger = logging.getLogger(__name__)

FREE_PORT_TRIES: Final = 20
"""How often a free TCP port is tried for UDP too, when the port is left open."""

# A socket option that Python's socket module has no name for: asm-generic/socket.h.
SO_ATTACH_REUSEPORT_CBPF: Final = 51

# struct sock_filter and struct sock_fprog of linux/filter.h.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("HP")


class BindError(Exception):
    """A listener's address cannot be bound; says which, and why."""


@dataclass(slots=True)
class ListenerSockets:
    """What a listener listens on.

    Attributes:
        udp: Bound, non-blocking; one for each worker slot, in order. The kernel knows a slot by
            this order, so none is closed while the others live. Only one, shared by all workers,
            where the kernel does not steer: what it gave to a slot without a worker would be lost.
        tcp: Bound, non-blocking; shared by all workers.
        steered: Whether the kernel gives each datagram to its slot.
        unread: Slots whose workers do not serve this listener: they were leaving when it began.
    """

    udp: list[socket.socket]
    tcp: socket.socket
    steered: bool = False
    unread: set[int] = field(default_factory=set)

    @property
    def address(self) -> tuple[str, int]:
        """The address and the port that all are bound to."""
        host, port = self.tcp.getsockname()[:2]
        return str(host), int(port)

    def udp_of(self, slot: int) -> socket.socket:
        """Return the UDP socket that a slot's worker reads."""
        return self.udp[slot if self.steered else 0]

    def grow(self, slots: int, performance: Performance) -> None:
        """Have sockets for so many slots; those of slots without a worker get nothing.

        Raises:
            BindError: The address cannot be bound any more.
        """
        host, port = self.address
        family = self.tcp.family
        while self.steered and len(self.udp) < slots:
            self.udp.append(_bind(socket.SOCK_DGRAM, family, host, port, shared=True))
            _use_buffers(self.udp[-1], performance)

    def steer(self, table: bytes) -> bool:
        """Have the kernel give each datagram to the slot that a table names.

        Returns:
            Whether it does; if not, workers share a socket, and hand over.
        """
        instructions = b"".join(_INSTRUCTION.pack(*one) for one in steering_program(table))
        memory = ctypes.create_string_buffer(instructions)
        program = _PROGRAM.pack(len(instructions) // _INSTRUCTION.size, ctypes.addressof(memory))
        try:
            self.udp[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
        except OSError as error:
            logger.warning(
                "the kernel does not steer datagrams by connection ID (%s); workers hand them over",
                error.strerror,
            )
            return False
        return True

    def use_buffers(self, performance: Performance) -> None:
        """Ask the kernel for buffers of a size; a bound socket's may be changed at any time."""
        for one in self.udp:
            _use_buffers(one, performance)

    def close(self) -> None:
        """Close all; idempotent."""
        for one in self.udp:
            one.close()
        self.tcp.close()


def bind_listener(
    listener: Listener, performance: Performance, slots: int = 1, table: bytes = b""
) -> ListenerSockets:
    """Bind the UDP sockets and the TCP socket of a listener, on the same port.

    Until :func:`listen`, clients that connect are refused, and Linux may bind another program's
    socket beside ours.

    Arguments:
        slots: How many worker slots there are.
        table: The slot for each first byte of a connection ID; empty for one socket that shares its
            port with no other.

    Raises:
        BindError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    tries = 1 if listener.port else FREE_PORT_TRIES
    while True:
        tries -= 1
        # TCP first: it shares its port with no other program, so that two of us cannot meet there.
        tcp = _bind(socket.SOCK_STREAM, family, listener.address, listener.port)
        port = listener.port or tcp.getsockname()[1]
        try:
            udp = _bind(socket.SOCK_DGRAM, family, listener.address, port, shared=bool(table))
        except BindError:
            tcp.close()
            if tries > 0:
                continue
            raise
        sockets = ListenerSockets([udp], tcp)
        sockets.use_buffers(performance)
        # The program comes first: it keeps clients from the sockets of slots without a worker.
        if table and sockets.steer(table):
            sockets.steered = True
            try:
                sockets.grow(slots, performance)
            except BindError:
                sockets.close()
                raise
        return sockets


def listen(sockets: ListenerSockets) -> None:
    """Have a listener's TCP socket queue connections, just before somebody accepts them.

    Raises:
        BindError: Another program listens there since it was bound.
    """
    host, port = sockets.address
    try:
        sockets.tcp.listen(TCP_BACKLOG)
    except OSError as error:
        raise bind_error(host, port, "TCP", error) from error


def _use_buffers(udp: socket.socket, performance: Performance) -> None:
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, performance.udp_recv_buffer_bytes)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, performance.udp_send_buffer_bytes)


def _bind(
    kind: socket.SocketKind, family: int, address: str, port: int, *, shared: bool = False
) -> socket.socket:
    transport = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `::` means all addresses, IPv4 too, as the configuration reference says.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise bind_error(address, port, transport, error) from error
    return made


def bind_error(address: str, port: int, what: str, error: OSError) -> BindError:
    """Return the error that says why an address cannot be bound, and what to do."""
    return BindError(f"cannot listen on {address} port {port} ({what}): {_remedy(error, port)}")


def _remedy(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it, or choose another port"
    if error.errno == errno.EACCES:
        return f"not permitted; port {port} needs CAP_NET_BIND_SERVICE or root"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return str(error.strerror)
