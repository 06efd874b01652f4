"""PROXY headers of trusted proxies: before a TCP connection, and before UDP datagrams."""

import asyncio
import socket
from collections import OrderedDict
from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Reason
from spooky.edge.peeking import peek
from spooky.protocol.proxy_header import (
    V2_MAX_BYTES,
    V2_SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    parse_proxy_header,
)
from spooky.protocol.quic.session import Address, ReceivedDatagram
from spooky.request.client_address import Place, TrustedProxies

FLOWS_MAX: Final = 16_384
"""Flows of one listener whose client is remembered; the oldest give way; 6 MB."""


async def take_proxy_header(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, peer: Place
) -> Place:
    """Take the header off the front of a TCP connection, and nothing behind it.

    Arguments:
        connection: Non-blocking.
        peer: Where it comes from.

    Returns:
        Where the client is.

    Raises:
        ProxyHeaderError: There is none, or it is malformed.
        ConnectionError: The proxy closed the connection.
    """
    start = b""
    header = parse_proxy_header(start, "stream")
    while not isinstance(header, ProxyHeader):
        start = await peek(loop, connection, header, V2_MAX_BYTES)
        if not start:
            raise ConnectionResetError("closed before its PROXY header")
        wanted, header = header, parse_proxy_header(start, "stream")
        if len(start) < wanted and not isinstance(header, ProxyHeader):
            raise ProxyHeaderError("closed within its PROXY header")
    connection.recv(header.size)
    return header.source or peer


class AnnouncedFlows:
    """Which client each flow of a trusted proxy is, by the headers of its datagrams.

    A flow is an address and port of the proxy's; it keeps one for a client (RFC 9000 section 9).

    Arguments:
        capacity: Flows that are remembered; the oldest is forgotten first.
    """

    def __init__(self, capacity: int = FLOWS_MAX) -> None:
        self._capacity = capacity
        self._clients: OrderedDict[Address, Place] = OrderedDict()

    def unwrap(
        self, datagram: ReceivedDatagram, proxies: TrustedProxies
    ) -> ReceivedDatagram | Reason:
        """Take the header off a datagram, if one is to be believed, and remember what it says.

        From a flow that was believed once the header is taken off whatever is in force: it has
        connections, which stay as they are. Those that begin are looked at in :meth:`client_of`.

        Returns:
            The datagram as its client sent it, or why it is dropped.
        """
        payload, source, ecn = datagram
        is_expected = proxies.expects_header(source[0])
        if not payload.startswith(V2_SIGNATURE):
            return datagram
        if not is_expected and source not in self._clients:
            return reasons.PROXY_HEADER_UNTRUSTED if proxies.refuses(source[0]) else datagram
        try:
            header = parse_proxy_header(payload, "datagram")
        except ProxyHeaderError:
            return reasons.PROXY_HEADER_INVALID
        if not isinstance(header, ProxyHeader):
            return reasons.PROXY_HEADER_INVALID
        client = header.source or source[:2]
        if is_expected and self._clients.get(source) != client:
            self._clients.pop(source, None)
            if len(self._clients) >= self._capacity:
                self._clients.popitem(last=False)
            self._clients[source] = client
        return payload[header.size :], source, ecn

    def client_of(self, source: Address, proxies: TrustedProxies) -> Place | Reason:
        """Return where the client of a new connection is, or why there is none."""
        if proxies.refuses(source[0]):
            return reasons.PROXY_HEADER_UNTRUSTED
        if not proxies.expects_header(source[0]):
            return source[:2]
        return self._clients.get(source, reasons.PROXY_HEADER_INVALID)
