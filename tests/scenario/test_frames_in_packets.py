"""Which frames each kind of packet may carry (RFC 9000 section 12.4, table 3); others end it.

Those of 0-RTT packets are in ``test_early_data.py``.
"""

import pytest
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from spooky.protocol.quic.engines import AIOQUIC, Engine
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.forge import (
    Initials,
    closed_with,
    crypto_frame,
    new_connection_id,
    packet,
    send,
    stream_frame,
    varint,
)
from tests.scenario.endpoints import Scenario
from tests.scenario.test_bad_input import half_open
from tests.scenario.test_h3spec_transport import half_way
from tests.simnet import CLIENT

PING, HANDSHAKE_DONE = b"\x01", b"\x1e"
AHEAD = crypto_frame(9, b"ahead")
"""aioquic has a first packet hold something of the hello."""

ONLY_OF_THE_APPLICATION = {
    "RESET_STREAM": b"\x04" + varint(0) * 3,
    "STOP_SENDING": b"\x05" + varint(0) * 2,
    "NEW_TOKEN": b"\x07\x01x",
    "STREAM": stream_frame(0, 0, b"x"),
    "STREAM to the end of the packet": b"\x08" + varint(0) + b"x",
    "MAX_DATA": b"\x10" + varint(1 << 20),
    "MAX_STREAM_DATA": b"\x11" + varint(0) + varint(1 << 20),
    "MAX_STREAMS": b"\x12" + varint(100),
    "MAX_STREAMS, unidirectional": b"\x13" + varint(100),
    "DATA_BLOCKED": b"\x14" + varint(0),
    "STREAM_DATA_BLOCKED": b"\x15" + varint(0) * 2,
    "STREAMS_BLOCKED": b"\x16" + varint(0),
    "STREAMS_BLOCKED, unidirectional": b"\x17" + varint(0),
    "NEW_CONNECTION_ID": new_connection_id(1, 0),
    "RETIRE_CONNECTION_ID": b"\x19" + varint(0),
    "PATH_CHALLENGE": b"\x1a" + bytes(8),
    "PATH_RESPONSE": b"\x1b" + bytes(8),
    "CONNECTION_CLOSE of the application": b"\x1d" + varint(0) * 2,
    "HANDSHAKE_DONE": HANDSHAKE_DONE,
}

OF_EVERYONE = {"PADDING": b"\0", "PING": PING, "CRYPTO": AHEAD}


def error_in_initial(engine: Engine, frames: bytes) -> int | None:
    """Return what a server closes for that gets these frames in an Initial packet."""
    _, recorder = half_open(engine, Initials(), AHEAD + frames)
    return recorder.closes[0].error_code if recorder.closes else None


@pytest.mark.parametrize("frame", ONLY_OF_THE_APPLICATION.values(), ids=ONLY_OF_THE_APPLICATION)
def test_what_belongs_to_the_application_is_in_no_packet_of_a_handshake(
    engine: Engine, frame: bytes
) -> None:
    assert error_in_initial(engine, frame) == QuicErrorCode.PROTOCOL_VIOLATION
    pair = half_way(engine)
    send(pair, frame, epoch=Epoch.HANDSHAKE)
    closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


@pytest.mark.parametrize("frame", OF_EVERYONE.values(), ids=OF_EVERYONE)
def test_what_every_packet_may_carry(engine: Engine, frame: bytes) -> None:
    assert error_in_initial(engine, frame) is None
    pair = half_way(engine)
    send(pair, frame, epoch=Epoch.HANDSHAKE)
    assert not pair.server_handler.closes


@pytest.mark.parametrize("epoch", [Epoch.HANDSHAKE, Epoch.ONE_RTT])
def test_a_close_of_the_transport_is_heard_in_every_packet(engine: Engine, epoch: Epoch) -> None:
    pair = half_way(engine) if epoch is Epoch.HANDSHAKE else Scenario((AIOQUIC, engine)).handshake()
    send(pair, b"\x1c" + varint(0x0A) + varint(6) + varint(2) + b"no", epoch=epoch)
    [close] = pair.server_handler.closes
    assert (close.error_code, close.by_peer, close.is_application) == (0x0A, True, False)


def test_a_packet_without_frames_or_of_an_unknown_type_is_refused(engine: Engine) -> None:
    """RFC 9000 section 12.4."""
    assert error_in_initial(engine, b"\x21") == QuicErrorCode.FRAME_ENCODING_ERROR
    for frames, code in (
        (b"", QuicErrorCode.PROTOCOL_VIOLATION),
        (b"\x21", QuicErrorCode.FRAME_ENCODING_ERROR),
    ):
        pair = half_way(engine)
        send(pair, frames, epoch=Epoch.HANDSHAKE)
        closed_with(pair, code)


def test_reserved_bits_in_an_initial_are_a_violation(engine: Engine) -> None:
    """RFC 9000 section 17.2."""
    initials = Initials()
    session, recorder = half_open(engine, initials, AHEAD)
    initials.first_byte |= 0x04
    session.receive([initials(PING)], 1000.1)
    assert recorder.closes[0].error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_a_packet_without_the_fixed_bit_is_dropped(engine: Engine) -> None:
    """RFC 9000 sections 17.2 and 17.3: whatever is in it."""
    initials = Initials()
    session, recorder = half_open(engine, initials, AHEAD)
    initials.first_byte &= ~0x40
    session.receive([initials(HANDSHAKE_DONE)], 1000.1)
    assert not recorder.closes
    pair = Scenario((AIOQUIC, engine)).handshake()
    short = bytearray(packet(pair, HANDSHAKE_DONE + bytes(30)))
    short[0] &= ~0x40
    pair.server.receive([Datagram(bytes(short), CLIENT)], pair.network.now)
    assert not pair.server_handler.closes


def test_an_acknowledgment_of_what_was_never_sent_is_a_violation(engine: Engine) -> None:
    """RFC 9000 section 13.1, in every packet number space."""
    acknowledged = b"\x02" + varint(1000) + varint(0) * 3
    assert error_in_initial(engine, acknowledged) == QuicErrorCode.PROTOCOL_VIOLATION
    for epoch in (Epoch.HANDSHAKE, Epoch.ONE_RTT):
        established = epoch is Epoch.ONE_RTT
        pair = Scenario((AIOQUIC, engine)).handshake() if established else half_way(engine)
        send(pair, acknowledged, epoch=epoch)
        closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


def test_numbers_are_whole_again_however_few_of_their_bytes_a_packet_has(engine: Engine) -> None:
    """RFC 9000 section 17.1 and appendix A.3: also those of packets that were overtaken."""
    pair = Scenario((AIOQUIC, engine)).handshake()
    quic = pair.client._quic  # type: ignore[attr-defined]
    crypto, number = quic._cryptos[Epoch.ONE_RTT], quic._packet_number
    steps = [(1, 127), (1, 127), (1, -100), (1, 200), (2, 32_000), (3, 1 << 22)]
    steps += [(3, 1 << 22), (4, 1 << 30), (4, 1 << 30), (1, 100)]
    for count, (size, step) in enumerate(steps):
        number += step
        header = bytes((0x40 | crypto.key_phase << 2 | size - 1,)) + quic._peer_cid.cid
        header += (number % (1 << 8 * size)).to_bytes(size, "big")
        sealed = crypto.encrypt_packet(header, stream_frame(0, count, b"x") + bytes(9), number)
        pair.server.receive([Datagram(sealed, CLIENT)], pair.network.now)
        assert pair.server_handler.total(0) == count + 1
