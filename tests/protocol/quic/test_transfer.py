"""Connections from handshake to close, over networks that misbehave (RFC 9000)."""

from spooky.protocol.quic.aioquic_session import _runs_of
from spooky.protocol.quic.session import Transmit
from tests.protocol.quic.support import (
    Pair,
    client_parameters,
    open_stream,
    pattern,
    server_parameters,
    upload,
)
from tests.simnet import SERVER, Link

ROUGH = Link(loss=0.10, duplicate=0.05, reorder=0.10, corrupt=0.02, jitter=0.004)


class TestTransfer:
    def test_unidirectional_streams_from_both_sides(self) -> None:
        pair = Pair().handshake()
        for ours, theirs in (
            (pair.client_handler, pair.server_handler),
            (pair.server_handler, pair.client_handler),
        ):
            stream = open_stream(ours.session, unidirectional=True)
            upload(ours, stream, b"settings")
            assert pair.run(lambda s=stream, t=theirs: s in t.ended)
            assert theirs.data[stream] == b"settings"
        pair.run(seconds=1)
        for session in (pair.client, pair.server):
            assert not session._quic._streams

    def test_an_end_without_data_is_told_once(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        assert pair.client.send(stream, b"", True) == 0
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert pair.server_handler.data[stream] == b""
        assert not pair.server._quic.inbound

    def test_finished_streams_are_forgotten_and_make_room_for_new_ones(self) -> None:
        """RFC 9000 section 4.6: MAX_STREAMS follows streams as they close."""
        pair = Pair(server=server_parameters(max_streams_bidi=10)).handshake()
        done = 0
        for _ in range(100):
            stream = pair.client.open_stream(False)
            if stream is None:
                assert pair.run(lambda: pair.client_handler.streams_available > 0, 5)
                pair.client_handler.streams_available = 0
                stream = open_stream(pair.client)
            upload(pair.client_handler, stream, b"request")
            assert pair.run(lambda s=stream: s in pair.server_handler.ended)
            upload(pair.server_handler, stream, b"response")
            assert pair.run(lambda s=stream: s in pair.client_handler.ended)
            done += 1
        pair.run(seconds=1)
        assert done == 100
        for session in (pair.client, pair.server):
            assert not session._quic._streams
            assert not session._quic._streams_queue
            assert not session._quic.inbound
            assert session._quic.work.buffered == 0

    def test_calls_on_streams_that_are_over_are_ignored(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, b"x")
        assert pair.run(lambda: stream in pair.server_handler.ended)
        upload(pair.server_handler, stream, b"y")
        pair.run(seconds=1)
        for session in (pair.client, pair.server):
            assert session._quic.stream(stream) is None
            for unknown in (stream, 4000, 4001, 4002, 4003):
                assert session.send(unknown, b"abc", True) == 3
                session.consume(unknown, 3)
                session.reset(unknown, 1)
                session.stop_sending(unknown, 1)
        pair.run(seconds=1)
        assert not pair.client_handler.closes
        assert not pair.server_handler.closes


class TestPaths:
    def test_retired_connection_ids_are_reported_and_replaced(self) -> None:
        """RFC 9000 section 5.1.2."""
        pair = Pair().handshake()
        pair.client._quic.change_connection_id()
        pair.client.ping()
        assert pair.run(lambda: bool(pair.server_handler.retired))
        assert pair.server_handler.retired == pair.made_ids[:1]
        assert len(pair.made_ids) == 9
        assert pair.server_handler.issued == pair.made_ids

    def test_datagrams_are_no_larger_than_the_peer_takes(self) -> None:
        """max_udp_payload_size (RFC 9000 section 18.2), which aioquic ignores."""
        pair = Pair(
            server=server_parameters(max_datagram_size=1400),
            client=client_parameters(max_datagram_size=1200),
        )
        limit = b"\x03\x02" + (0x4000 | 1250).to_bytes(2, "big")
        original = pair.client._quic._serialize_transport_parameters
        pair.client._quic._serialize_transport_parameters = lambda: original() + limit  # type: ignore[method-assign]
        pair.client._quic._connect(pair.network.now)
        pair.handshake()
        stream = open_stream(pair.server, unidirectional=True)
        upload(pair.server_handler, stream, pattern(50_000))
        start = len(pair.network.sent)
        assert pair.run(lambda: stream in pair.client_handler.ended)
        sizes = [len(p) for _, source, _, p in pair.network.sent[start:] if source == SERVER]
        assert max(sizes) == 1250


class TestRuns:
    """What flush returns has the shape of UDP GSO."""

    def test_equal_sizes_to_one_place_are_joined_and_a_shorter_one_ends_a_run(self) -> None:
        here, there = ("192.0.2.1", 1), ("192.0.2.2", 2)
        datagrams = [(b"a" * 10, here), (b"b" * 10, here), (b"c" * 4, here), (b"d" * 4, here)]
        datagrams += [(b"e" * 10, here), (b"f" * 10, there), (b"g" * 12, there)]
        assert _runs_of(datagrams) == [
            Transmit(b"a" * 10 + b"b" * 10 + b"c" * 4, 10, here),
            Transmit(b"dddd", 4, here),
            Transmit(b"e" * 10, 10, here),
            Transmit(b"f" * 10, 10, there),
            Transmit(b"g" * 12, 12, there),
        ]

    def test_runs_fit_one_sendmsg(self) -> None:
        here = ("192.0.2.1", 1)
        small = _runs_of([(b"x" * 100, here)] * 150)
        assert [len(run.payload) // 100 for run in small] == [64, 64, 22]
        large = _runs_of([(b"x" * 1400, here)] * 100)
        assert all(len(run.payload) <= 65_487 for run in large)
        assert sum(len(run.payload) for run in large) == 140_000


def test_a_run_is_replayed_from_its_seed() -> None:
    def trace() -> list[tuple[float, str]]:
        pair = Pair(11, link=ROUGH).handshake()
        streams = [open_stream(pair.client) for _ in range(40)]
        for stream in streams:
            upload(pair.client_handler, stream, pattern(5_000))
        assert pair.run(lambda: pair.server_handler.ended == set(streams))
        return [(round(when, 6), source[0]) for when, source, _, _ in pair.network.sent]

    assert trace() == trace()
