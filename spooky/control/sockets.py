"""The sockets of a listener, made and bound before any worker sees them."""

import errno
import socket
from dataclasses import dataclass
from typing import Final

from spooky.config.performance import Performance
from spooky.config.schema import Listener

TCP_BACKLOG: Final = 4096
"""Connections the kernel keeps until they are accepted; it caps this at net.core.somaxconn."""

FREE_PORT_TRIES: Final = 20
"""How often a free TCP port is tried for UDP too, when the port is left open."""


class BindError(Exception):
    """A listener's address cannot be bound; says which, and why."""


@dataclass(frozen=True, slots=True)
class ListenerSockets:
    """What a listener listens on.

    Attributes:
        udp: Bound, non-blocking.
        tcp: Bound, listening, non-blocking.
    """

    udp: socket.socket
    tcp: socket.socket

    @property
    def port(self) -> int:
        """The port that both are bound to."""
        return int(self.udp.getsockname()[1])

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def open_listener(listener: Listener, performance: Performance) -> ListenerSockets:
    """Bind the UDP and the TCP socket of a listener, on the same port.

    Raises:
        BindError: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    tries = 1 if listener.port else FREE_PORT_TRIES
    while True:
        tries -= 1
        tcp = _bind(socket.SOCK_STREAM, family, listener.address, listener.port)
        port = listener.port or tcp.getsockname()[1]
        try:
            udp = _bind(socket.SOCK_DGRAM, family, listener.address, port)
        except BindError:
            tcp.close()
            if tries > 0:
                continue
            raise
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, performance.udp_recv_buffer_bytes)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, performance.udp_send_buffer_bytes)
        tcp.listen(TCP_BACKLOG)
        return ListenerSockets(udp, tcp)


def _bind(kind: socket.SocketKind, family: int, address: str, port: int) -> socket.socket:
    transport = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` means all addresses, IPv4 too, as the configuration reference says.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise BindError(
            f"cannot listen on {address} port {port} ({transport}): {_remedy(error, port)}"
        ) from error
    return made


def _remedy(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it, or choose another port"
    if error.errno == errno.EACCES:
        return f"not permitted; port {port} needs CAP_NET_BIND_SERVICE or root"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return str(error.strerror)
