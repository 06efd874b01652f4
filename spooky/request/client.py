"""What an exchange knows of the client connection it came in on."""

from dataclasses import dataclass

from spooky.protocol.stream import Field


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """A client connection.

    Attributes:
        address: The client's IP address as text, IPv6 without brackets.
        port: The client's port.
        version: ``HTTP_1``, ``HTTP_2`` or ``HTTP_3`` of the validate kernel.
        connection_id: The QUIC connection ID it began with; empty on TCP.
        response_fields: Fields added to every response, such as ``alt-svc``.
        is_early: Whether the handshake is not complete: a request that comes now was sent in 0-RTT
            data, and may be a replay.
    """

    address: bytes
    port: int
    version: int
    connection_id: bytes
    response_fields: tuple[Field, ...]
    is_early: bool = False
