"""What a hostile peer tries: rows 11 to 22 of the attack catalogue, and aioquic's own gaps."""

import itertools
import logging
import random
import tracemalloc

import pytest
from aioquic import tls
from aioquic.quic.connection import MAX_REMOTE_CHALLENGES, QuicConnectionError
from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic.aioquic_session import server_session
from spooky.protocol.quic.aioquic_tls import CRYPTO_AHEAD_MAX, HANDSHAKE_MESSAGE_MAX
from spooky.protocol.quic.packet import make_connection_id, parse_header
from spooky.protocol.quic.reassembly import GAPS_MAX, GapBudget
from spooky.protocol.quic.session import Datagram
from spooky.protocol.quic.windows import CONNECTION_WINDOW, STREAM_WINDOW
from tests.protocol.quic.forge import (
    Initials,
    crypto_frame,
    new_connection_id,
    packet,
    send,
    stream_frame,
    varint,
)
from tests.protocol.quic.support import (
    SLOT,
    AioquicSession,
    Pair,
    Recorder,
    effort,
    open_stream,
    server_parameters,
    upload,
)
from tests.simnet import CLIENT, SERVER

KIB = 1024


def closed_with(pair: Pair, error_code: int) -> None:
    """Expect the server to have closed the connection for a transport error."""
    assert pair.server_handler.closes, "the connection is still open"
    close = pair.server_handler.closes[0]
    assert (close.error_code, close.is_application, close.by_peer) == (error_code, False, False)
    pair.run(lambda: bool(pair.client_handler.closes), 5)
    assert pair.client_handler.closes[0].error_code == error_code


def half_open(initials: Initials, frames: bytes) -> tuple[AioquicSession, Recorder]:
    """Begin a connection with an Initial of these frames."""
    first = initials(frames)
    header = parse_header(first.payload)
    assert header is not None
    session = server_session(
        server_parameters(), header, CLIENT, 1000.0, lambda: make_connection_id(SLOT)
    )
    session.handler = recorder = Recorder()
    recorder.session = session
    session.receive([first], 1000.0)
    return session, recorder


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

    def test_a_byte_beyond_a_streams_window_closes(self) -> None:
        pair = Pair().handshake()
        send(pair, stream_frame(0, STREAM_WINDOW, b"x"))
        closed_with(pair, QuicErrorCode.FLOW_CONTROL_ERROR)

    def test_pieces_are_limited(self) -> None:
        pair = Pair().handshake()
        offsets = itertools.count(2, 2)
        for _ in range(GAPS_MAX // 100):
            send(pair, *(stream_frame(0, next(offsets), b"x") for _ in range(100)))
        assert not pair.server_handler.closes
        assert pair.server._quic.work.gaps.count == GAPS_MAX
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


class TestCryptoFrames:
    """Attack 12 (CVE-2023-39322, RFC 9000 section 7.5)."""

    HELLO_OF = b"\x01"

    def test_data_far_ahead_closes(self) -> None:
        session, recorder = half_open(Initials(), crypto_frame(CRYPTO_AHEAD_MAX, b"x"))
        assert recorder.closes[0].error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
        assert session.flush(1000.0)

    def test_pieces_are_limited(self) -> None:
        initials = Initials()
        session, recorder = half_open(
            initials, b"".join(crypto_frame(2 * i, b"x") for i in range(1, 101))
        )
        assert not recorder.closes
        session.receive([initials(crypto_frame(300, b"x"))], 1000.0)
        assert recorder.closes[0].error_code == QuicErrorCode.PROTOCOL_VIOLATION

    def test_an_endless_message_closes(self) -> None:
        """A TLS header can announce 16 MiB, which aioquic collects in quadratic time."""
        initials = Initials()
        session, recorder = half_open(initials, crypto_frame(0, b"\x01\xff\xff\xff"))
        offset = 4
        while not recorder.closes and offset < 2 * HANDSHAKE_MESSAGE_MAX:
            session.receive([initials(crypto_frame(offset, bytes(1000)))], 1000.0)
            offset += 1000
        assert recorder.closes[0].error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
        assert HANDSHAKE_MESSAGE_MAX - 1000 <= offset <= HANDSHAKE_MESSAGE_MAX + 1000

    def test_it_holds_after_the_handshake_too(self) -> None:
        pair = Pair().handshake()
        send(pair, crypto_frame(CRYPTO_AHEAD_MAX, b"x"))
        closed_with(pair, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)


class TestMalformedInput:
    """Attack 14: what a peer sends ends its connection, and nothing else."""

    @pytest.mark.parametrize(
        ("frames", "error_code"),
        [
            (b"\x21", QuicErrorCode.FRAME_ENCODING_ERROR),
            (bytes(3) + b"\x08", QuicErrorCode.FRAME_ENCODING_ERROR),
            (b"\x1e", QuicErrorCode.PROTOCOL_VIOLATION),
            (b"\x30abc", QuicErrorCode.PROTOCOL_VIOLATION),
            (stream_frame(1, 0, b"x"), QuicErrorCode.STREAM_STATE_ERROR),
            (stream_frame(3, 0, b"x"), QuicErrorCode.STREAM_STATE_ERROR),
            (stream_frame(4 * 128, 0, b"x"), QuicErrorCode.STREAM_LIMIT_ERROR),
            (stream_frame(2 + 4 * 16, 0, b"x"), QuicErrorCode.STREAM_LIMIT_ERROR),
            (
                stream_frame(0, 0, b"xy", fin=True) + stream_frame(0, 2, b"x"),
                QuicErrorCode.FINAL_SIZE_ERROR,
            ),
        ],
    )
    def test_frames(self, frames: bytes, error_code: int) -> None:
        pair = Pair().handshake()
        send(pair, frames)
        closed_with(pair, error_code)

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

    def test_random_frames_are_all_foreseen(self, caplog: pytest.LogCaptureFixture) -> None:
        """Anything a client may put into a packet is answered, or closed for what it is."""
        numbers = random.Random(1)
        kinds = [*range(0x20), 0x30, 0x31]
        for _ in range(60):
            pair = Pair(numbers.randrange(1 << 30)).handshake()
            for _ in range(40):
                if pair.server_handler.closes:
                    break
                frames = b"".join(
                    varint(numbers.choice(kinds))
                    + b"".join(varint(numbers.choice((0, 1, 2, 4, 9, 300))) for _ in range(4))
                    + numbers.randbytes(numbers.randrange(20))
                    for _ in range(numbers.randrange(1, 4))
                )
                send(pair, frames)
                pair.run(seconds=0.02)
        assert not caplog.records

    def test_random_hellos_are_all_foreseen(self, caplog: pytest.LogCaptureFixture) -> None:
        numbers = random.Random(2)
        for _ in range(150):
            hello = b"\x01" + numbers.randrange(300).to_bytes(3, "big") + b"\x03\x03"
            frames = crypto_frame(0, hello + numbers.randbytes(numbers.randrange(400)))
            initials = Initials()
            session, _ = half_open(initials, frames)
            session.receive([initials(numbers.randbytes(200))], 1000.1)
            session.flush(1000.1)
        assert not caplog.records


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

    def test_too_many_are_refused(self) -> None:
        pair = Pair().handshake()
        for sequence in range(10, 20):
            send(pair, new_connection_id(sequence, 0))
        closed_with(pair, QuicErrorCode.CONNECTION_ID_LIMIT_ERROR)

    def test_only_issued_ones_can_be_retired(self) -> None:
        pair = Pair().handshake()
        send(pair, b"\x19" + varint(200))
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


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

    def test_negative_ranges_are_refused(self) -> None:
        pair = Pair().handshake()
        send(pair, b"\x02" + varint(2) + varint(0) * 2 + varint(5))
        closed_with(pair, QuicErrorCode.FRAME_ENCODING_ERROR)


class TestAmplification:
    """Attack 15 (RFC 9000 sections 8.1 and 14.1)."""

    def test_small_initials_are_ignored(self) -> None:
        pair = Pair()
        pair.network.drop = lambda source, payload: True
        pair.run(seconds=0.01)
        first = pair.network.sent[0][3][:1199]
        pair.server_host.deliver([Datagram(first, CLIENT)], pair.network.now)
        assert pair.server.terminated

    def test_half_open_connections_send_three_times_what_came(self) -> None:
        pair = Pair()
        pair.network.drop = lambda source, payload: source == SERVER
        pair.run(seconds=0.015)
        first = next(p for _, source, _, p in pair.network.sent if source == CLIENT)
        answered = sum(len(p) for _, source, _, p in pair.network.sent if source == SERVER)
        received = sum(len(datagram.payload) for datagram in pair.server_host.received)
        assert received >= len(first)
        assert 0 < answered <= 3 * received


class TestStops:
    def test_repeated_stops_are_told_once(self) -> None:
        pair = Pair().handshake()
        stream = open_stream(pair.client)
        pair.client.send(stream, b"x", False)
        assert pair.run(lambda: stream in pair.server_handler.data)
        for _ in range(10):
            send(pair, *[b"\x05" + varint(stream) + varint(7)] * 20)
        assert pair.server_handler.stops == [(stream, 7)]


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
