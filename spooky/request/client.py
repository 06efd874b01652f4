"""What an exchange knows of the client connection it came in on."""

from dataclasses import dataclass, replace

from spooky.generation.authorities import CoveredHosts
from spooky.protocol.stream import Field
from spooky.request.client_address import TrustedProxies


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """A client connection.

    Attributes:
        address: The client's IP address as text, IPv6 without brackets.
        port: The client's port.
        version: ``HTTP_1``, ``HTTP_2`` or ``HTTP_3`` of the validate kernel.
        connection_id: The QUIC connection ID it began with; empty on TCP.
        response_fields: Fields added to every response, such as ``alt-svc``.
        hop: The connection's address, also where ``address`` is of whom it passed a request on for.
        is_early: Whether the handshake is not complete: a request that comes now was sent in 0-RTT
            data, and may be a replay.
        proxies: Says where the client of each request is, if the client of the connection is a
            proxy that is believed; else ``None``.
        covered: The hosts that the connection is good for; ``None`` for all.
    """

    address: bytes
    port: int
    version: int
    connection_id: bytes
    response_fields: tuple[Field, ...]
    hop: bytes
    is_early: bool = False
    proxies: TrustedProxies | None = None
    covered: CoveredHosts | None = None

    def of_request(self, fields: list[Field]) -> "Client":
        """Return the client of a request that a believed proxy passed on.

        Arguments:
            fields: The request's.
        """
        assert self.proxies is not None
        peer = self.address.decode(), self.port
        found = self.proxies.client_of(peer, fields)
        if found == peer:
            return self
        return replace(self, address=found[0].encode(), port=found[1])
