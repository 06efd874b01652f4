"""Listeners of one worker on the same port: one was rebound, and the other drains.

The kernel gives a datagram to the socket with the more specific address, whichever of them has the
connection. So what one has no connection for is given to the other, as that one would have got it.
"""

import socket
from typing import Final

from spooky.edge.handover import HandedOver
from spooky.edge.limits import address_text
from spooky.protocol.quic.session import Address, ReceivedDatagram

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one: RFC 4291 section 2.5.5.2."""


def bound_address(udp: socket.socket) -> bytes:
    """Return the packed address that a socket is bound to; empty if that is any."""
    host = udp.getsockname()[0]
    packed = socket.inet_pton(udp.family, host.partition("%")[0])
    return packed if any(packed) else b""


def translated(datagram: ReceivedDatagram, asked: bytes, family: int) -> HandedOver:
    """Return a datagram as a socket of a family would have received it.

    Arguments:
        asked: The packed address it was sent to; empty if that is not known.
    """
    payload, source, ecn = datagram
    is_ipv6 = len(source) > 2
    if is_ipv6 and family == socket.AF_INET:
        host: Address = (address_text(source[0]).decode(), source[1])
        return (payload, host, ecn), asked.removeprefix(_MAPPED)
    if not is_ipv6 and family == socket.AF_INET6:
        mapped: Address = (f"::ffff:{source[0]}", source[1], 0, 0)
        return (payload, mapped, ecn), _MAPPED + asked if asked else b""
    return datagram, asked
