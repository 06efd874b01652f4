"""The transport and TLS cases of h3spec, each by its name there: a client that breaks the rules.

Its client is aioquic up to the point where it says what no honest client does. What the server
made of it is read from its own report and from the CONNECTION_CLOSE that the client got.
"""

from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from spooky.observe.segment import private_segment
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.windows import CONNECTION_WINDOW, STREAM_WINDOW
from tests.protocol.quic.forge import (
    closed_with,
    crypto_frame,
    new_connection_id,
    send,
    stream_frame,
    varint,
)
from tests.scenario.endpoints import Scenario, begin_with
from tests.simnet import CLIENT

CRYPTO_ERROR = 0x100
UNEXPECTED_MESSAGE = CRYPTO_ERROR + AlertDescription.unexpected_message

KEY_UPDATE = bytes.fromhex("18 000001 00")
END_OF_EARLY_DATA = bytes.fromhex("05 000000")

SERVER_UNI = 3
"""The server's first unidirectional stream: it alone sends there."""

SERVER_BIDI = 1
"""The server's first bidirectional stream, which it has not opened."""

CLIENT_UNI = 2


def begin(engine: Engine, **server: Any) -> Scenario:
    """A client on aioquic that waits to be told what to do."""
    return Scenario((AIOQUIC, engine), server=server)


# --- transport parameters -----------------------------------------------------------------------


def parameter(number: int, value: bytes) -> bytes:
    return varint(number) + varint(len(value)) + value


def with_parameters(engine: Engine, change: Callable[[bytes], bytes], **server: Any) -> Scenario:
    """A client whose transport parameters are changed before they leave."""
    pair = begin(engine, **server)
    client: Any = pair.client
    serialize = client._quic._serialize_transport_parameters
    client._quic._serialize_transport_parameters = lambda: change(serialize())
    client._quic._connect(pair.network.now)
    return pair


def without_source_connection_id(parameters: bytes) -> bytes:
    start = parameters.index(b"\x0f\x08")
    return parameters[:start] + parameters[start + 10 :]


PREFERRED_ADDRESS = bytes(6) + bytes(18) + b"\x08" + bytes(8) + bytes(16)

TRANSPORT_PARAMETER_CASES: dict[str, Callable[[bytes], bytes]] = {
    "initial_source_connection_id is missing": without_source_connection_id,
    "original_destination_connection_id is received": lambda p: p + parameter(0x00, bytes(8)),
    "preferred_address is received": lambda p: p + parameter(0x0D, PREFERRED_ADDRESS),
    "retry_source_connection_id is received": lambda p: p + parameter(0x10, bytes(8)),
    "stateless_reset_token is received": lambda p: p + parameter(0x02, bytes(16)),
    "max_udp_payload_size < 1200": lambda p: replaced(p, 0x03, varint(1199)),
    "ack_delay_exponent > 20": lambda p: replaced(p, 0x0A, varint(21)),
    "max_ack_delay >= 2^14": lambda p: replaced(p, 0x0B, varint(1 << 14)),
}


def replaced(parameters: bytes, number: int, value: bytes | None) -> bytes:
    """Put in a parameter, if there is a value, and take out what was said of it."""
    position = 0
    kept = b""
    while position < len(parameters):
        start = position
        found, position = pull_varint(parameters, position)
        length, position = pull_varint(parameters, position)
        position += length
        if found != number:
            kept += parameters[start:position]
    return kept if value is None else kept + parameter(number, value)


def pull_varint(data: bytes, position: int) -> tuple[int, int]:
    length = 1 << (data[position] >> 6)
    value = int.from_bytes(data[position : position + length], "big")
    return value & (1 << (8 * length - 2)) - 1, position + length


@pytest.mark.parametrize("case", TRANSPORT_PARAMETER_CASES)
def test_transport_parameter_error_if(engine: Engine, case: str) -> None:
    """RFC 9000 sections 7.3, 7.4 and 18.2."""
    pair = with_parameters(engine, TRANSPORT_PARAMETER_CASES[case])
    closed_with(pair, QuicErrorCode.TRANSPORT_PARAMETER_ERROR)


# --- frames -------------------------------------------------------------------------------------

FRAME_CASES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "FLOW_CONTROL_ERROR if a STREAM frame with a large offset is received": (
        stream_frame(0, STREAM_WINDOW, b"x"),
        (QuicErrorCode.FLOW_CONTROL_ERROR,),
    ),
    "FLOW_CONTROL_ERROR if streams exceed the connection's limit": (
        b"".join(
            stream_frame(stream, STREAM_WINDOW - 1, b"x")
            for stream in range(0, 4 * (CONNECTION_WINDOW // STREAM_WINDOW + 1), 4)
        ),
        (QuicErrorCode.FLOW_CONTROL_ERROR,),
    ),
    "STREAM_LIMIT_ERROR if a stream ID over the limit is received": (
        stream_frame(4 * 128, 0, b"x"),
        (QuicErrorCode.STREAM_LIMIT_ERROR,),
    ),
    "FRAME_ENCODING_ERROR if a frame of unknown type is received": (
        b"\x21",
        (QuicErrorCode.FRAME_ENCODING_ERROR,),
    ),
    "PROTOCOL_VIOLATION on no frames": (b"", (QuicErrorCode.PROTOCOL_VIOLATION,)),
    "STREAM_STATE_ERROR if RESET_STREAM is received for a send-only stream": (
        b"\x04" + varint(SERVER_UNI) + varint(0) * 2,
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "STREAM_STATE_ERROR if STOP_SENDING is received for a non-existing stream": (
        b"\x05" + varint(SERVER_BIDI) + varint(0),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "STREAM_STATE_ERROR if STOP_SENDING is received for a receive-only stream": (
        b"\x05" + varint(CLIENT_UNI) + varint(0),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "PROTOCOL_VIOLATION if NEW_TOKEN is received": (
        b"\x07\x04abcd",
        (QuicErrorCode.PROTOCOL_VIOLATION,),
    ),
    "STREAM_STATE_ERROR if STREAM is for a locally-initiated stream not yet created": (
        stream_frame(SERVER_BIDI, 0, b"x"),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "STREAM_STATE_ERROR if STREAM is for a send-only stream": (
        stream_frame(SERVER_UNI, 0, b"x"),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "STREAM_STATE_ERROR if MAX_STREAM_DATA is for a stream not yet created": (
        b"\x11" + varint(SERVER_BIDI) + varint(1),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "STREAM_STATE_ERROR if MAX_STREAM_DATA is for a receive-only stream": (
        b"\x11" + varint(CLIENT_UNI) + varint(1),
        (QuicErrorCode.STREAM_STATE_ERROR,),
    ),
    "FRAME_ENCODING_ERROR if invalid MAX_STREAMS is received": (
        b"\x12" + varint((1 << 60) + 1),
        (QuicErrorCode.FRAME_ENCODING_ERROR,),
    ),
    "FRAME_ENCODING_ERROR or STREAM_LIMIT_ERROR if invalid STREAMS_BLOCKED is received": (
        b"\x16" + varint((1 << 60) + 1),
        (QuicErrorCode.FRAME_ENCODING_ERROR, QuicErrorCode.STREAM_LIMIT_ERROR),
    ),
    "FRAME_ENCODING_ERROR if NEW_CONNECTION_ID has an invalid Retire_Prior_To": (
        new_connection_id(20, 21),
        (QuicErrorCode.FRAME_ENCODING_ERROR,),
    ),
    "FRAME_ENCODING_ERROR if NEW_CONNECTION_ID has a 0-byte connection ID": (
        new_connection_id(20, 0, b""),
        (QuicErrorCode.FRAME_ENCODING_ERROR,),
    ),
    "FRAME_ENCODING_ERROR if NEW_CONNECTION_ID has a 21-byte connection ID": (
        new_connection_id(20, 0, bytes(21)),
        (QuicErrorCode.FRAME_ENCODING_ERROR,),
    ),
    "PROTOCOL_VIOLATION if HANDSHAKE_DONE is received": (
        b"\x1e",
        (QuicErrorCode.PROTOCOL_VIOLATION,),
    ),
    "unexpected_message if KeyUpdate in 1-RTT is received": (
        crypto_frame(0, KEY_UPDATE),
        (UNEXPECTED_MESSAGE,),
    ),
}


@pytest.mark.parametrize("case", FRAME_CASES)
def test_a_frame_of_an_established_client(engine: Engine, case: str) -> None:
    """RFC 9000 sections 4, 12.4 and 19, RFC 9001 section 6."""
    frames, codes = FRAME_CASES[case]
    pair = begin(engine).handshake()
    send(pair, frames)
    closed_with(pair, *codes)


def test_protocol_violation_if_reserved_bits_in_short_are_non_zero(engine: Engine) -> None:
    """RFC 9000 section 17.3.1."""
    pair = begin(engine).handshake()
    send(pair, b"\x01", reserved=1)
    closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


# --- during the handshake -----------------------------------------------------------------------


def half_way(engine: Engine) -> Scenario:
    """A client that has the keys of Handshake packets, and has sent none."""
    pair = begin(engine)
    said = []

    def after_the_hello(source: object, payload: bytes) -> bool:
        if source == CLIENT:
            said.append(payload)
        return source == CLIENT and len(said) > 1

    pair.network.drop = after_the_hello
    assert pair.run(lambda: len(said) > 1, 0.1)
    assert pair.client_handler.handshake is not None
    assert pair.server_handler.handshake is None
    return pair


HANDSHAKE_CASES: dict[str, tuple[bytes, int]] = {
    "PROTOCOL_VIOLATION if PATH_CHALLENGE in Handshake is received": (
        b"\x1a" + bytes(8),
        QuicErrorCode.PROTOCOL_VIOLATION,
    ),
    "unexpected_message if KeyUpdate in Handshake is received": (
        crypto_frame(0, KEY_UPDATE),
        UNEXPECTED_MESSAGE,
    ),
    "unexpected_message if EndOfEarlyData is received": (
        crypto_frame(0, END_OF_EARLY_DATA),
        UNEXPECTED_MESSAGE,
    ),
}


@pytest.mark.parametrize("case", HANDSHAKE_CASES)
def test_a_frame_in_a_handshake_packet(engine: Engine, case: str) -> None:
    """RFC 9000 section 17.2.4, RFC 9001 sections 6 and 8.3."""
    frames, code = HANDSHAKE_CASES[case]
    pair = half_way(engine)
    send(pair, frames, epoch=tls.Epoch.HANDSHAKE)
    closed_with(pair, code)


def test_protocol_violation_if_reserved_bits_in_handshake_are_non_zero(engine: Engine) -> None:
    """RFC 9000 section 17.2."""
    pair = half_way(engine)
    send(pair, b"\x01", epoch=tls.Epoch.HANDSHAKE, reserved=2)
    closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)


def test_no_application_protocol_if_none_is_supported(engine: Engine) -> None:
    """RFC 9001 section 8.1."""
    pair = Scenario((AIOQUIC, engine), client={"alpn": ("nothing",)})
    closed_with(pair, CRYPTO_ERROR + AlertDescription.no_application_protocol)


def test_missing_extension_if_there_are_no_transport_parameters(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9001 section 8.2."""
    pair = begin(engine)
    begin_with(pair, monkeypatch, lambda tls: tls.handshake_extensions.clear())
    closed_with(pair, CRYPTO_ERROR + AlertDescription.missing_extension)


def test_missing_extension_if_transport_parameters_are_under_the_drafts_number_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9001 section 8.2: 0xffa5 was that of the drafts, and means nothing any more."""
    pair = begin(engine)

    def as_in_drafts(context: tls.Context) -> None:
        [(_, parameters)] = context.handshake_extensions
        context.handshake_extensions = [(0xFFA5, parameters)]

    begin_with(pair, monkeypatch, as_in_drafts)
    closed_with(pair, CRYPTO_ERROR + AlertDescription.missing_extension)


@pytest.mark.needs(Feature.EARLY_DATA)
def test_protocol_violation_if_crypto_in_0_rtt_is_received(engine: Engine) -> None:
    """RFC 9001 section 8.3."""
    store = TicketStore()
    tickets: list[tls.SessionTicket] = []
    server = {"tickets": store, "early_data": EarlyData(private_segment(), ())}
    Scenario((AIOQUIC, engine), client={"on_ticket": tickets.append}, server=server).handshake()
    client = {"ticket": tickets[0], "early_data": True}
    pair = Scenario((AIOQUIC, engine), client=client, server=server)
    assert pair.run(lambda: bool(pair.server_host.received), 1)
    send(pair, crypto_frame(0, b"x"), epoch=tls.Epoch.ZERO_RTT)
    closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)
