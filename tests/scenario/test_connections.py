"""Connections from handshake to close, over networks that misbehave (RFC 9000)."""

import dataclasses

import pytest

from spooky.protocol.quic.packet import VERSION_1, VERSION_2, PacketHeader, parse_header
from spooky.protocol.quic.session import Datagram, QuicSession, Transmit
from tests.protocol.quic.support import (
    SLOT,
    open_stream,
    pattern,
    upload,
)
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import CLIENT, SERVER, Link

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
    def test_versions(
        self, engines: Engines, client: tuple[int, ...], server: tuple[int, ...], agreed: int
    ) -> None:
        """RFC 9000 and RFC 9369."""
        pair = Scenario(
            engines, server={"versions": server}, client={"versions": client}
        ).handshake()
        for handler in (pair.client_handler, pair.server_handler):
            assert handler.handshake is not None
            assert handler.handshake.version == agreed
            assert handler.handshake.alpn == "h3"
            assert handler.handshake.server_name == "example.test"
            assert not handler.handshake.resumed

    @pytest.mark.parametrize("seed", range(8))
    def test_it_survives_a_rough_network(self, engines: Engines, seed: int) -> None:
        Scenario(engines, seed, link=dataclasses.replace(ROUGH, loss=0.2)).handshake()

    def test_the_first_datagram_is_not_answered_with_more_than_its_size_tells(
        self, engines: Engines
    ) -> None:
        """Both sides fill their Initial datagrams (RFC 9000 section 14.1)."""
        pair = Scenario(engines).handshake()
        initials = [payload for _, _, _, payload in pair.network.sent if payload[0] & 0xF0 == 0xC0]
        assert initials
        assert min(map(len, initials)) >= 1200


class TestTransfer:
    @pytest.mark.parametrize("seed", range(4))
    def test_both_directions_at_once_over_a_rough_network(
        self, engines: Engines, seed: int
    ) -> None:
        pair = Scenario(engines, seed, link=ROUGH).handshake()
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
    def test_many_streams(self, engines: Engines, congestion_control: str) -> None:
        pair = Scenario(
            engines,
            3,
            link=Link(loss=0.02, jitter=0.003),
            server={"congestion_control": congestion_control},
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

    def test_the_stream_limit_is_the_peers(self, engines: Engines) -> None:
        pair = Scenario(engines, server={"max_streams_bidi": 3, "max_streams_uni": 2}).handshake()
        assert [pair.client.open_stream(False) for _ in range(4)] == [0, 4, 8, None]
        assert [pair.client.open_stream(True) for _ in range(3)] == [2, 6, None]
        assert pair.client_handler.streams_available == 0
        for stream in (0, 4, 8):
            upload(pair.client_handler, stream, b"x")
            assert pair.run(lambda s=stream: s in pair.server_handler.ended)
            upload(pair.server_handler, stream, b"y")
        assert pair.run(lambda: pair.client_handler.streams_available > 0, 5)
        assert open_stream(pair.client) == 12


class TestPaths:
    def test_a_rebound_client_goes_on(self, engines: Engines) -> None:
        """NAT rebinding (RFC 9000 section 9.3.3); attack 19."""
        pair = Scenario(engines, link=Link(latency=0.01)).handshake()
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

    def test_an_unproven_address_gets_three_times_what_it_sent(self, engines: Engines) -> None:
        """RFC 9000 section 8.1 and 9.3; attack 19."""
        pair = Scenario(engines).handshake()
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

    def test_connection_ids_carry_the_slot_and_are_all_reported(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        assert pair.server_handler.issued == pair.made_ids
        # aioquic gives and takes 8, we 4.
        only_aioquic = all(engine.name == "aioquic" for engine in engines)
        assert len(pair.made_ids) == (8 if only_aioquic else 4)
        assert {connection_id[0] for connection_id in pair.made_ids} == {SLOT}
        chosen = pair.network.sent[0][3][6:14]
        first_server_packet = next(p for _, source, _, p in pair.network.sent if source == SERVER)
        source_id_at = 7 + first_server_packet[5]
        assert first_server_packet[source_id_at : source_id_at + 8] == pair.made_ids[0]
        for _, source, _, payload in pair.network.sent:
            if source == CLIENT:
                used = payload[6:14] if payload[0] & 0x80 else payload[1:9]
                assert used in {chosen, *pair.made_ids}


class TestEnd:
    def test_the_client_closes(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        pair.client.close(0x100, "bye", True)
        ours, theirs = pair.closed()
        assert (ours.error_code, ours.is_application, ours.by_peer) == (0x100, True, False)
        assert (theirs.error_code, theirs.is_application, theirs.by_peer) == (0x100, True, True)
        assert ours.phrase == theirs.phrase == "bye"

    def test_the_server_closes_with_a_transport_error(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        pair.server.close(0x1, "broken", False)
        theirs, ours = pair.closed()
        assert (ours.error_code, ours.is_application, ours.by_peer) == (0x1, False, False)
        assert (theirs.error_code, theirs.is_application, theirs.by_peer) == (0x1, False, True)

    def test_a_closed_connection_is_over_after_three_probe_timeouts(self, engines: Engines) -> None:
        """RFC 9000 section 10.2."""
        pair = Scenario(engines).handshake()
        pair.client.close(0, "", True)
        pair.closed()
        assert not pair.client.terminated
        assert pair.run(lambda: pair.client.terminated and pair.server.terminated, 2)
        assert pair.client.deadline() is None
        assert pair.client.flush(pair.network.now) == []

    def test_a_lost_goodbye_is_said_again(self, engines: Engines) -> None:
        """RFC 9000 section 10.2.1: in answer to packets, ever more rarely."""
        pair = Scenario(engines).handshake()
        pair.network.drop = lambda source, payload: source == SERVER
        pair.server.close(0x101, "gone", True)
        pair.run(lambda: bool(pair.server_handler.closes))
        pair.network.drop = lambda source, payload: False
        pair.client.ping()
        assert pair.run(lambda: bool(pair.client_handler.closes), 0.2)
        assert pair.client_handler.closes[0].error_code == 0x101

    def test_goodbyes_grow_rare(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        pair.server.close(0x101, "gone", True)
        pair.run(lambda: bool(pair.server_handler.closes))
        packets = [p for _, source, _, p in pair.network.sent if source == CLIENT]
        answers = 0
        for _ in range(100):
            pair.server_host.deliver([_datagram(packets[-1])], pair.network.now)
            answers += len(pair.server.flush(pair.network.now))
        assert 5 <= answers <= 8

    def test_silence_ends_it(self, engines: Engines) -> None:
        """RFC 9000 section 10.1: the smaller of both idle timeouts."""
        pair = Scenario(
            engines, server={"idle_timeout": 5.0}, client={"idle_timeout": 60.0}
        ).handshake()
        started = pair.network.now
        ours, theirs = pair.closed()
        assert 4 < pair.network.now - started < 6
        assert ours.timed_out
        assert theirs.timed_out
        assert ours.error_code == theirs.error_code == 0
        assert pair.client.terminated
        assert pair.server.terminated

    def test_a_peer_without_idle_timeout_leaves_ours(self, engines: Engines) -> None:
        """RFC 9000 section 18.2: zero means none, not at once, as aioquic has it."""
        pair = Scenario(engines, client={"idle_timeout": 0.0}).handshake()
        pair.run(seconds=20)
        assert not pair.server_handler.closes

    def test_pings_keep_it(self, engines: Engines) -> None:
        pair = Scenario(engines, server={"idle_timeout": 3.0}).handshake()
        for _ in range(5):
            pair.client.ping()
            pair.client.ping()
            pair.run(seconds=2)
        assert not pair.server_handler.closes

    def test_closing_inside_an_upcall_ends_the_upcalls(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        seen: list[int] = []

        def close(stream_id: int, data: bytes, fin: bool) -> None:
            seen.append(stream_id)
            pair.server.close(0x107, "enough", True)

        pair.server_handler.on_data = close
        for _ in range(3):
            upload(pair.client_handler, open_stream(pair.client), b"x")
        pair.closed()
        assert len(seen) == 1

    def test_a_server_that_got_nothing_valid_keeps_nothing(self, engines: Engines) -> None:
        """Attack 13: an Initial that cannot be decrypted costs no state."""
        pair = Scenario(engines)
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

    def test_closing_before_anything_came(self, engines: Engines) -> None:
        pair = Scenario(engines)
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

    def test_a_bulk_transfer_leaves_in_long_runs(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, pattern(1_000_000))
        longest = 0

        def measure(session: QuicSession, now: float) -> list[Transmit]:
            nonlocal longest
            runs = session.flush(now)
            if session is pair.client:
                longest = max([longest, *(len(run.payload) // run.segment_size for run in runs)])
            return runs

        pair.network.flush = measure
        assert pair.run(lambda: stream in pair.server_handler.ended)
        assert longest >= 10


def _datagram(payload: bytes) -> Datagram:
    return Datagram(payload, CLIENT)


def _header(payload: bytes) -> PacketHeader:
    header = parse_header(payload)
    assert header is not None
    return header
