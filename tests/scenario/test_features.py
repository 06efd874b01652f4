"""What one engine has and the other has not, where one side is enough to show it."""

import os

import pytest

from spooky.protocol.quic.engines import Feature
from tests.scenario.endpoints import Engines, Scenario
from tests.scenario.frames import RESET_TOKEN_BYTES, Frame, FrameType
from tests.simnet import CLIENT, SERVER, Link

KIB = 1024

RESET_BYTES = 43
"""Size of a stateless reset that looks like a short packet (RFC 9000 section 10.3)."""


def frames_of(pair: Scenario, kind: FrameType) -> list[Frame]:
    """Return the server's frames of a type."""
    packets = pair.packets(from_server=True)
    return [frame for packet in packets for frame in packet.frames if frame.type is kind]


@pytest.mark.needs(Feature.STATELESS_RESET, of="client")
class TestStatelessReset:
    """RFC 9000 section 10.3: a server that forgot the connection says so."""

    def after_a_move(self, engines: Engines) -> tuple[Scenario, bytes]:
        """Have the client use a connection ID whose token we saw; return that token."""
        pair = Scenario(engines).handshake()
        pair.client.probe_path()
        pair.download(KIB)
        in_use = pair.packets(from_server=False)[-1].destination_connection_id
        for frame in frames_of(pair, FrameType.NEW_CONNECTION_ID):
            if frame.data[:-RESET_TOKEN_BYTES] == in_use:
                return pair, frame.data[-RESET_TOKEN_BYTES:]
        raise AssertionError("the client uses a connection ID that nobody gave it")

    def test_it_ends_the_connection_without_a_word(self, engines: Engines) -> None:
        pair, token = self.after_a_move(engines)
        noise = bytearray(os.urandom(RESET_BYTES - RESET_TOKEN_BYTES))
        noise[0] = 0x40 | noise[0] & 0x3F
        pair.network.send(bytes(noise) + token, SERVER, CLIENT)
        assert pair.run(lambda: bool(pair.client_handler.closes), 1)
        before = len(pair.network.sent)
        pair.run(seconds=1)
        assert all(source == SERVER for _, source, _, _ in pair.network.sent[before:])
        close = pair.client_handler.closes[0]
        assert close.by_peer
        assert not close.timed_out

    def test_a_wrong_token_changes_nothing(self, engines: Engines) -> None:
        pair, token = self.after_a_move(engines)
        wrong = bytes(RESET_TOKEN_BYTES - 1) + b"x"
        assert wrong != token
        pair.network.send(b"\x40" + os.urandom(26) + wrong, SERVER, CLIENT)
        pair.download(KIB, seed=1)


@pytest.mark.needs(Feature.STATISTICS, of="either")
def test_statistics_tell_what_happened(engines: Engines) -> None:
    pair = Scenario(engines, link=Link(latency=0.05, loss=0.05)).handshake()
    pair.download(300 * KIB)
    for session in pair.those_with(Feature.STATISTICS):
        statistics = session.statistics()
        assert statistics["packets_sent"] > 20
        assert statistics["packets_received"] > 20
        assert 0.0999 < statistics["smoothed_rtt"] < 0.2
        assert statistics["congestion_window"] > 2 * 1200
        assert statistics["mtu"] >= 1200
        sends_most = session is pair.server
        assert not sends_most or statistics["packets_lost"] > 5
