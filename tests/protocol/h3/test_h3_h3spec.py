"""The HTTP/3 and QPACK cases of h3spec, each by its name there."""

import pytest

from spooky._core import h3_errors as errors
from spooky._core.h3_frames import CANCEL_PUSH, SETTINGS, encode_settings
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky._core.reasons import H3_MESSAGE_ERROR, Reason
from spooky._core.validate import HTTP_3, Limits, validate_request
from spooky.protocol.stream import Field
from tests.protocol.h3.peers import (
    CONTROL,
    DECODER,
    ENCODER,
    GET,
    POST,
    REQUEST,
    Server,
    control,
    data,
    headers,
    make_server,
)


def error_code(server: Server) -> int:
    """Return what the connection was closed with."""
    assert server.quic.closed is not None
    return server.quic.closed[0]


# --- HTTP/3 -----------------------------------------------------------------------------------


def test_h3_frame_unexpected_if_data_comes_before_headers() -> None:
    """RFC 9114 section 4.1."""
    server = make_server()
    server.quic.deliver(REQUEST, data(b"x") + headers(POST), fin=True)
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([*GET, (b":method", b"GET")], id="if a pseudo-header is duplicated"),
        pytest.param(GET[1:], id="if mandatory pseudo-header fields are absent"),
        pytest.param([*GET, (b":status", b"200")], id="if prohibited pseudo-headers are present"),
        pytest.param(
            [*GET[:3], (b"accept", b"*/*"), GET[3]],
            id="if pseudo-header fields exist after fields",
        ),
    ],
)
def test_h3_message_error(fields: list[Field]) -> None:
    """RFC 9114 sections 4.1.2 and 4.3: the validator refuses it, the session says how."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(fields), fin=True)
    assert server.request.head == fields
    verdict = validate_request(fields, HTTP_3, Limits())
    assert isinstance(verdict, Reason)
    server.stream().reset(verdict)
    assert server.quic.resets == {REQUEST: H3_MESSAGE_ERROR}
    assert server.quic.closed is None


def test_h3_missing_settings_if_first_control_frame_is_not_settings() -> None:
    """RFC 9114 section 6.2.1; a frame of an unknown type is no exception."""
    server = make_server()
    server.quic.deliver(CONTROL, encode_varint(0) + encode_frame(0x21, b"grease"))
    assert error_code(server) == errors.H3_MISSING_SETTINGS


@pytest.mark.parametrize("frame", [data(b"x"), headers(GET)], ids=["DATA", "HEADERS"])
def test_h3_frame_unexpected_if_control_stream_has(frame: bytes) -> None:
    """RFC 9114 sections 7.2.1 and 7.2.2."""
    server = make_server()
    server.quic.deliver(CONTROL, control() + frame)
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED


def test_h3_frame_unexpected_if_a_second_settings_is_received() -> None:
    """RFC 9114 section 7.2.4."""
    server = make_server()
    server.quic.deliver(CONTROL, control() + encode_settings({}))
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED


def test_h3_settings_error_if_duplicate_setting_identifiers_exist() -> None:
    """RFC 9114 section 7.2.4."""
    server = make_server()
    frame = encode_frame(SETTINGS, bytes.fromhex("06 40 64 06 40 64"))
    server.quic.deliver(CONTROL, encode_varint(0) + frame)
    assert error_code(server) == errors.H3_SETTINGS_ERROR


@pytest.mark.parametrize("setting", [0x0, 0x2, 0x3, 0x4, 0x5])
def test_h3_settings_error_if_http2_settings_are_included(setting: int) -> None:
    """RFC 9114 section 7.2.4.1."""
    server = make_server()
    server.quic.deliver(CONTROL, control({setting: 1}))
    assert error_code(server) == errors.H3_SETTINGS_ERROR


def test_h3_frame_unexpected_if_cancel_push_is_on_a_request_stream() -> None:
    """RFC 9114 section 7.2.3."""
    server = make_server()
    server.quic.deliver(REQUEST, headers(POST) + encode_frame(CANCEL_PUSH, b"\x00"))
    assert error_code(server) == errors.H3_FRAME_UNEXPECTED
    assert server.request.reset is not None


# --- QPACK ------------------------------------------------------------------------------------


def test_qpack_decompression_failed_if_invalid_static_table_index_is_in_a_field_line() -> None:
    """RFC 9204 section 3.1: the last index is 98."""
    server = make_server()
    index_99 = bytes.fromhex("0000 ff24")
    server.quic.deliver(REQUEST, encode_frame(0x01, index_99), fin=True)
    assert error_code(server) == errors.QPACK_DECOMPRESSION_FAILED


def test_qpack_encoder_stream_error_if_dynamic_table_capacity_exceeds_the_limit() -> None:
    """RFC 9204 section 4.3.1: ours is 0."""
    server = make_server()
    server.quic.deliver(ENCODER, encode_varint(2) + b"\x20\x3f\xe1\x1f")
    assert error_code(server) == errors.QPACK_ENCODER_STREAM_ERROR


@pytest.mark.parametrize(
    ("stream_id", "first"),
    [(CONTROL, control()), (ENCODER, b"\x02"), (DECODER, b"\x03")],
    ids=["control", "encoder", "decoder"],
)
@pytest.mark.parametrize("how", ["ended", "ended with the type", "reset"])
def test_h3_closed_critical_stream_if_stream_is_closed(
    stream_id: int, first: bytes, how: str
) -> None:
    """RFC 9114 section 6.2.1, RFC 9204 section 4.2."""
    server = make_server()
    server.quic.deliver(stream_id, first, fin=how == "ended with the type")
    if how == "ended":
        server.quic.deliver(stream_id, b"", fin=True)
    elif how == "reset":
        server.session.on_stream_reset(stream_id, 0x100)
    assert error_code(server) == errors.H3_CLOSED_CRITICAL_STREAM


def test_qpack_decoder_stream_error_if_insert_count_increment_is_0() -> None:
    """RFC 9204 section 4.4.3."""
    server = make_server()
    server.quic.deliver(DECODER, encode_varint(3) + b"\x00")
    assert error_code(server) == errors.QPACK_DECODER_STREAM_ERROR
