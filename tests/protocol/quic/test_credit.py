"""Credit follows consumption: what a slow application costs, and its peer (RFC 9000 section 4)."""

from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicPacketBuilderStop

from spooky.protocol.quic.aioquic_streams import (
    BUFFER_MAX,
    CONNECTION_BUFFER,
    STREAM_BUFFER,
    STREAM_SHARE,
)
from spooky.protocol.quic.engines import ENGINES, Engine
from spooky.protocol.quic.windows import (
    CONNECTION_WINDOW,
    CONNECTION_WINDOW_MAX,
    STREAM_WINDOW,
    WindowAccount,
)
from tests.protocol.quic.support import (
    Endpoints,
    Pair,
    client_parameters,
    open_stream,
    server_parameters,
    stalled,
    upload,
)
from tests.simnet import Link

MIB = 1024 * 1024


class TestReceiving:
    def test_data_of_streams_that_ended_is_credited_when_consumed(self) -> None:
        pair = Pair().handshake()
        pair.server_handler.consuming = False
        for _ in range(40):
            stream = open_stream(pair.client)
            upload(pair.client_handler, stream, bytes(100_000))
            assert pair.run(lambda s=stream: s in pair.server_handler.ended)
            upload(pair.server_handler, stream, b"early answer")
            pair.run(seconds=0.5)
            assert pair.server._quic.stream(stream) is None
            pair.server.consume(stream, 60_000)
            pair.server.consume(stream, 40_000)
        assert not pair.server._quic.inbound

    def test_a_connection_limit_that_finds_no_room_is_announced_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MAX_DATA counts as in flight (RFC 9002 section 2), of which a window may be full."""
        pair = Pair().handshake()
        full = stalled(pair, 4, size=STREAM_WINDOW)
        waiting = open_stream(pair.client)
        upload(pair.client_handler, waiting, bytes(1000))
        pair.run(seconds=1)
        start_frame, refused = QuicPacketBuilder.start_frame, []

        def start_unless_it_is_the_first(
            builder: QuicPacketBuilder, frame_type: int, *arguments: Any, **options: Any
        ) -> Buffer:
            if frame_type == QuicFrameType.MAX_DATA and not refused:
                refused.append(frame_type)
                raise QuicPacketBuilderStop
            return start_frame(builder, frame_type, *arguments, **options)

        monkeypatch.setattr(QuicPacketBuilder, "start_frame", start_unless_it_is_the_first)
        for stream in full:
            pair.server.consume(stream, pair.server_handler.total(stream))
        pair.run(seconds=0.1)
        assert refused
        # Whatever made room, an acknowledgment say, is also an occasion to send.
        pair.client.ping()
        assert pair.run(lambda: pair.server_handler.total(waiting) == 1000, 5)


class TestTuning:
    PATH = Link(latency=0.025)

    def test_windows_grow_with_what_the_path_carries(self) -> None:
        account = WindowAccount(100 * MIB)
        pair = Pair(link=self.PATH, server=server_parameters(account=account)).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(16 * MIB))
        assert pair.run(lambda: stream in pair.server_handler.ended)
        quic = pair.server._quic
        assert CONNECTION_WINDOW < quic._window.size <= CONNECTION_WINDOW_MAX
        assert account.spent == quic._window.size - CONNECTION_WINDOW
        pair.client.close(0, "", True)
        pair.closed()
        assert account.spent == 0

    def test_windows_do_not_grow_for_a_slow_reader(self) -> None:
        pair = Pair(link=self.PATH).handshake()
        (stream,) = stalled(pair)
        for _ in range(40):
            pair.server.consume(stream, 50_000)
            pair.run(seconds=0.1)
        outstanding = pair.server_handler.total(stream) - 40 * 50_000
        assert outstanding == STREAM_WINDOW
        assert pair.server._quic._window.size == CONNECTION_WINDOW

    def test_an_exhausted_account_slows_but_refuses_nothing(self) -> None:
        account = WindowAccount(0)
        pair = Pair(link=self.PATH, server=server_parameters(account=account)).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(16 * MIB))
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert pair.server._quic._window.size == CONNECTION_WINDOW
        assert account.spent == 0

    def test_a_stream_grows_no_further_than_its_maximum(self) -> None:
        parameters = server_parameters(stream_window_max=512 * 1024)
        pair = Pair(link=self.PATH, server=parameters).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(8 * MIB))
        assert pair.run(lambda: pair.server_handler.total(stream) > 6 * MIB)
        assert pair.server._quic.inbound[stream].size == 512 * 1024

    def test_a_stream_grows_no_further_than_its_connection(self) -> None:
        parameters = server_parameters(account=WindowAccount(0), stream_window_max=8 * MIB)
        pair = Pair(link=self.PATH, server=parameters).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(8 * MIB))
        assert pair.run(lambda: pair.server_handler.total(stream) > 6 * MIB)
        assert pair.server._quic.inbound[stream].size == CONNECTION_WINDOW


class TestResetAndStop:
    def test_reset_streams_do_not_starve_the_connection(self) -> None:
        """Bytes of a reset stream count up to its final size, consumed or not (section 4.5)."""
        pair = Pair(link=Link(loss=0.05)).handshake()
        pair.server_handler.consuming = False
        for _ in range(30):
            stream = open_stream(pair.client)
            upload(pair.client_handler, stream, bytes(200_000))
            assert pair.run(lambda s=stream: pair.server_handler.total(s) > 20_000)
            pair.server.consume(stream, 5_000)
            pair.client.reset(stream, 0x10C)
            assert pair.run(lambda s=stream: (s, 0x10C) in pair.server_handler.resets)
            pair.server.consume(stream, 10_000)  # Late, and ignored.
            pair.server.reset(stream, 0x10C)
        pair.run(seconds=2)
        window = pair.server._quic._window
        assert window.consumed == pair.server._quic._local_max_data.used
        assert not pair.server._quic.inbound
        assert not pair.server._quic._streams
        assert pair.server._quic.work.gaps.count == 0

    def test_stopped_streams_do_not_starve_the_connection(self) -> None:
        """RFC 9000 section 3.5."""
        pair = Pair().handshake()
        pair.server_handler.consuming = False
        for _ in range(30):
            stream = open_stream(pair.client)
            upload(pair.client_handler, stream, bytes(200_000))
            assert pair.run(lambda s=stream: pair.server_handler.total(s) > 5_000)
            told = pair.server_handler.total(stream)
            pair.server.stop_sending(stream, 0x10C)
            pair.server.reset(stream, 0x10C)
            assert pair.run(lambda s=stream: (s, 0x10C) in pair.client_handler.stops)
            pair.run(seconds=0.5)
            assert pair.server_handler.total(stream) == told
            pair.server.consume(stream, told)
        pair.run(seconds=1)
        assert not pair.server_handler.resets
        assert not pair.server._quic.inbound
        assert not pair.server._quic._streams
        assert pair.server._quic._window.consumed == pair.server._quic._local_max_data.used

    def test_a_peer_that_ignores_stop_sending_is_drained(self) -> None:
        pair = Pair().handshake()
        pair.server_handler.consuming = False
        stream = open_stream(pair.client)
        sending = pair.client._quic.stream(stream)
        assert sending is not None
        sending.sender.reset = lambda error_code: None  # type: ignore[method-assign]
        sending.sender.write(bytes(3 * MIB), True)
        assert pair.run(lambda: pair.server_handler.total(stream) > 5_000)
        told = pair.server_handler.total(stream)
        pair.server.stop_sending(stream, 1)
        pair.server.consume(stream, told)
        assert pair.run(lambda: stream not in pair.server._quic.inbound, 10)
        assert pair.server_handler.total(stream) == told
        assert pair.server._quic._window.consumed == 3 * MIB

    @pytest.mark.parametrize("seed", range(3))
    def test_lost_resets_and_stops_are_repeated(self, seed: int) -> None:
        """RFC 9000 section 13.3."""
        pair = Pair(seed, link=Link(loss=0.3)).handshake()
        streams = [open_stream(pair.client) for _ in range(20)]
        for stream in streams:
            upload(pair.client_handler, stream, bytes(3_000))
        assert pair.run(lambda: set(streams) <= set(pair.server_handler.data))
        for stream in streams:
            pair.server.stop_sending(stream, 2)
            pair.server.reset(stream, 3)
        assert pair.run(lambda: not pair.server._quic._streams, 120)
        assert pair.run(lambda: not pair.client._quic._streams, 120)

    def test_data_after_a_stop_is_dropped_and_counts_as_accepted(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        pair.client.send(stream, b"x", False)
        assert pair.run(lambda: stream in pair.server_handler.data)
        pair.server.stop_sending(stream, 5)
        assert pair.run(lambda: bool(pair.client_handler.stops))
        assert pair.client.send(stream, bytes(10 * MIB), True) == 10 * MIB
        assert pair.client._quic.work.buffered == 0

    def test_a_reset_lets_go_of_what_is_unsent(self) -> None:
        pair = Pair().handshake()
        (stream,) = stalled(pair)
        assert pair.client._quic.work.buffered > 0
        pair.client.reset(stream, 1)
        assert pair.client._quic.work.buffered == 0
        pair.client.reset(stream, 2)
        assert pair.run(lambda: (stream, 1) in pair.server_handler.resets)


class TestSending:
    """The send side has a high-water mark (aioquic#328, py-libp2p#1520)."""

    def test_a_stream_accepts_so_much_and_says_when_there_is_room(self) -> None:
        pair = Pair().handshake()
        pair.server_handler.consuming = False
        stream = open_stream(pair.client)
        accepted = pair.client.send(stream, bytes(4 * MIB), True)
        assert accepted == STREAM_BUFFER
        assert pair.client.send(stream, b"more", False) == 0
        assert pair.run(lambda: stream in pair.client_handler.writable)
        assert pair.client._quic.work.buffered <= pair.client._quic._stream_capacity() // 2
        assert pair.client.send(stream, b"more", False) == 4

    def test_all_streams_of_a_connection_hold_so_much(self) -> None:
        pair = Pair().handshake()
        pair.server_handler.consuming = False
        streams = [open_stream(pair.client) for _ in range(100)]
        for stream in streams:
            upload(pair.client_handler, stream, bytes(MIB))
        assert pair.client._quic.work.buffered <= CONNECTION_BUFFER + 100 * STREAM_SHARE
        pair.run(seconds=5)
        assert pair.client._quic.work.buffered <= CONNECTION_BUFFER + 100 * STREAM_SHARE

    def test_streams_neglected_by_their_reader_do_not_stop_the_others(self) -> None:
        parameters = client_parameters(connection_window=64 * MIB, connection_window_max=64 * MIB)
        pair = Pair(client=parameters).handshake()
        streams = [open_stream(pair.client) for _ in range(6)]
        for stream in streams:
            upload(pair.client_handler, stream, b"get")
        assert pair.run(lambda: pair.server_handler.ended == set(streams))
        pair.client_handler.consuming = False
        for stream in streams[:5]:
            upload(pair.server_handler, stream, bytes(2 * MIB))
        pair.run(seconds=3)
        assert pair.server._quic.work.buffered > CONNECTION_BUFFER - STREAM_SHARE
        pair.client_handler.consuming = True
        upload(pair.server_handler, streams[5], bytes(2 * MIB))
        assert pair.run(lambda: streams[5] in pair.client_handler.ended, 300)

    def test_each_stream_has_a_share_whatever_others_hold(self) -> None:
        pair = Pair().handshake()
        pair.client._quic.work.buffered = 100 * MIB
        stream = open_stream(pair.client)
        assert pair.client.send(stream, bytes(100_000), False) == STREAM_SHARE
        assert pair.client.send(stream, bytes(100_000), False) == 0

    def test_a_peer_that_opens_the_path_without_end_gains_little(self) -> None:
        pair = Pair().handshake()
        pair.client._quic._loss._cc.congestion_window = 1 << 40
        stream = open_stream(pair.client)
        assert pair.client.send(stream, bytes(100 * MIB), False) == BUFFER_MAX == 4 * MIB

    def test_a_long_fat_path_holds_more_but_not_without_end(self) -> None:
        wide = client_parameters(
            stream_window=32 * MIB,
            stream_window_max=32 * MIB,
            connection_window=32 * MIB,
            connection_window_max=32 * MIB,
        )
        pair = Pair(link=Link(latency=0.1), client=wide).handshake()
        stream = open_stream(pair.server, unidirectional=True)
        most = 0
        upload(pair.server_handler, stream, bytes(24 * MIB))

        def watch() -> bool:
            nonlocal most
            most = max(most, pair.server._quic.work.buffered)
            return stream in pair.client_handler.ended

        assert pair.run(watch, 120)
        assert STREAM_BUFFER < most <= BUFFER_MAX

    def test_a_window_that_is_not_used_does_not_grow(self) -> None:
        """RFC 9002 section 7.8, attack 20: many small answers do not open the path."""
        pair = Pair(link=Link(latency=0.02)).handshake()
        initial = pair.server._quic._loss.congestion_window
        for _ in range(300):
            stream = open_stream(pair.client)
            upload(pair.client_handler, stream, b"get")
            assert pair.run(lambda s=stream: s in pair.server_handler.ended)
            upload(pair.server_handler, stream, bytes(1000))
            assert pair.run(lambda s=stream: s in pair.client_handler.ended)
        assert pair.server._quic._loss.congestion_window < 2 * initial

    @pytest.mark.parametrize("latency", [0.0, 0.02])
    def test_a_window_that_is_used_grows(self, latency: float) -> None:
        """On the shortest path too, where pacing lets out a few packets at each turn."""
        pair = Pair(link=Link(latency=latency)).handshake()
        pair.network.grain = 0.001
        initial = pair.server._quic._loss.congestion_window
        stream = open_stream(pair.server, unidirectional=True)
        upload(pair.server_handler, stream, bytes(4 * MIB))
        assert pair.run(lambda: stream in pair.client_handler.ended)
        assert pair.server._quic._loss.congestion_window > 10 * initial


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_what_is_held_for_a_stream_is_told_and_free_once_it_is_reset(engine: Engine) -> None:
    pair = Endpoints(1, engines=(engine, engine)).handshake()
    first, second = stalled(pair, 2)
    held = dict(pair.client.held())
    # What the peer has not acknowledged: its windows are full, and our own buffers.
    assert min(held[first], held[second]) > 64 * 1024
    pair.client.reset(first, 0x10C)
    assert first not in dict(pair.client.held())
    assert dict(pair.client.held())[second] == held[second]
