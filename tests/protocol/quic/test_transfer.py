"""Connections from handshake to close, over networks that misbehave (RFC 9000)."""

import dataclasses

import pytest

from spooky.protocol.quic.aioquic_session import _runs_of
from spooky.protocol.quic.packet import VERSION_1, VERSION_2, PacketHeader, parse_header
from spooky.protocol.quic.session import Datagram, Transmit
from tests.protocol.quic.support import (
    SLOT,
    Pair,
    client_parameters,
    open_stream,
    pattern,
    server_parameters,
    upload,
)
from tests.simnet import CLIENT, SERVER, Link, Network

ROUGH = Link(loss=0.10, duplicate=0.05, reorder=0.10, corrupt=0.02, jitter=0.004)


class TestHandshake:
    @pytest.mark.parametrize(
        ("client", "server", "agreed"),
        [
            ((VERSION_1,), (VERSION_1, VERSION_2), VERSION_1),
            ((VERSION_2,), (VERSION_1, VERSION_2), VERSION_2),
            ((VERSION_1, VERSION_2), (VERSION_1,), VERSION_1),
            ((VERSION_2, VERSION_1), (VERSION_1, VERSION_2), VERSION_2),
        ],
    )
    def test_versions(self, client: tuple[int, ...], server: tuple[int, ...], agreed: int) -> None:
        """RFC 9000 and RFC 9369."""
        pair = Pair(
            server=server_parameters(versions=server), client=client_parameters(versions=client)
        ).handshake()
        for handler in (pair.client_handler, pair.server_handler):
            assert handler.handshake is not None
            assert handler.handshake.version == agreed
            assert handler.handshake.alpn == "h3"
            assert handler.handshake.server_name == "example.test"
            assert not handler.handshake.resumed

    @pytest.mark.parametrize("seed", range(8))
    def test_it_survives_a_rough_network(self, seed: int) -> None:
        Pair(seed, link=dataclasses.replace(ROUGH, loss=0.2)).handshake()

    def test_the_first_datagram_is_not_answered_with_more_than_its_size_tells(self) -> None:
        """Both sides fill their Initial datagrams (RFC 9000 section 14.1)."""
        pair = Pair().handshake()
        initials = [payload for _, _, _, payload in pair.network.sent if payload[0] & 0xF0 == 0xC0]
        assert initials
        assert min(map(len, initials)) >= 1200


class TestTransfer:
    @pytest.mark.parametrize("seed", range(4))
    def test_both_directions_at_once_over_a_rough_network(self, seed: int) -> None:
        pair = Pair(seed, link=ROUGH).handshake()
        up, down = pattern(400_000, 1), pattern(500_000, 2)
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, up)
        assert pair.run(lambda: stream in pair.server_handler.data)
        upload(pair.server_handler, stream, down)
        assert pair.run(
            lambda: stream in pair.server_handler.ended and stream in pair.client_handler.ended, 300
        )
        assert pair.server_handler.data[stream] == up
        assert pair.client_handler.data[stream] == down

    @pytest.mark.parametrize("congestion_control", ["reno", "cubic"])
    def test_many_streams(self, congestion_control: str) -> None:
        pair = Pair(
            3,
            link=Link(loss=0.02, jitter=0.003),
            server=server_parameters(congestion_control=congestion_control),
        ).handshake()
        streams = [open_stream(pair.client) for _ in range(100)]
        for stream in streams:
            upload(pair.client_handler, stream, pattern(5_000, stream))
        assert pair.run(lambda: pair.server_handler.ended == set(streams))
        for stream in streams:
            assert pair.server_handler.data[stream] == pattern(5_000, stream)
            upload(pair.server_handler, stream, pattern(20_000, stream + 1))
        assert pair.run(lambda: pair.client_handler.ended == set(streams))
        for stream in streams:
            assert pair.client_handler.data[stream] == pattern(20_000, stream + 1)

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

    def test_the_stream_limit_is_the_peers(self) -> None:
        pair = Pair(server=server_parameters(max_streams_bidi=3, max_streams_uni=2)).handshake()
        assert [pair.client.open_stream(False) for _ in range(4)] == [0, 4, 8, None]
        assert [pair.client.open_stream(True) for _ in range(3)] == [2, 6, None]
        assert pair.client_handler.streams_available == 0
        for stream in (0, 4, 8):
            upload(pair.client_handler, stream, b"x")
            assert pair.run(lambda s=stream: s in pair.server_handler.ended)
            upload(pair.server_handler, stream, b"y")
        assert pair.run(lambda: pair.client_handler.streams_available > 0, 5)
        assert open_stream(pair.client) == 12

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
    def test_a_rebound_client_goes_on(self) -> None:
        """NAT rebinding (RFC 9000 section 9.3.3); attack 19."""
        pair = Pair(link=Link(latency=0.01)).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, pattern(1_000_000))
        assert pair.run(lambda: pair.server_handler.total(stream) > 100_000)
        elsewhere = ("192.0.2.1", 61000)
        pair.network.rebind(pair.client_host, elsewhere)
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert pair.server.peer == elsewhere
        upload(pair.server_handler, stream, pattern(300_000))
        assert pair.run(lambda: stream in pair.client_handler.ended)
        assert pair.client_handler.data[stream] == pattern(300_000)

    def test_an_unproven_address_gets_three_times_what_it_sent(self) -> None:
        """RFC 9000 section 8.1 and 9.3; attack 19."""
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, b"get")
        assert pair.run(lambda: stream in pair.server_handler.ended)
        upload(pair.server_handler, stream, pattern(2_000_000))
        assert pair.run(lambda: pair.client_handler.total(stream) > 50_000)
        spoofed = ("203.0.113.9", 1)
        pair.network.rebind(pair.client_host, spoofed)
        # Nothing comes back from there, as if the address were somebody else's.
        pair.network.drop = lambda source, payload: source == SERVER
        before = len(pair.network.sent)
        pair.client.ping()
        pair.run(seconds=3)
        after = pair.network.sent[before:]
        to = sum(len(p) for _, _, destination, p in after if destination == spoofed)
        out_of = sum(len(p) for _, source, _, p in after if source == spoofed)
        assert 0 < to <= 3 * out_of

    def test_connection_ids_carry_the_slot_and_are_all_reported(self) -> None:
        pair = Pair().handshake()
        assert pair.server_handler.issued == pair.made_ids
        assert len(pair.made_ids) == 8
        assert {connection_id[0] for connection_id in pair.made_ids} == {SLOT}
        chosen = pair.network.sent[0][3][6:14]
        first_server_packet = next(p for _, source, _, p in pair.network.sent if source == SERVER)
        source_id_at = 7 + first_server_packet[5]
        assert first_server_packet[source_id_at : source_id_at + 8] == pair.made_ids[0]
        for _, source, _, payload in pair.network.sent:
            if source == CLIENT:
                used = payload[6:14] if payload[0] & 0x80 else payload[1:9]
                assert used in {chosen, *pair.made_ids}

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


class TestEnd:
    def test_the_client_closes(self) -> None:
        pair = Pair().handshake()
        pair.client.close(0x100, "bye", True)
        ours, theirs = pair.closed()
        assert (ours.error_code, ours.is_application, ours.by_peer) == (0x100, True, False)
        assert (theirs.error_code, theirs.is_application, theirs.by_peer) == (0x100, True, True)
        assert ours.phrase == theirs.phrase == "bye"

    def test_the_server_closes_with_a_transport_error(self) -> None:
        pair = Pair().handshake()
        pair.server.close(0x1, "broken", False)
        theirs, ours = pair.closed()
        assert (ours.error_code, ours.is_application, ours.by_peer) == (0x1, False, False)
        assert (theirs.error_code, theirs.is_application, theirs.by_peer) == (0x1, False, True)

    def test_a_closed_connection_is_over_after_three_probe_timeouts(self) -> None:
        """RFC 9000 section 10.2."""
        pair = Pair().handshake()
        pair.client.close(0, "", True)
        pair.closed()
        assert not pair.client.terminated
        assert pair.run(lambda: pair.client.terminated and pair.server.terminated, 2)
        assert pair.client.deadline() is None
        assert pair.client.flush(pair.network.now) == []

    def test_a_lost_goodbye_is_said_again(self) -> None:
        """RFC 9000 section 10.2.1: in answer to packets, ever more rarely."""
        pair = Pair().handshake()
        pair.network.drop = lambda source, payload: source == SERVER
        pair.server.close(0x101, "gone", True)
        pair.run(lambda: bool(pair.server_handler.closes))
        pair.network.drop = lambda source, payload: False
        pair.client.ping()
        assert pair.run(lambda: bool(pair.client_handler.closes), 0.2)
        assert pair.client_handler.closes[0].error_code == 0x101

    def test_goodbyes_grow_rare(self) -> None:
        pair = Pair().handshake()
        pair.server.close(0x101, "gone", True)
        pair.run(lambda: bool(pair.server_handler.closes))
        packets = [p for _, source, _, p in pair.network.sent if source == CLIENT]
        answers = 0
        for _ in range(100):
            pair.server_host.deliver([_datagram(packets[-1])], pair.network.now)
            answers += len(pair.server.flush(pair.network.now))
        assert 5 <= answers <= 8

    def test_silence_ends_it(self) -> None:
        """RFC 9000 section 10.1: the smaller of both idle timeouts."""
        pair = Pair(
            server=server_parameters(idle_timeout=5.0), client=client_parameters(idle_timeout=60.0)
        ).handshake()
        started = pair.network.now
        ours, theirs = pair.closed()
        assert 4 < pair.network.now - started < 6
        assert ours.timed_out
        assert theirs.timed_out
        assert ours.error_code == theirs.error_code == 0
        assert pair.client.terminated
        assert pair.server.terminated

    def test_a_peer_without_idle_timeout_leaves_ours(self) -> None:
        """RFC 9000 section 18.2: zero means none, not at once, as aioquic has it."""
        pair = Pair(client=client_parameters(idle_timeout=0.0)).handshake()
        pair.run(seconds=20)
        assert not pair.server_handler.closes

    def test_pings_keep_it(self) -> None:
        pair = Pair(server=server_parameters(idle_timeout=3.0)).handshake()
        for _ in range(5):
            pair.client.ping()
            pair.client.ping()
            pair.run(seconds=2)
        assert not pair.server_handler.closes

    def test_closing_inside_an_upcall_ends_the_upcalls(self) -> None:
        pair = Pair().handshake()
        seen: list[int] = []

        def close(stream_id: int, data: bytes, fin: bool) -> None:
            seen.append(stream_id)
            pair.server.close(0x107, "enough", True)

        pair.server_handler.on_data = close
        for _ in range(3):
            upload(pair.client_handler, open_stream(pair.client), b"x")
        pair.closed()
        assert len(seen) == 1

    def test_a_server_that_got_nothing_valid_keeps_nothing(self) -> None:
        """Attack 13: an Initial that cannot be decrypted costs no state."""
        pair = Pair()
        pair.network.drop = lambda source, payload: True
        pair.run(seconds=0.01)
        forged = bytearray(pair.network.sent[0][3])
        forged[100] ^= 1
        pair.network.drop = lambda source, payload: False
        pair.network.send(bytes(forged), CLIENT, SERVER)
        pair.run(lambda: bool(pair.server_handler.closes), 1)
        assert pair.server.terminated
        assert pair.server.deadline() is None
        assert pair.server.flush(pair.network.now) == []

    def test_closing_before_anything_came(self) -> None:
        pair = Pair()
        pair.network.drop = lambda source, payload: True
        pair.run(seconds=0.01)
        pair.network.drop = lambda source, payload: False
        first = _datagram(pair.network.sent[0][3])
        session = pair.begin(first, _header(first.payload), pair.network.now)
        session.close(0, "", False)
        assert session.flush(pair.network.now) == []
        assert session.terminated
        assert len(pair.server_handler.closes) == 1


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

    def test_a_bulk_transfer_leaves_in_long_runs(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, pattern(1_000_000))
        longest = 0
        flush = pair.client.flush

        def measure(now: float) -> list[Transmit]:
            nonlocal longest
            runs = flush(now)
            longest = max([longest, *(len(run.payload) // run.segment_size for run in runs)])
            return runs

        pair.client.flush = measure  # type: ignore[method-assign]
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert longest >= 10


def test_a_run_is_replayed_from_its_seed() -> None:
    def trace() -> list[tuple[float, str]]:
        pair = Pair(11, link=ROUGH).handshake()
        streams = [open_stream(pair.client) for _ in range(40)]
        for stream in streams:
            upload(pair.client_handler, stream, pattern(5_000))
        assert pair.run(lambda: pair.server_handler.ended == set(streams))
        return [(round(when, 6), source[0]) for when, source, _, _ in pair.network.sent]

    assert trace() == trace()


def test_the_network_loses_reorders_and_duplicates_as_told() -> None:
    network = Network(5, Link(loss=0.5, duplicate=0.5, reorder=0.5))
    got: list[bytes] = []
    host = network.add_server(lambda first, header, now: pytest.fail("no Initial was sent"))
    for number in range(1000):
        network.send(bytes((number >> 8, number & 255)), CLIENT, SERVER)
    network.run(seconds=1)
    got = [datagram.payload for datagram in host.received]
    assert 600 < len(got) < 900
    assert 400 < len(set(got)) < 600
    assert got != sorted(got)


def _datagram(payload: bytes) -> Datagram:
    return Datagram(payload, CLIENT)


def _header(payload: bytes) -> PacketHeader:
    header = parse_header(payload)
    assert header is not None
    return header
