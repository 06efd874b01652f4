"""The client's unidirectional streams, beside what h3spec asks."""

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import CANCEL_PUSH, GOAWAY, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS
from spooky._core.h3_wire import encode_frame, encode_varint
from tests.protocol.h3.peers import (
    CONTROL,
    DECODER,
    ENCODER,
    GET,
    OTHER,
    REQUEST,
    SERVER_CONTROL,
    Server,
    control,
    headers,
    make_server,
)

REQUEST_PRIORITY = 0xF0700
PUSH_PRIORITY = 0xF0701


def error_code(server: Server) -> int:
    assert server.quic.closed is not None
    return server.quic.closed[0]


def push_id(kind: int, identifier: int) -> bytes:
    return encode_frame(kind, encode_varint(identifier))


LEGAL = (
    control({0x6: 4000, 0x33: 1, 0x21: 7})
    + encode_frame(0x21, b"grease")
    + push_id(MAX_PUSH_ID, 0)
    + push_id(MAX_PUSH_ID, 0)
    + push_id(MAX_PUSH_ID, 8)
    + push_id(GOAWAY, 9)
    + push_id(GOAWAY, 9)
    + push_id(GOAWAY, 0)
    + encode_frame(REQUEST_PRIORITY, b"\x04u=1, i")
)


@pytest.mark.parametrize("step", [1, 7, len(LEGAL)])
def test_what_is_legal_on_a_control_stream(step: int) -> None:
    server = make_server()
    for start in range(0, len(LEGAL), step):
        server.quic.deliver(CONTROL, LEGAL[start : start + step])
    assert server.quic.closed is None
    assert server.session.peer_max_field_section_size == 4000
    assert server.quic.outstanding(CONTROL) == 0


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode_frame(PUSH_PROMISE, b"\0"), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0x02, b""), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0x06, b""), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0x08, b""), errors.H3_FRAME_UNEXPECTED),
        (encode_frame(0x09, b""), errors.H3_FRAME_UNEXPECTED),
        (push_id(CANCEL_PUSH, 0), errors.H3_ID_ERROR),
        (push_id(MAX_PUSH_ID, 8) + push_id(MAX_PUSH_ID, 7), errors.H3_ID_ERROR),
        (push_id(GOAWAY, 7) + push_id(GOAWAY, 8), errors.H3_ID_ERROR),
        (push_id(PUSH_PRIORITY, 0), errors.H3_ID_ERROR),
        (push_id(REQUEST_PRIORITY, 2), errors.H3_ID_ERROR),
        (push_id(REQUEST_PRIORITY, 1), errors.H3_ID_ERROR),
        (encode_frame(REQUEST_PRIORITY, b""), errors.H3_FRAME_ERROR),
        (encode_frame(GOAWAY, b""), errors.H3_FRAME_ERROR),
        (encode_frame(GOAWAY, b"\0\0"), errors.H3_FRAME_ERROR),
        (encode_frame(MAX_PUSH_ID, b"\x40"), errors.H3_FRAME_ERROR),
    ],
)
def test_what_is_not(frame: bytes, code: int) -> None:
    """RFC 9114 sections 5.2, 7.1 and 7.2, RFC 9218 section 7.2."""
    server = make_server()
    server.quic.deliver(CONTROL, control() + frame)
    assert error_code(server) == code


def test_truncated_settings() -> None:
    """RFC 9114 section 7.1."""
    server = make_server()
    server.quic.deliver(CONTROL, encode_varint(0) + encode_frame(SETTINGS, b"\x06"))
    assert error_code(server) == errors.H3_FRAME_ERROR


@pytest.mark.parametrize(
    ("stream_id", "first"), [(CONTROL, control()), (ENCODER, b"\x02"), (DECODER, b"\x03")]
)
def test_there_is_one_of_each_critical_stream(stream_id: int, first: bytes) -> None:
    """RFC 9114 section 6.2.1, RFC 9204 section 4.2; attack 25."""
    server = make_server()
    server.quic.deliver(stream_id, first)
    assert server.quic.closed is None
    server.quic.deliver(OTHER, first)
    assert error_code(server) == errors.H3_STREAM_CREATION_ERROR


def test_a_client_must_not_open_a_push_stream() -> None:
    """RFC 9114 section 6.2.2."""
    server = make_server()
    server.quic.deliver(OTHER, encode_varint(1))
    assert error_code(server) == errors.H3_STREAM_CREATION_ERROR


@pytest.mark.parametrize("kind", [0x21, 0x54, 2**62 - 5])
def test_unknown_streams_are_discarded(kind: int) -> None:
    """RFC 9114 section 6.2.3: they are no error, but nobody has to read them."""
    server = make_server()
    first = encode_varint(kind)
    for index in range(len(first)):
        server.quic.deliver(OTHER, first[index : index + 1])
    assert server.quic.stops == {OTHER: errors.H3_STREAM_CREATION_ERROR}
    # What was under way is not taken for a new stream, whatever it looks like.
    server.quic.deliver(OTHER, encode_varint(1))
    server.session.on_stream_reset(OTHER, errors.H3_STREAM_CREATION_ERROR)
    assert server.quic.closed is None
    assert server.quic.outstanding(OTHER) == 0


@pytest.mark.parametrize("wire", [b"", b"\x40"])
@pytest.mark.parametrize("how", ["ended", "reset"])
def test_a_stream_may_end_before_its_type_is_known(wire: bytes, how: str) -> None:
    """RFC 9114 section 6.2."""
    server = make_server()
    if how == "ended":
        server.quic.deliver(OTHER, wire, fin=True)
    else:
        if wire:
            server.quic.deliver(OTHER, wire)
        server.session.on_stream_reset(OTHER, 0)
    server.quic.deliver(OTHER, encode_varint(1))
    assert server.quic.closed is None


def test_our_control_stream_is_critical_too() -> None:
    """RFC 9114 section 6.2.1."""
    server = make_server()
    server.session.on_stop_sending(SERVER_CONTROL, 0)
    assert error_code(server) == errors.H3_CLOSED_CRITICAL_STREAM


def test_encoder_instructions_without_effect_are_legal() -> None:
    """RFC 9204 section 4.3.1."""
    server = make_server()
    server.quic.deliver(ENCODER, b"\x02\x20\x20")
    assert server.quic.closed is None


@pytest.mark.parametrize(
    "instruction",
    ["21", "3f01", "c001ff", "4161", "00", "7fffffffffff"],
    ids=["capacity 1", "capacity 32", "static name", "literal name", "duplicate", "endless name"],
)
def test_encoder_instructions_need_a_table(instruction: str) -> None:
    """RFC 9204 sections 3.2.2 and 4.3; attack 25: judged by the first byte, nothing is buffered."""
    server = make_server()
    server.quic.deliver(ENCODER, encode_varint(2))
    server.quic.deliver(ENCODER, bytes.fromhex(instruction)[:1])
    if instruction.startswith("3f"):
        assert server.quic.closed is not None
    assert error_code(server) == errors.QPACK_ENCODER_STREAM_ERROR


@pytest.mark.parametrize("step", [1, 100])
def test_stream_cancellations_are_legal(step: int) -> None:
    """RFC 9204 section 4.4.2."""
    server = make_server()
    wire = bytes.fromhex("03 40 44 7f00 7fff01 7fc1ffffffffffffff3f 41")
    for start in range(0, len(wire), step):
        server.quic.deliver(DECODER, wire[start : start + step])
    assert server.quic.closed is None


@pytest.mark.parametrize(
    "instruction",
    ["80", "ff00", "00", "01", "3f00", "7f" + "ff" * 9, "4080"],
    ids=[
        "acknowledgment", "long acknowledgment", "increment 0", "increment 1", "long increment",
        "too large stream ID", "acknowledgment after a cancellation",
    ],
)  # fmt: skip
def test_there_is_nothing_to_acknowledge(instruction: str) -> None:
    """RFC 9204 sections 4.4.1 and 4.4.3."""
    server = make_server()
    server.quic.deliver(DECODER, encode_varint(3) + bytes.fromhex(instruction))
    assert error_code(server) == errors.QPACK_DECODER_STREAM_ERROR


def test_a_closed_connection_takes_nothing_more() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers(GET))
    server.quic.deliver(CONTROL, control() + encode_frame(0x02, b""))
    server.quic.deliver(CONTROL, encode_frame(0x02, b""))
    server.quic.deliver(4, headers(GET), fin=True)
    server.session.shutdown()
    server.session.on_streams_available()
    server.stream().send_data(b"x", True)
    assert server.request.reset is reasons.CLIENT_PROTOCOL_ERROR
    assert len(server.requests) == 1
