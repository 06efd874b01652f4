"""Priorities of responses on an HTTP/3 connection (RFC 9218)."""

import pytest

from spooky._core import h3_errors as errors
from spooky._core import reasons
from spooky._core.h3_frames import PRIORITY_UPDATE_REQUEST
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky.protocol.h3.limits import Limits
from spooky.protocol.priorities import SHARED
from tests.protocol.h3.peers import (
    CONTROL,
    GET,
    OK,
    REQUEST,
    SERVER_CONTROL,
    Server,
    control,
    headers,
    make_client,
    make_server,
)


def update(stream_id: int, value: bytes) -> bytes:
    return encode_frame(PRIORITY_UPDATE_REQUEST, encode_varint(stream_id) + value)


def serve(*requests: bytes | None, limits: Limits | None = None) -> Server:
    """Return a server with a control stream and a request for each priority field."""
    server = make_server(limits)
    server.quic.deliver(CONTROL, control())
    for index, value in enumerate(requests):
        fields = GET if value is None else [*GET, (b"priority", value)]
        server.quic.deliver(4 * index, headers(fields), True)
    return server


def priority(server: Server, stream_id: int = REQUEST) -> tuple[int, bool]:
    return server.quic.priorities.get(stream_id, tuple(SHARED))


def test_our_control_stream_goes_before_everything() -> None:
    assert serve().quic.priorities == {SERVER_CONTROL: (-1, False)}


def test_without_a_signal_all_share() -> None:
    """QUIC is not even told, as that is how it begins."""
    server = serve(None, None)
    server.stream().send_head(OK, False)
    assert server.quic.priorities == {SERVER_CONTROL: (-1, False)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"u=0", (0, False)),
        (b"i", (3, True)),
        (b"u=7, i", (7, True)),
        (b"", (3, False)),
        (b"u=9, i=3, x", (3, False)),
    ],
)
def test_the_field_of_a_request(value: bytes, expected: tuple[int, bool]) -> None:
    """RFC 9218 section 4: what is omitted or bad has its default."""
    assert priority(serve(value)) == expected


def test_several_lines_are_one_field() -> None:
    server = make_server()
    server.quic.deliver(REQUEST, headers([*GET, (b"priority", b"u=1"), (b"priority", b"i")]), True)
    assert priority(server) == (1, True)


def test_a_malformed_field_is_no_signal() -> None:
    """RFC 8941 section 4.2."""
    assert priority(serve(b"u=1,")) == tuple(SHARED)


def test_a_first_signal_gives_the_silent_their_defaults() -> None:
    """Such clients leave out what is the default: before and after it."""
    server = serve(None, b"u=5", None)
    assert [priority(server, stream_id) for stream_id in (0, 4, 8)] == [
        (3, False), (5, False), (3, False),
    ]  # fmt: skip


def test_an_update_replaces_what_the_request_said() -> None:
    """RFC 9218 section 7: it is a complete set, so what it omits has its default."""
    server = serve(b"u=5, i")
    server.quic.deliver(CONTROL, update(REQUEST, b"u=1"))
    assert priority(server) == (1, False)
    server.quic.deliver(CONTROL, update(REQUEST, b""))
    assert priority(server) == (3, False)
    server.quic.deliver(CONTROL, update(REQUEST, b"u=7,"))
    assert priority(server) == (3, False)


def test_an_update_ahead_of_its_request_outweighs_the_field() -> None:
    server = serve()
    server.quic.deliver(CONTROL, update(REQUEST, b"u=6") + update(REQUEST, b"u=0, i"))
    assert REQUEST not in server.quic.priorities
    server.quic.deliver(REQUEST, headers([*GET, (b"priority", b"u=4")]), True)
    assert priority(server) == (0, True)
    assert server.session.priorities.early == {}


def test_an_update_between_a_streams_first_byte_and_its_head() -> None:
    server = serve()
    head = headers([*GET, (b"priority", b"u=4")])
    server.quic.deliver(REQUEST, head[:5])
    server.quic.deliver(CONTROL, update(REQUEST, b"u=2"))
    server.quic.deliver(REQUEST, head[5:], True)
    assert priority(server) == (2, False)


def test_a_response_overrides_what_it_names() -> None:
    """RFC 9218 section 8, with its example; and it goes on to when the client changes its mind."""
    server = serve(b"u=5, i")
    server.stream().send_head([*OK, (b"priority", b"u=1")], False)
    assert priority(server) == (1, True)
    server.quic.deliver(CONTROL, update(REQUEST, b"u=7"))
    assert priority(server) == (1, False)


def test_a_response_without_a_body_needs_no_order() -> None:
    server = serve(None)
    server.stream().send_head([*OK, (b"priority", b"u=1")], True)
    assert REQUEST not in server.quic.priorities


def test_a_bad_value_of_a_response_changes_nothing() -> None:
    server = serve(b"u=5, i")
    server.stream().send_head([*OK, (b"priority", b"u=1,")], False)
    assert priority(server) == (5, True)


def test_an_update_for_a_request_that_is_over_is_ignored() -> None:
    server = serve(b"u=5")
    server.stream().reset(reasons.CLIENT_RESET)
    server.quic.deliver(CONTROL, update(REQUEST, b"u=1"))
    assert priority(server) == (5, False)
    assert server.session.priorities.early == {}


def test_what_is_kept_for_streams_to_come_is_bounded() -> None:
    """RFC 9218 section 7.2: beyond the limit of streams is H3_ID_ERROR."""
    server = serve()
    server.quic.peer_stream_limit = 10
    for stream_id in range(0, 40, 4):
        for urgency in (b"u=1", b"u=2"):
            server.quic.deliver(CONTROL, update(stream_id, urgency))
    assert len(server.session.priorities.early) == 10
    assert server.quic.closed is None
    server.quic.deliver(CONTROL, update(40, b"u=1"))
    assert server.quic.closed is not None
    assert server.quic.closed[0] == errors.H3_ID_ERROR


def test_a_flood_of_updates_ends_the_connection() -> None:
    """Attack 8: each is a frame that costs its sender nothing."""
    server = serve(b"u=1", limits=Limits(max_useless_frames=20))
    for _ in range(40):
        if server.quic.closed is None:
            server.quic.deliver(CONTROL, update(REQUEST, b"u=2"))
    assert server.quic.closed is not None
    assert server.quic.closed[0] == errors.H3_EXCESSIVE_LOAD


def test_an_update_on_a_request_stream() -> None:
    server = serve()
    server.quic.deliver(REQUEST, update(REQUEST, b"u=1"))
    assert server.quic.closed is not None
    assert server.quic.closed[0] == errors.H3_FRAME_UNEXPECTED


def test_an_update_from_a_server() -> None:
    client = make_client()
    client.quic.deliver(SERVER_CONTROL, control() + update(REQUEST, b"u=1"))
    assert client.quic.closed is not None
    assert client.quic.closed[0] == errors.H3_FRAME_UNEXPECTED
