"""Credit follows consumption, whatever both engines are (RFC 9000 section 4)."""

import pytest

from spooky.protocol.quic.windows import (
    CONNECTION_WINDOW,
    CONNECTION_WINDOW_MAX,
    STREAM_WINDOW,
    STREAM_WINDOW_MAX,
)
from tests.protocol.quic.support import (
    open_stream,
    stalled,
    upload,
)
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import SERVER, Link

MIB = 1024 * 1024


class TestReceiving:
    def test_an_unread_stream_stops_its_sender_at_one_window(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        (stream,) = stalled(pair)
        assert pair.server_handler.total(stream) == STREAM_WINDOW
        assert not pair.server_handler.closes

    def test_unread_streams_together_stop_at_the_connections_window(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        streams = stalled(pair, 10)
        assert sum(map(pair.server_handler.total, streams)) == CONNECTION_WINDOW

    def test_consuming_resumes_the_sender_by_as_much(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        (stream,) = stalled(pair)
        pair.server.consume(stream, 100_000)
        pair.run(seconds=1)
        assert pair.server_handler.total(stream) == STREAM_WINDOW + 100_000

    def test_it_goes_on_to_the_end(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        (stream,) = stalled(pair)
        pair.server_handler.consuming = True
        pair.server.consume(stream, STREAM_WINDOW)
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert pair.server_handler.total(stream) == 4 * MIB

    @pytest.mark.parametrize("seed", range(3))
    def test_lost_announcements_are_repeated(self, engines: Engines, seed: int) -> None:
        """RFC 9000 section 13.3."""
        pair = Scenario(engines, seed, link=Link(loss=0.2)).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(2 * MIB))
        assert pair.run(lambda: stream in pair.server_handler.ended, 300)

    def consume_unheard(self, pair: Scenario, streams: list[int]) -> None:
        """Consume everything, but lose what is sent about it at first."""
        pair.network.drop = lambda source, payload: source == SERVER
        for stream in streams:
            pair.server.consume(stream, pair.server_handler.total(stream))
        pair.run(seconds=0.001)
        pair.network.drop = lambda source, payload: False

    def test_a_lost_stream_limit_does_not_stop_the_sender_for_good(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        (stream,) = stalled(pair)
        self.consume_unheard(pair, [stream])
        assert pair.run(lambda: pair.server_handler.total(stream) == 2 * STREAM_WINDOW, 5)

    def test_a_lost_connection_limit_does_not_stop_the_sender_for_good(
        self, engines: Engines
    ) -> None:
        pair = Scenario(engines).handshake()
        full = stalled(pair, 4, size=STREAM_WINDOW)
        waiting = open_stream(pair.client)
        upload(pair.client_handler, waiting, bytes(1000))
        pair.run(seconds=1)
        assert pair.server_handler.total(waiting) == 0
        self.consume_unheard(pair, full)
        assert pair.run(lambda: pair.server_handler.total(waiting) == 1000, 5)

    def test_more_is_never_credited_than_was_delivered(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        (stream,) = stalled(pair)
        pair.server.consume(stream, 100 * MIB)
        pair.run(seconds=1)
        assert pair.server_handler.total(stream) == 2 * STREAM_WINDOW


class TestTuning:
    PATH = Link(latency=0.025)

    def test_the_maximum_of_a_stream_fits_the_connections(self, engines: Engines) -> None:
        assert STREAM_WINDOW <= STREAM_WINDOW_MAX <= CONNECTION_WINDOW_MAX


class TestResetAndStop:
    def test_a_lost_stop_is_repeated_to_a_silent_peer(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        stream = open_stream(pair.client)
        pair.client.send(stream, b"x", False)
        assert pair.run(lambda: stream in pair.server_handler.data)
        pair.run(seconds=1)
        pair.network.drop = lambda source, payload: source == SERVER
        pair.server.stop_sending(stream, 7)
        pair.run(seconds=0.001)
        pair.network.drop = lambda source, payload: False
        assert pair.run(lambda: pair.client_handler.stops == [(stream, 7)], 5)


class TestSending:
    """The send side has a high-water mark (aioquic#328, py-libp2p#1520)."""

    def test_it_is_said_once_for_each_refusal(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        stream = open_stream(pair.client)
        pair.client.send(stream, bytes(4 * MIB), False)
        pair.run(seconds=3)
        assert pair.client_handler.writable == [stream]
