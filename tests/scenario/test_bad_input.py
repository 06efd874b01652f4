"""What a hostile client sends, made by hand (attacks 11 to 22)."""

import random
from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic.aioquic_tls import HANDSHAKE_MESSAGE_MAX
from spooky.protocol.quic.certificates import CertificateSelector
from spooky.protocol.quic.engines import AIOQUIC, Engine
from spooky.protocol.quic.limits import DEFAULT_LIMITS
from spooky.protocol.quic.packet import ConnectionIds, parse_header
from spooky.protocol.quic.session import Datagram, QuicSession
from tests.certificates import leaf, shared_ca
from tests.protocol.quic.forge import (
    Initials,
    client_hello,
    closed_with,
    crypto_frame,
    new_connection_id,
    send,
    stream_frame,
    varint,
)
from tests.protocol.quic.support import (
    SLOT,
    Recorder,
    identity_of,
    open_stream,
    server_parameters,
)
from tests.scenario.endpoints import Scenario
from tests.simnet import CLIENT, SERVER

KIB = 1024
AHEAD_MAX = DEFAULT_LIMITS.crypto_ahead_bytes


def half_open(
    engine: Engine, initials: Initials, frames: bytes, **server: Any
) -> tuple[QuicSession, Recorder]:
    """Begin a connection with an Initial of these frames; ``server`` changes its parameters."""
    first = initials(frames)
    header = parse_header(first.payload)
    assert header is not None
    session = engine.server_session(
        server_parameters(**server), header, CLIENT, 1000.0, ConnectionIds(SLOT).make
    )
    session.handler = recorder = Recorder()
    recorder.session = session
    session.receive([first], 1000.0)
    return session, recorder


class TestCryptoFrames:
    """Attack 12 (CVE-2023-39322, RFC 9000 section 7.5)."""

    def test_data_far_ahead_closes(self, engine: Engine) -> None:
        session, recorder = half_open(engine, Initials(), crypto_frame(AHEAD_MAX, b"x"))
        assert recorder.closes[0].error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
        assert session.flush(1000.0)

    def test_pieces_are_limited(self, engine: Engine) -> None:
        initials = Initials()
        session, recorder = half_open(
            engine, initials, b"".join(crypto_frame(2 * i, b"x") for i in range(1, 101))
        )
        assert not recorder.closes
        session.receive([initials(crypto_frame(300, b"x"))], 1000.0)
        assert recorder.closes[0].error_code == QuicErrorCode.PROTOCOL_VIOLATION

    def test_an_empty_frame_ahead_changes_nothing(self, engine: Engine) -> None:
        """Found by fuzzing: there is no piece to keep for later."""
        session, recorder = half_open(engine, Initials(), crypto_frame(15, b""))
        session.receive([Initials()(b"\x01")], 1000.0)
        assert not recorder.closes

    def test_an_endless_message_closes(self, engine: Engine) -> None:
        """A TLS header can announce 16 MiB, which aioquic collects in quadratic time."""
        initials = Initials()
        session, recorder = half_open(engine, initials, crypto_frame(0, b"\x01\xff\xff\xff"))
        offset = 4
        while not recorder.closes and offset < 2 * HANDSHAKE_MESSAGE_MAX:
            session.receive([initials(crypto_frame(offset, bytes(1000)))], 1000.0)
            offset += 1000
        assert recorder.closes[0].error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
        assert offset <= HANDSHAKE_MESSAGE_MAX + 1000

    def test_it_holds_after_the_handshake_too(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        send(pair, crypto_frame(AHEAD_MAX, b"x"))
        closed_with(pair, QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)


class TestMalformedInput:
    """Attack 14: what a peer sends ends its connection, and nothing else; h3spec has more."""

    @pytest.mark.parametrize(
        ("frames", "error_code"),
        [
            (bytes(3) + b"\x08", QuicErrorCode.FRAME_ENCODING_ERROR),
            (b"\x30abc", QuicErrorCode.PROTOCOL_VIOLATION),
            (stream_frame(2 + 4 * 16, 0, b"x"), QuicErrorCode.STREAM_LIMIT_ERROR),
            (
                stream_frame(0, 0, b"xy", fin=True) + stream_frame(0, 2, b"x"),
                QuicErrorCode.FINAL_SIZE_ERROR,
            ),
        ],
    )
    def test_frames(self, engine: Engine, frames: bytes, error_code: int) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        send(pair, frames)
        closed_with(pair, error_code)

    def test_random_frames_are_all_foreseen(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Anything a client may put into a packet is answered, or closed for what it is."""
        numbers = random.Random(1)
        kinds = [*range(0x20), 0x30, 0x31]
        for _ in range(60):
            pair = Scenario((AIOQUIC, engine), numbers.randrange(1 << 30)).handshake()
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

    def test_random_hellos_are_all_foreseen(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        numbers = random.Random(2)
        for _ in range(150):
            hello = b"\x01" + numbers.randrange(300).to_bytes(3, "big") + b"\x03\x03"
            frames = crypto_frame(0, hello + numbers.randbytes(numbers.randrange(400)))
            initials = Initials()
            session, _ = half_open(engine, initials, frames)
            session.receive([initials(numbers.randbytes(200))], 1000.1)
            session.flush(1000.1)
        assert not caplog.records


class TestConnectionIds:
    def test_too_many_are_refused(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        for sequence in range(10, 20):
            send(pair, new_connection_id(sequence, 0))
        closed_with(pair, QuicErrorCode.CONNECTION_ID_LIMIT_ERROR)

    def test_only_issued_ones_can_be_retired(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        send(pair, b"\x19" + varint(200))
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


class TestAcknowledgements:
    def test_negative_ranges_are_refused(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        send(pair, b"\x02" + varint(2) + varint(0) * 2 + varint(5))
        closed_with(pair, QuicErrorCode.FRAME_ENCODING_ERROR)


class TestAmplification:
    """Attack 15 (RFC 9000 sections 8.1 and 14.1)."""

    def test_small_initials_are_ignored(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine))
        pair.network.drop = lambda source, payload: True
        pair.run(seconds=0.01)
        first = pair.network.sent[0][3][:1199]
        pair.server_host.deliver([Datagram(first, CLIENT)], pair.network.now)
        assert pair.server.terminated

    def test_packets_ahead_of_their_keys_count_once(self, engine: Engine) -> None:
        """They are kept, and looked at again once the hello has come."""
        large = leaf(["example.test"], shared_ca(), padding=12_000)
        parameters = server_parameters(certificates=CertificateSelector({}, identity_of(large)))
        initials, now, answered = Initials(), 1000.0, 0
        handshake = b"\xe0\x00\x00\x00\x01\x08" + initials.destination + b"\x00\x44\x9e"
        hello = client_hello(initials.source)
        batch = [
            initials(crypto_frame(0, hello[:100])),
            Datagram(handshake + bytes(0x49E), CLIENT),
            initials(crypto_frame(100, hello[100:])),
        ]
        header = parse_header(batch[0].payload)
        assert header is not None
        session = engine.server_session(parameters, header, CLIENT, now, ConnectionIds(SLOT).make)
        session.handler = recorder = Recorder()
        recorder.session = session
        for datagram in batch:
            session.receive([datagram], now)
            answered += sum(len(run.payload) for run in session.flush(now))
        assert not recorder.closes
        received = sum(len(datagram.payload) for datagram in batch)
        assert received < answered <= 3 * received

    def test_half_open_connections_send_three_times_what_came(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine))
        pair.network.drop = lambda source, payload: source == SERVER
        pair.run(seconds=0.015)
        first = next(p for _, source, _, p in pair.network.sent if source == CLIENT)
        answered = sum(len(p) for _, source, _, p in pair.network.sent if source == SERVER)
        received = sum(len(datagram.payload) for datagram in pair.server_host.received)
        assert received >= len(first)
        assert 0 < answered <= 3 * received


class TestStops:
    def test_repeated_stops_are_told_once(self, engine: Engine) -> None:
        pair = Scenario((AIOQUIC, engine)).handshake()
        stream = open_stream(pair.client)
        pair.client.send(stream, b"x", False)
        assert pair.run(lambda: stream in pair.server_handler.data)
        for _ in range(10):
            send(pair, *[b"\x05" + varint(stream) + varint(7)] * 20)
        assert pair.server_handler.stops == [(stream, 7)]
