"""The sockets of a listener, made and bound before any worker sees them."""

import contextlib
import ctypes
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spooky.config.networks import overlap, unmapped
from spooky.config.performance import Performance
from spooky.config.schema import Listener
from spooky.edge.listener_numbers import ListenerIdentity
from spooky.edge.tcp import TCP_BACKLOG
from spooky.edge.turning_away import turn_away
from spooky.protocol.bpf import packed
from spooky.protocol.quic.steering import steering_program

logger = logging.getLogger(__name__)

FREE_PORT_TRIES: Final = 20
"""How often a free TCP port is tried for UDP too, when the port is left open."""

# A socket option that Python's socket module has no name for: asm-generic/socket.h.
SO_ATTACH_REUSEPORT_CBPF: Final = 51

# struct sock_fprog of linux/filter.h.
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
        unbound: Binds ``udp``, if that waits for :func:`listen`.
    """

    udp: list[socket.socket]
    tcp: socket.socket
    steered: bool = False
    unread: set[int] = field(default_factory=set)
    unbound: Callable[[], None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The address and the port that all are bound to."""
        # Asked for while draining as well, when nobody is accepted any more.
        bound = self.tcp if self.tcp.fileno() >= 0 else self.udp[0]
        host, port = bound.getsockname()[:2]
        return str(host), int(port)

    def udp_of(self, slot: int) -> socket.socket:
        """Return the UDP socket that a slot's worker reads."""
        return self.udp[slot if self.steered else 0]

    def grow(self, slots: int, performance: Performance) -> None:
        """Have sockets for so many slots; those of slots without a worker get nothing.

        Raises:
            BindError: The address cannot be bound any more.
        """
        while self.steered and len(self.udp) < slots:
            self.udp.append(_made(socket.SOCK_DGRAM, self.tcp.family, shared=True))
            _use_buffers(self.udp[-1], performance)
            if self.unbound is None:
                self._bind_udp(self.udp[-1])

    def bind_late(self, table: bytes) -> None:
        """Bind the UDP sockets in :func:`listen`, and then have the kernel steer."""

        def bind() -> None:
            first, *others = self.udp
            self._bind_udp(first)
            if not table:
                share_port(first, False)
            if self.steered and not self.steer(table):
                raise BindError(f"the kernel steers no datagrams on port {self.address[1]}")
            for one in others:
                self._bind_udp(one)

        self.unbound = bind

    def _bind_udp(self, udp: socket.socket) -> None:
        _bind(udp, *self.address, "UDP")

    @property
    def is_wildcard(self) -> bool:
        """Whether they are bound to all addresses, and so get what more specific ones leave."""
        return ipaddress.ip_address(self.address[0]).is_unspecified

    def overlaps(self, address: str, port: int) -> bool:
        """Return whether some address is an address of both, on the same port."""
        # With their zones: a link-local address is another in each (RFC 4007 section 6).
        ours, wanted = map(ipaddress.ip_address, (self.address[0], address))
        return self.address[1] == port and overlap(unmapped(ours), unmapped(wanted))

    def steer(self, table: bytes) -> bool:
        """Have the kernel give each datagram to the slot that a table names.

        Returns:
            Whether it does; if not, workers share a socket, and hand over.
        """
        instructions = steering_program(table)
        memory = ctypes.create_string_buffer(packed(instructions))
        program = _PROGRAM.pack(len(instructions), ctypes.addressof(memory))
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

    def share_port(self, shared: bool) -> None:
        """Let other sockets of this user that overlap have the port too, or not."""
        for one in (self.tcp, *self.udp):
            share_port(one, shared)

    def turn_away(self) -> bool:
        """Have the system give the TCP socket no new clients, in whatever processes have it.

        Returns:
            Whether it gives it none; if not, only :meth:`refuse` ends that.
        """
        return turn_away(self.tcp)

    def refuse(self) -> None:
        """Have the system end the TCP socket at once, in whatever processes have it.

        It resets connections that wait to be accepted.
        """
        if self.tcp.fileno() >= 0:
            with contextlib.suppress(OSError):
                # Closed alone, it would listen until the last worker has closed it too.
                self.tcp.shutdown(socket.SHUT_RDWR)
            self.tcp.close()

    def close(self) -> None:
        """Close all; idempotent."""
        for one in self.udp:
            one.close()
        self.tcp.close()


def is_same_place(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Return whether two addresses, each with a port, are the same however they are written."""
    return one[1] == other[1] and ipaddress.ip_address(one[0]) == ipaddress.ip_address(other[0])


def known_as(
    wanted: Iterable[ListenerIdentity],
    in_force: Mapping[ListenerIdentity, int],
    sockets: Mapping[int, ListenerSockets],
) -> dict[ListenerIdentity, int]:
    """Return the numbers in force, under another identity if that names the same place.

    So a listener is kept whose free port is written down.
    """
    wanted, numbers = list(wanted), dict(in_force)
    for identity in wanted:
        if identity not in numbers:
            for known in numbers.keys() - set(wanted):
                same_place = sockets[numbers[known]].address == identity[:2]
                if same_place and known.protocol == identity.protocol:
                    numbers[identity] = numbers.pop(known)
                    break
    return numbers


def numbers_at(
    wanted: Iterable[ListenerIdentity], there: Mapping[int, ListenerSockets]
) -> dict[ListenerIdentity, int]:
    """Return the numbers of those sockets, of these, that are bound where a listener is wanted."""
    return {
        identity: number
        for identity in wanted
        for number, sockets in there.items()
        if is_same_place(sockets.address, (identity.address, identity.port))
    }


def bind_listener(
    listener: Listener,
    performance: Performance,
    slots: int = 1,
    table: bytes = b"",
    *,
    beside: "ListenerSockets | None" = None,
    after: bool = False,
) -> ListenerSockets:
    """Bind the UDP sockets and the TCP socket of a listener, on the same port.

    Until :func:`listen`, clients that connect are refused, and Linux may bind another program's
    socket beside ours.

    Arguments:
        slots: How many worker slots there are.
        table: The slot for each first byte of a connection ID; empty for one socket that shares its
            port with no other.
        beside: What listens there now and ends with the change, if the addresses overlap. It shares
            its ports from now on. Where the new address is the more specific one it gets everything
            that is sent there, so its UDP sockets are bound by :func:`listen`.
        after: Whether workers may still accept from a TCP socket that was turned away there, and
            read a UDP socket that shares its port.

    Raises:
        BindError: The address cannot be bound.
    """
    tries = 1 if listener.port else FREE_PORT_TRIES
    while True:
        tries -= 1
        # TCP first: it shares its port with no other program, so that two of us cannot meet there.
        tcp = _bound_tcp(listener.address, listener.port, beside, after)
        port = listener.port or tcp.getsockname()[1]
        shared = bool(table) or after or beside is not None
        udp = _made(socket.SOCK_DGRAM, tcp.family, shared=shared)
        if beside is not None:
            beside.share_port(True)
            sockets = ListenerSockets([udp], tcp, steered=beside.steered)
            sockets.use_buffers(performance)
            sockets.bind_late(table)
            sockets.grow(slots, performance)
            return sockets
        try:
            _bind(udp, listener.address, port, "UDP")
        except BindError:
            tcp.close()
            if tries > 0:
                continue
            raise
        if not table:
            share_port(udp, False)
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


def bind_again(
    removed: ListenerSockets,
    performance: Performance,
    slots: int = 1,
    table: bytes = b"",
    *,
    beside: ListenerSockets | None = None,
) -> ListenerSockets:
    """Bind what a removed listener had, for one that takes its place while it drains.

    The UDP sockets are the same, by other descriptors: the kernel tells slots apart by their order,
    and connections that finish have theirs there. Arguments and errors are those of
    :func:`bind_listener`.
    """
    tcp = _bound_tcp(*removed.address, beside, after=True)
    # Not by `dup`: of a socket that was inherited it would let all who have it block.
    udp = [socket.socket(fileno=os.dup(one.fileno())) for one in removed.udp]
    if not table:
        for one in udp:
            share_port(one, False)
    again = ListenerSockets(udp, tcp, removed.steered)
    try:
        again.grow(slots, performance)
        if again.steered and not again.steer(table):
            raise BindError(f"the kernel steers no datagrams on port {again.address[1]}")
    except BindError:
        again.close()
        raise
    return again


def _bound_tcp(
    address: str, port: int, beside: ListenerSockets | None, after: bool
) -> socket.socket:
    """Return a TCP socket, bound; what listens there now shares its port with it from now on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    tcp = _made(socket.SOCK_STREAM, family, shared=after or beside is not None)
    if beside is not None:
        share_port(beside.tcp, True)
    _bind(tcp, address, port, "TCP")
    return tcp


def bind_endpoint(
    address: str, port: int, what: str, beside: Iterable[socket.socket] = ()
) -> socket.socket:
    """Bind a TCP socket for callers of ours.

    Arguments:
        what: Of which endpoint, for errors.
        beside: What it has now and closes later; with those of the same port it shares that.

    Raises:
        BindError: The address cannot be bound.
    """
    sharing = [one for one in beside if one.getsockname()[1] == port]
    for one in sharing:
        share_port(one, True)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = _made(socket.SOCK_STREAM, family, shared=bool(sharing), dual=False)
    _bind(made, address, port, what)
    return made


def share_port(tcp: socket.socket, shared: bool) -> None:
    """Let another socket of this user with an overlapping address have the port too, or not."""
    if tcp.fileno() >= 0:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)


def listen(sockets: ListenerSockets) -> None:
    """Have a listener's TCP socket queue connections, just before somebody accepts them.

    It shares its port with no other from then on.

    Raises:
        BindError: Another program listens there since it was bound.
    """
    host, port = sockets.address
    unbound, sockets.unbound = sockets.unbound, None
    if unbound is not None:
        unbound()
    try:
        sockets.tcp.listen(TCP_BACKLOG)
    except OSError as error:
        raise bind_error(host, port, "TCP", error) from error
    share_port(sockets.tcp, False)


def warn_of_others(address: str, port: int) -> None:
    """Say so if other processes have a UDP port of ours to be, to be called before it is bound.

    They can be workers whose supervisor died. The kernel tells slots apart by the order of the
    sockets, and theirs come first.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _made(socket.SOCK_DGRAM, family, shared=False) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            # Anything else is said by who binds it.
            if error.errno == errno.EADDRINUSE:
                logger.warning(
                    "other processes have UDP port %d of %s, such as workers that finish what they "
                    "have after their supervisor died: until they end they may get the new HTTP/3 "
                    "clients, and serve none",
                    port,
                    address,
                )


def others_among(every: Iterable[ListenerSockets]) -> str:
    """Return why other workers cannot take over UDP sockets now; empty if they can.

    Other processes may have sockets at the same place. Once theirs are closed the kernel moves ours
    into the gaps, and those of workers that are gone would get what is for the new ones.
    """
    own = {os.fstat(udp.fileno()).st_ino for one in every for udp in one.udp if udp.fileno() >= 0}
    found = [*_udp_sockets("/proc/net/udp"), *_udp_sockets("/proc/net/udp6")]
    places = {place for place, inode in found if inode in own}
    if all(inode in own for place, inode in found if place in places):
        return ""
    return (
        "other processes have a UDP port of ours, such as workers that finish what they have after "
        "their supervisor died: until they end, no other workers can take over; try again then"
    )


def _udp_sockets(file: str) -> Iterator[tuple[str, int]]:
    """Yield the place and the inode of each UDP socket that is bound: proc_net(5)."""
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines()[1:]:
            fields = line.split()
            yield fields[1], int(fields[9])


def _use_buffers(udp: socket.socket, performance: Performance) -> None:
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, performance.udp_recv_buffer_bytes)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, performance.udp_send_buffer_bytes)


def _made(
    kind: socket.SocketKind, family: int, *, shared: bool, dual: bool = True
) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    if kind is socket.SOCK_STREAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6 and dual:
        # `::` means all addresses, IPv4 too, as the configuration reference says.
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


def _bind(made: socket.socket, address: str, port: int, transport: str) -> None:
    """Bind a socket, or close it.

    Raises:
        BindError: The address cannot be bound.
    """
    try:
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise bind_error(address, port, transport, error) from error


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
