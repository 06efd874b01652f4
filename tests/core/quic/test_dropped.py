"""What the engine drops is counted by why, each packet once."""

import pytest

from spooky._core.quic.connection import Connection
from spooky.protocol.quic.engines import AIOQUIC, ENGINES, Engine
from spooky.protocol.quic.packet import ConnectionIds, parse_header
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.forge import Initials, client_hello, crypto_frame, packet
from tests.protocol.quic.support import SLOT, Recorder, server_parameters
from tests.scenario.endpoints import Scenario
from tests.simnet import CLIENT

NATIVE = ENGINES["native"]
KEPT = 8
"""Datagrams that wait for their keys."""


def dropped_by(session: object) -> tuple[int, ...] | None:
    assert isinstance(session, Connection)
    return session.take_dropped()


@pytest.mark.parametrize("client", [AIOQUIC, NATIVE], ids=["aioquic", "native"])
def test_nothing_an_honest_client_sends_is_dropped(client: Engine) -> None:
    pair = Scenario((client, NATIVE)).handshake()
    pair.run(seconds=1)
    assert dropped_by(pair.server) is None


def test_what_was_told_is_not_told_again() -> None:
    pair = Scenario((AIOQUIC, NATIVE)).handshake()
    forged = bytearray(packet(pair, b"\x01"))
    forged[-1] ^= 1
    pair.server.receive([Datagram(bytes(forged), CLIENT)] * 3, pair.network.now)
    assert dropped_by(pair.server) == (0, 0, 0, 3, 0)
    assert dropped_by(pair.server) is None


def test_packets_that_wait_for_their_keys_count_once_these_are_there() -> None:
    """What does not fit counts at once; what else is in their datagrams, as they come."""
    initials, now = Initials(), 1000.0
    hello = client_hello(initials.source)
    handshake = b"\xe0\x00\x00\x00\x01\x08" + initials.destination + b"\x08" + initials.source
    early = Datagram(handshake + b"\x40\x40" + bytes(0x40) + b"rubbish", CLIENT)
    first, second = (
        initials(crypto_frame(0, hello[:100])),
        initials(crypto_frame(100, hello[100:])),
    )
    header = parse_header(first.payload)
    assert header is not None
    session = NATIVE.server_session(
        server_parameters(), header, CLIENT, now, ConnectionIds(SLOT).make
    )
    session.handler = recorder = Recorder()
    recorder.session = session
    session.receive([first], now)
    session.receive([early] * (KEPT + 1), now)
    assert dropped_by(session) == (KEPT + 1, 0, 0, 0, 1)
    session.receive([second], now)
    assert dropped_by(session) == (0, 0, 0, KEPT, 0)
