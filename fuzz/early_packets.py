"""0-RTT packets of a client whose hello was taken: rightly protected, with any frames in them.

Inputs are those of ``quic_frames``, but that the first byte says what becomes of the handshake: it
goes on before the packets come, after them, or between any two.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

from aioquic import tls
from aioquic.quic.packet import QuicErrorCode

from fuzz.quic_frames import PACKETS_MAX, conversations, packets_of
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from spooky.protocol.quic.tickets import TicketStore
from tests.protocol.quic import forge
from tests.protocol.quic.support import Endpoints, client_parameters, server_parameters
from tests.simnet import CLIENT, SERVER

REFUSED = (QuicErrorCode.NO_ERROR, QuicErrorCode.INTERNAL_ERROR)
"""With what no packet ends a connection: it breaks a rule, and the close says which."""


class Forgetful:
    """A register that takes the one ticket of all runs again and again."""

    register_id = 1

    def strike(self, key: int, now: int, keep: int) -> bool:
        """Say that it is the first time."""
        return True


SERVER_PARAMETERS = server_parameters(tickets=TicketStore(), early_data=EarlyData(Forgetful(), ()))


@cache
def ticket() -> tls.SessionTicket:
    """Return a ticket that may be used for 0-RTT."""
    tickets: list[tls.SessionTicket] = []
    client = client_parameters(on_ticket=tickets.append)
    engines = AIOQUIC, ENGINES["native"]
    Endpoints[Any](1, engines=engines, client=client, server=SERVER_PARAMETERS).handshake()
    return tickets[0]


def seeds() -> Iterator[bytes]:
    """Yield each conversation, with the handshake going on at some place in it."""
    for number, conversation in enumerate(conversations()):
        yield bytes((number % 3,)) + conversation
    yield bytes((2,))


def run(data: bytes) -> None:
    """Send the packets, let the handshake go on, and see how the server took it."""
    if "native" not in ENGINES:
        return
    client = client_parameters(ticket=ticket(), early_data=True)
    engines = AIOQUIC, ENGINES["native"]
    pair: Endpoints[Any] = Endpoints(1, engines=engines, client=client, server=SERVER_PARAMETERS)
    assert pair.run(lambda: pair.server_handler.early, 1)
    frames = list(itertools.islice(packets_of(data), PACKETS_MAX))
    # Protected before the client hears that it may use other keys.
    packets = [forge.packet(pair, each, tls.Epoch.ZERO_RTT) for each in frames]
    goes_on = data[0] if data else 0
    for number, packet in enumerate(packets):
        if number == goes_on:
            pair.run(seconds=0.5)
        pair.network.send(packet, CLIENT, SERVER)
        pair.run(seconds=0.001)
    pair.run(seconds=0.5)
    for close in pair.server_handler.closes:
        assert close.by_peer or close.error_code not in REFUSED, close
    for stream_id, received in pair.server_handler.data.items():
        assert len(received) <= pair.server_parameters.stream_window_max, stream_id
