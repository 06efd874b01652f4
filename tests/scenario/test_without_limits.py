"""Attacks on QUIC that a number of ours stops: the same attack with it, and without it.

What the first half of each test asserts fails in the second: so it is this number that the tests of
the attacks see, and nothing that happens to be near. Rows are those of docs/security/matrix.md.
"""

from dataclasses import replace

import pytest
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from spooky.protocol.quic.certificates import CertificateSelector
from spooky.protocol.quic.engines import AIOQUIC, Engine
from spooky.protocol.quic.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.quic.packet import ConnectionIds, parse_header
from spooky.protocol.quic.session import Datagram
from tests.certificates import leaf, shared_ca
from tests.protocol.quic.forge import (
    Initials,
    client_hello,
    crypto_frame,
    new_connection_id,
    packet,
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
    upload,
)
from tests.scenario.endpoints import Scenario
from tests.scenario.test_bad_input import half_open
from tests.simnet import CLIENT

ENDLESS = 1 << 30
PING = b"\x01"

ITS_OWN = "aioquic has a number of its own"


def without(name: str) -> Limits:
    """Return the limits without one of them."""
    return replace(DEFAULT_LIMITS, **{name: ENDLESS})


def established(engine: Engine, limits: Limits) -> Scenario:
    return Scenario((AIOQUIC, engine), server={"limits": limits}).handshake()


def ended_by(pair: Scenario) -> list[int]:
    """Return the error of the close, if there was one."""
    return [close.error_code for close in pair.server_handler.closes]


@pytest.fixture
def native(engine: Engine) -> Engine:
    """The engine, if the limit is its."""
    if engine is AIOQUIC:
        pytest.skip(ITS_OWN)
    return engine


def test_streams_without_end(engine: Engine) -> None:
    """Row 9."""

    def opened(count: int) -> tuple[int, list[int]]:
        pair = Scenario((AIOQUIC, engine), server={"max_streams_bidi": count}).handshake()
        for number in range(200):
            if not pair.server_handler.closes:
                send(pair, stream_frame(4 * number, 0, b"x"))
        return len(pair.server_handler.data), ended_by(pair)

    assert opened(100) == (100, [QuicErrorCode.STREAM_LIMIT_ERROR])
    assert opened(ENDLESS) == (200, [])


def test_pieces_without_end(engine: Engine) -> None:
    """Row 11."""

    def attack(limits: Limits) -> list[int]:
        pair = established(engine, limits)
        for first in range(2, 6_000, 200):
            if not pair.server_handler.closes:
                send(pair, *(stream_frame(0, first + 2 * n, b"x") for n in range(100)))
        return ended_by(pair)

    assert attack(DEFAULT_LIMITS) == [QuicErrorCode.PROTOCOL_VIOLATION]
    assert attack(without("stream_pieces")) == []


def test_crypto_data_ahead_without_end(engine: Engine) -> None:
    """Row 12."""

    def attack(limits: Limits) -> list[int]:
        _, recorder = half_open(engine, Initials(), crypto_frame(1 << 18, b"x"), limits=limits)
        return [close.error_code for close in recorder.closes]

    assert attack(DEFAULT_LIMITS) == [QuicErrorCode.CRYPTO_BUFFER_EXCEEDED]
    assert attack(without("crypto_ahead_bytes")) == []


def test_pieces_of_crypto_data_without_end(engine: Engine) -> None:
    """Row 12."""

    def attack(limits: Limits) -> list[int]:
        initials = Initials()
        session, recorder = half_open(engine, initials, crypto_frame(2, b"x"), limits=limits)
        for first in range(2, 400, 100):
            if not recorder.closes:
                frames = (crypto_frame(2 * n, b"x") for n in range(first, first + 100))
                session.receive([initials(b"".join(frames))], 1000.0)
        return [close.error_code for close in recorder.closes]

    assert attack(DEFAULT_LIMITS) == [QuicErrorCode.PROTOCOL_VIOLATION]
    assert attack(without("crypto_pieces")) == []


def test_answers_to_an_unproven_address_without_end(engine: Engine) -> None:
    """Row 15: three times what came, or as much as there is for a proven address."""
    large = leaf(["example.test"], shared_ca(), padding=12_000)
    parameters = server_parameters(certificates=CertificateSelector({}, identity_of(large)))

    def answered(validated: bool) -> int:
        initials = Initials()
        first = initials(crypto_frame(0, client_hello(initials.source)))
        header = parse_header(first.payload)
        assert header is not None
        session = engine.server_session(
            parameters, header, CLIENT, 1000.0, ConnectionIds(SLOT).make,
            address_validated=validated,
        )  # fmt: skip
        session.handler = recorder = Recorder()
        recorder.session = session
        session.receive([first], 1000.0)
        return sum(len(run.payload) for run in session.flush(1000.0)) // len(first.payload)

    assert answered(False) <= 3
    assert answered(True) > 3


def test_retirements_without_end(native: Engine) -> None:
    """Row 17: of a peer that acknowledges none of them."""

    def attack(limits: Limits) -> list[int]:
        pair = established(native, limits)
        for sequence in range(100, 300):
            if not pair.server_handler.closes:
                frame = new_connection_id(sequence, sequence)
                pair.server.receive([Datagram(packet(pair, frame), CLIENT)], pair.network.now)
        return ended_by(pair)

    assert attack(DEFAULT_LIMITS) == [QuicErrorCode.CONNECTION_ID_LIMIT_ERROR]
    assert attack(without("retirements")) == []


def test_paths_without_end(native: Engine) -> None:
    """Row 19: each is asked whether it is one."""

    def asked(limits: Limits) -> int:
        pair = established(native, limits)
        session, now = pair.server, pair.network.now
        for port in range(40):
            datagram = Datagram(packet(pair, PING + bytes(60)), ("203.0.113.5", 1000 + port))
            session.receive([datagram], now)
        return len({run.destination for run in session.flush(now)})

    assert asked(DEFAULT_LIMITS) <= 1 + DEFAULT_LIMITS.other_paths
    assert asked(without("other_paths")) > 30


def test_optimists_without_gaps_in_packet_numbers(native: Engine) -> None:
    """Row 20: one who acknowledges all up to the last that it saw, whatever is missing."""

    def attack(limits: Limits) -> list[int]:
        pair = established(native, limits)
        space = pair.client._quic._spaces[Epoch.ONE_RTT]  # type: ignore[attr-defined]
        stream = open_stream(pair.server, unidirectional=True)
        pair.network.drop = lambda source, payload: source == CLIENT
        upload(pair.server_handler, stream, bytes(1_000_000))
        for _ in range(100):
            pair.run(seconds=0.05)
            last = varint(space.largest_received_packet)
            send(pair, b"\x02" + last + bytes(2) + last)
            if pair.server_handler.closes:
                break
        return ended_by(pair)

    assert attack(DEFAULT_LIMITS) == [QuicErrorCode.PROTOCOL_VIOLATION]
    assert attack(without("skip_period")) == []


def test_ranges_of_packet_numbers_without_end(native: Engine) -> None:
    """Row 21: what is remembered shows in which packets are too old to be told from others."""

    def is_remembered(limits: Limits) -> bool:
        pair = established(native, limits)
        quic = pair.client._quic  # type: ignore[attr-defined]
        left_out = quic._packet_number
        for _ in range(300):
            quic._packet_number += 1
            send(pair, PING)
        quic._packet_number = left_out
        send(pair, stream_frame(0, 0, b"x"))
        return 0 in pair.server_handler.data

    assert not is_remembered(DEFAULT_LIMITS)
    assert is_remembered(without("ack_ranges"))
