"""Whose address a request has: the one that the handshake proved, not the last that was used."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from spooky._core.dispatch import Listener
from spooky._core.h3_wire import encode_frame
from spooky._core.sections import encode_fields
from spooky._core.service import Service
from spooky._core.terms import Client
from spooky._core.turns import Turns
from spooky.config.client_address import ClientAddress
from spooky.config.glitches import Glitches
from spooky.edge.limits import ConnectionCap
from spooky.edge.quic_connection import QuicConnection
from spooky.edge.quic_measures import quic_measures
from spooky.observe.counters import Counters
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import AIOQUIC, ENGINES, Engine
from spooky.protocol.quic.session import Datagram
from spooky.request.client_address import TrustedProxies
from tests.protocol.quic.forge import packet, stream_frame
from tests.scenario.endpoints import Scenario
from tests.simnet import CLIENT

VICTIM = ("203.0.113.77", 5555)
HEADERS = 1


class Host(Listener):
    """A listener with no more than its connections ask of it."""

    draining = False
    overload = SimpleNamespace(stops_keep_alive=False)
    service: Any
    settings = SimpleNamespace(
        http3=Limits(),
        handshake_timeout=10,
        established=SimpleNamespace(
            idle_timeout=30.0, proxies=TrustedProxies(ClientAddress()), glitches=Glitches()
        ),
        authorities=SimpleNamespace(handshake_by_name=lambda name: None),
    )


class Connected(Scenario):
    """A client and a whole connection of ours, whose listener notes whose requests come."""

    connection: QuicConnection

    def begin(self, first: Any, header: Any, now: float, **proof: Any) -> Any:
        session = self.server_engine.server_session(
            self.server_parameters, header, first.source, now, self._make_id, **proof
        )
        runtime = Turns(MagicMock(), lambda: self.network.now, 0.001)
        self.accept = MagicMock()
        counters = Counters()
        listener = Host(runtime, MagicMock(), 0, counters, None)
        # Of the classes that kernels know: they look nothing up.
        listener.cap = ConnectionCap(counters, "quic", 1, 1)
        listener.cap.open()
        listener.measures = quic_measures(counters)
        listener.service = Accepting(self.accept)
        self.connection = QuicConnection(listener, session, header.destination_connection_id)
        self.connection.start()
        return session


class Accepting(Service):
    """A service that only begins requests."""

    def __init__(self, accept: Any) -> None:
        self._take = accept

    def accept(self, stream: Any, client: Client) -> Any:
        return self._take(stream, client)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.name)
def test_a_first_request_from_another_address_is_still_the_clients(engine: Engine) -> None:
    """A source that nobody proved must not be what backends are told and logs say."""
    pair = Connected((AIOQUIC, engine))
    pair.run(lambda: bool(pair.client_handler.handshake), 10)
    pair.run(seconds=0.2)
    assert pair.connection.established
    fields = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"a.test"),
        (b":path", b"/"),
    ]
    request = stream_frame(0, 0, encode_frame(HEADERS, encode_fields(fields)), True)
    pair.connection.receive([Datagram(packet(pair, request), VICTIM)], pair.network.now)
    (client,) = (call.args[1] for call in pair.accept.call_args_list)
    assert (client.address, client.port) == (CLIENT[0].encode(), CLIENT[1])
