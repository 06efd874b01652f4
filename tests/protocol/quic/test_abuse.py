"""What a hostile peer tries: rows 11 to 22 of the attack catalogue, and aioquic's own gaps."""

import itertools
import logging
import tracemalloc

import pytest
from aioquic import tls
from aioquic.quic.connection import MAX_REMOTE_CHALLENGES, QuicConnectionError
from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic.limits import DEFAULT_LIMITS
from spooky.protocol.quic.reassembly import GapBudget
from spooky.protocol.quic.session import Datagram
from spooky.protocol.quic.windows import CONNECTION_WINDOW, STREAM_WINDOW
from tests.protocol.quic.forge import (
    closed_with,
    new_connection_id,
    packet,
    send,
    stream_frame,
    varint,
)
from tests.protocol.quic.support import (
    Pair,
    effort,
    open_stream,
    server_parameters,
    upload,
)
from tests.simnet import CLIENT

KIB = 1024


class TestFlowControlGreed:
    """Attack 11 (CVE-2026-44433, RFC 9000 sections 4 and 21.7)."""

    def test_single_bytes_at_the_edge_of_windows_hold_one_window(self) -> None:
        pair = Pair().handshake()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for stream in range(0, 4 * 4, 4):
            send(pair, stream_frame(stream, STREAM_WINDOW - 1, b"x"))
            for _ in range(5):
                pair.run(seconds=0.1)
                # Where aioquic would double the window, and double it again.
                send(pair, stream_frame(stream, STREAM_WINDOW - 1, b"x"))
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert not pair.server_handler.closes
        assert after - before < CONNECTION_WINDOW + 256 * KIB
        send(pair, stream_frame(16, 0, b"x"))
        closed_with(pair, QuicErrorCode.FLOW_CONTROL_ERROR)

    def test_pieces_are_limited(self) -> None:
        pair = Pair().handshake()
        offsets = itertools.count(2, 2)
        for _ in range(DEFAULT_LIMITS.stream_pieces // 100):
            send(pair, *(stream_frame(0, next(offsets), b"x") for _ in range(100)))
        assert not pair.server_handler.closes
        assert pair.server._quic.work.gaps.count == DEFAULT_LIMITS.stream_pieces
        send(pair, stream_frame(4, 2, b"x"))
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)

    def test_filled_gaps_count_no_more(self) -> None:
        pair = Pair().handshake()
        for offset in range(0, 4000, 2):
            send(pair, stream_frame(0, offset + 1, b"b"), stream_frame(0, offset, b"a"))
        assert pair.server_handler.data[0] == b"ab" * 2000
        assert pair.server._quic.work.gaps.count == 0

    def test_many_pieces_cost_no_more_each_than_few(self) -> None:
        """aioquic scans a list of ranges from the start for each piece."""
        pair = Pair().handshake()

        def cost(first: int) -> int:
            frames = [stream_frame(0, first + 2 * i, b"x") for i in range(100)]
            batch = [Datagram(packet(pair, b"".join(frames)), CLIENT)]
            return effort(lambda: pair.server_host.deliver(batch, pair.network.now))

        few = cost(2)
        for first in range(202, 3602, 200):
            cost(first)
        assert cost(3602) <= few
        assert not pair.server_handler.closes

    def test_a_reset_lets_go_of_pieces(self) -> None:
        pair = Pair().handshake()
        for stream in range(0, 4 * 60, 4):
            send(pair, *(stream_frame(stream, offset, b"x") for offset in range(2, 202, 2)))
            send(pair, b"\x04" + varint(stream) + varint(0) + varint(500))
        assert not pair.server_handler.closes
        assert pair.server._quic.work.gaps.count == 0


class TestMalformedInput:
    """Attack 14: what a peer sends ends its connection, and nothing else."""

    def test_retiring_every_connection_id_closes(self) -> None:
        """aioquic fails with an IndexError: the one repeated here is retired, so not added."""
        pair = Pair().handshake()
        quic = pair.server._quic
        quic._peer_cid_available.clear()
        quic._peer_cid_sequence_numbers = {0, 30}
        send(pair, new_connection_id(30, 30))
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)

    def test_what_aioquic_did_not_foresee_ends_the_connection(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pair = Pair().handshake()

        def fail(**named: object) -> None:
            raise IndexError("unforeseen")

        monkeypatch.setattr(pair.server._quic._loss, "on_ack_received", fail)
        with caplog.at_level(logging.ERROR):
            send(pair, b"\x02" + varint(0) * 4)
        closed_with(pair, QuicErrorCode.INTERNAL_ERROR)
        assert "unforeseen" in caplog.text

    @pytest.mark.parametrize("method", ["datagrams_to_send", "handle_timer"])
    def test_so_it_does_when_sending(
        self, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pair = Pair().handshake()

        def fail(now: float) -> None:
            raise IndexError("unforeseen")

        monkeypatch.setattr(pair.server._quic, method, fail)
        pair.server.expire(pair.network.now)
        pair.server.flush(pair.network.now)
        assert pair.server_handler.closes[0].error_code == QuicErrorCode.INTERNAL_ERROR
        assert pair.server.terminated
        assert "unforeseen" in caplog.text


class TestConnectionIds:
    def test_retirement_floods_close(self) -> None:
        """Attack 17 (CVE-2024-22189): RETIRE_CONNECTION_ID cannot be made to pile up."""
        pair = Pair().handshake()
        # Acknowledgements withheld, our answers cannot leave.
        pair.server._quic._loss._cc.congestion_window = 0
        for sequence in range(10, 100):
            send(pair, new_connection_id(sequence, sequence))
            if pair.server_handler.closes:
                break
        assert len(pair.server._quic._retire_connection_ids) <= 4 * 8 + 1
        # The client never hears: it is told at an ID that it does not have.
        error = pair.server_handler.closes[0].error_code
        assert error == QuicErrorCode.CONNECTION_ID_LIMIT_ERROR


class TestPaths:
    def test_challenges_are_answered_up_to_a_limit(self) -> None:
        """Attack 18 (CVE-2023-49295): responses do not queue up, nor are they sent again."""
        pair = Pair().handshake()
        for number in range(20):
            send(pair, *(b"\x1a" + bytes((number, i)) * 4 for i in range(100)))
        path = pair.server._quic._network_paths[0]
        assert len(path.remote_challenges) == MAX_REMOTE_CHALLENGES
        pair.run(seconds=1)
        assert not path.remote_challenges

    def test_paths_are_limited(self) -> None:
        """Attack 19: addresses seen are not remembered without end."""
        pair = Pair().handshake()
        for port in range(1, 200):
            datagram = Datagram(packet(pair, b"\x01"), ("203.0.113.5", port))
            pair.server_host.deliver([datagram], pair.network.now)
        assert len(pair.server._quic._network_paths) <= 8


class TestAcknowledgements:
    def test_what_was_never_sent_cannot_be_acknowledged(self) -> None:
        """Attack 20 (RFC 9000 section 13.1): aioquic takes it, and believes the rest lost."""
        pair = Pair().handshake()
        send(pair, b"\x02" + varint(pair.server._quic._packet_number) + varint(0) * 3)
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)

    def test_what_was_sent_can(self) -> None:
        pair = Pair().handshake()
        send(pair, b"\x02" + varint(pair.server._quic._packet_number - 1) + varint(0) * 3)
        assert not pair.server_handler.closes

    def test_skipped_packet_numbers_catch_optimists(self) -> None:
        """Attack 20 (RFC 9000 section 21.4)."""
        pair = Pair().handshake()
        quic = pair.server._quic
        stream = open_stream(pair.server, unidirectional=True)
        upload(pair.server_handler, stream, bytes(3_000_000))
        assert pair.run(lambda: len(quic._skipped) >= 2)
        assert not pair.server_handler.closes
        skipped = quic._skipped[-1]
        assert skipped not in quic._spaces[tls.Epoch.ONE_RTT].sent_packets
        send(pair, b"\x02" + varint(skipped) + varint(0) * 3)
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)

    def test_honest_peers_are_not_caught(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.server, unidirectional=True)
        upload(pair.server_handler, stream, bytes(6_000_000))
        assert pair.run(lambda: stream in pair.client_handler.ended)
        assert len(pair.server._quic._skipped) >= 3
        assert not pair.server_handler.closes

    def test_ranges_are_limited(self) -> None:
        """Attack 21 (aioquic#549)."""
        pair = Pair().handshake()
        for _ in range(300):
            pair.client._quic._packet_number += 1
            send(pair, b"\x01")
        assert len(pair.server._quic._spaces[tls.Epoch.ONE_RTT].ack_queue) <= 64


class TestManyStreams:
    def test_idle_streams_cost_nothing_per_packet(self) -> None:
        """aioquic looks at every open stream for every packet it sends."""

        def cost(idle: int) -> int:
            pair = Pair(server=server_parameters(max_streams_bidi=2000)).handshake()
            for _ in range(idle):
                pair.client.send(open_stream(pair.client), b"long poll", True)
            pair.run(seconds=1)
            for stream in range(0, 4 * idle, 4):
                pair.server.send(stream, b"no news", False)
            pair.run(seconds=1)
            assert len(pair.server._quic._streams) == idle
            assert not pair.server._quic._streams_queue
            upload(pair.server_handler, open_stream(pair.server, unidirectional=True), bytes(9000))
            return effort(lambda: pair.server.flush(pair.network.now))

        assert cost(500) <= 1.1 * cost(1)


def test_the_gap_error_is_a_connection_error() -> None:
    """It must end in a close; aioquic turns only its own errors into one."""
    with pytest.raises(QuicConnectionError):
        GapBudget(1).take(2)
