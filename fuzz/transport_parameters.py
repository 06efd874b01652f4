"""Transport parameters of a client, in a hello that is otherwise right.

The first byte chooses the server's engine, the rest takes the parameters' place.
"""

from collections.abc import Iterator
from typing import Any

from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from tests.protocol.quic.forge import varint
from tests.protocol.quic.support import Endpoints

NAMES = sorted(ENGINES)

ALERTS = range(0x100, 0x200)
"""What TLS says of a hello (RFC 9001 section 4.8)."""

EXPECTED = {QuicErrorCode.TRANSPORT_PARAMETER_ERROR, QuicErrorCode.VERSION_NEGOTIATION_ERROR}


def parameter(number: int, value: bytes) -> bytes:
    """Encode a parameter."""
    return varint(number) + varint(len(value)) + value


def seeds() -> Iterator[bytes]:
    """Yield each parameter by itself, and all together."""
    each = [parameter(number, varint(1 << 14)) for number in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14)]
    each += [
        parameter(0x0C, b""),
        parameter(0x0F, bytes(8)),
        parameter(0x00, bytes(8)),
        parameter(0x02, bytes(16)),
        parameter(0x0D, bytes(24) + b"\x08" + bytes(24)),
        parameter(0x11, b"\0\0\0\x01\0\0\0\x01\x6b\x33\x43\xcf"),
        parameter(0x7FFF, b"unknown"),
    ]
    for index in range(len(NAMES)):
        for encoded in (*each, b"".join(each)):
            yield bytes((index,)) + encoded


def run(data: bytes) -> None:
    """Shake hands with these parameters and see how the server took them."""
    engine = ENGINES[NAMES[(data[0] if data else 0) % len(NAMES)]]
    pair: Endpoints[Any] = Endpoints(1, engines=(AIOQUIC, engine))
    quic = pair.client._quic
    # The server insists on its connection ID; without it every input would end the same way.
    own = parameter(0x0F, quic.host_cid)
    quic._serialize_transport_parameters = lambda: data[1:] + own
    quic._connect(pair.network.now)
    pair.run(lambda: bool(pair.server_handler.handshake or pair.server_handler.closes), 1)
    for close in pair.server_handler.closes:
        assert close.by_peer or close.error_code in EXPECTED or close.error_code in ALERTS, close
