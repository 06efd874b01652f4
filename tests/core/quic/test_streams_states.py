"""Streams and their states (RFC 9000 sections 2, 3 and 19): what peers may and may not do."""

import pytest

from spooky._core.quic.errors import QuicError, TransportError
from tests.core.quic.stream_party import (
    DATA_BLOCKED,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    RESET_STREAM,
    STOP_SENDING,
    STREAM,
    STREAM_DATA_BLOCKED,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
    Party,
    frame,
    stream_frame,
    varint,
)


def error_of(party: Party, *frames: bytes) -> TransportError:
    """Return what a connection is closed with for the last of these frames."""
    party.receive(*frames[:-1])
    with pytest.raises(QuicError) as caught:
        party.streams.receive_frame(frames[-1])
    assert caught.value.frame_type == frames[-1][0]
    return TransportError(caught.value.error_code)


# --- requests and their ends (RFC 9000 section 3) -------------------------------------------------


def test_a_request_is_answered_and_both_sides_forget_the_stream() -> None:
    client, server = Party(client=True), Party()
    assert client.streams.open_stream(False) == 0
    assert client.streams.send(0, b"request", True) == 7
    [packet] = client.write_all()
    assert server.receive(stream_frame(0, 0, b"request", True)) == [("data", 0, b"request", True)]
    server.streams.consume(0, 7)
    assert server.streams.send(0, b"response", True) == 8
    [answer] = server.write_all()
    assert client.receive(stream_frame(0, 0, b"response", True)) == [("data", 0, b"response", True)]
    client.streams.consume(0, 8)
    assert client.streams.stream_ids == server.streams.stream_ids == [0]
    client.streams.acked(packet)
    server.streams.acked(answer)
    assert client.streams.stream_ids == server.streams.stream_ids == []
    assert client.streams.has_all_acknowledged()
    assert server.streams.has_all_acknowledged()


def test_an_end_without_data_is_told_and_acknowledged() -> None:
    party = Party(client=True)
    party.streams.open_stream(True)
    assert party.streams.send(2, b"", True) == 0
    assert not party.streams.has_all_acknowledged()
    frames, packet = party.write()
    assert frames == [(STREAM, 2, 0, b"", True)]
    party.streams.acked(packet)
    assert party.streams.has_all_acknowledged()
    assert party.streams.stream_ids == []


def test_a_stream_is_remembered_until_what_was_delivered_is_consumed() -> None:
    party = Party()
    party.receive(stream_frame(2, 0, b"12345", True))
    party.streams.consume(2, 4)
    assert party.streams.stream_ids == [2]
    party.streams.consume(2, 1)
    assert party.streams.stream_ids == []


def test_frames_for_a_finished_stream_are_ignored() -> None:
    party = Party()
    party.receive(stream_frame(0, 0, b"12345", True))
    party.streams.consume(0, 5)
    party.streams.send(0, b"", True)
    party.acknowledge_all()
    assert party.streams.stream_ids == []
    late = [
        stream_frame(0, 0, b"12345", True),
        stream_frame(0, 0, b"123456789"),
        frame(RESET_STREAM, 0, 1, 5),
        frame(STOP_SENDING, 0, 1),
        frame(MAX_STREAM_DATA, 0, 1 << 40),
        frame(STREAM_DATA_BLOCKED, 0, 5),
    ]
    assert party.receive(*late) == []
    assert party.streams.stream_ids == []
    assert party.streams.received == 5


def test_opening_a_stream_opens_those_below_it() -> None:
    """RFC 9000 section 2.1; of its own kind alone."""
    party = Party()
    party.receive(stream_frame(12, 0, b"x"))
    assert party.streams.stream_ids == [0, 4, 8, 12]
    assert party.streams.send(4, b"y", False) == 1
    assert (STREAM, 4, 0, b"y", False) in party.frames()


def test_ids_count_up_by_kind_and_side() -> None:
    client, server = Party(client=True), Party()
    assert [client.streams.open_stream(kind) for kind in (False, True, False, True)] == [0, 2, 4, 6]
    assert [server.streams.open_stream(kind) for kind in (False, True, False, True)] == [1, 3, 5, 7]


# --- frames on the wrong stream (RFC 9000 section 19) ---------------------------------------------


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (stream_frame(3, 0, b"x"), "our unidirectional stream"),
        (frame(RESET_STREAM, 3, 0, 0), "our unidirectional stream"),
        (frame(STREAM_DATA_BLOCKED, 3, 0), "our unidirectional stream"),
        (frame(STOP_SENDING, 2, 0), "their unidirectional stream"),
        (frame(MAX_STREAM_DATA, 2, 9), "their unidirectional stream"),
        (stream_frame(5, 0, b"x"), "one of ours that is not open"),
        (frame(RESET_STREAM, 5, 0, 0), "one of ours that is not open"),
        (frame(STOP_SENDING, 5, 0), "one of ours that is not open"),
        (frame(STOP_SENDING, 7, 0), "one of ours that is not open"),
        (frame(MAX_STREAM_DATA, 5, 9), "one of ours that is not open"),
        (frame(STREAM_DATA_BLOCKED, 5, 9), "one of ours that is not open"),
    ],
)
def test_a_frame_on_a_stream_without_that_direction_is_an_error(bad: bytes, what: str) -> None:
    party = Party()
    party.streams.open_stream(False)
    party.streams.open_stream(True)
    assert error_of(party, bad) == TransportError.STREAM_STATE_ERROR, what


@pytest.mark.parametrize(
    "opening",
    [
        stream_frame(0, 0, b"x"),
        frame(RESET_STREAM, 0, 0, 0),
        frame(STOP_SENDING, 0, 0),
        frame(MAX_STREAM_DATA, 0, 9),
        frame(STREAM_DATA_BLOCKED, 0, 0),
    ],
)
def test_any_frame_about_it_opens_a_stream(opening: bytes) -> None:
    party = Party()
    party.receive(opening)
    assert party.streams.stream_ids == [0]


# --- final sizes (RFC 9000 section 4.5) -----------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        (stream_frame(0, 0, b"12345", True), stream_frame(0, 5, b"6")),
        (stream_frame(0, 3, b"45", True), stream_frame(0, 0, b"123456")),
        (stream_frame(0, 3, b"45", True), stream_frame(0, 0, b"1234", True)),
        (stream_frame(0, 0, b"12345"), stream_frame(0, 0, b"1234", True)),
        (stream_frame(0, 0, b"12345"), frame(RESET_STREAM, 0, 0, 4)),
        (stream_frame(0, 3, b"45", True), frame(RESET_STREAM, 0, 0, 6)),
        (frame(RESET_STREAM, 0, 0, 5), frame(RESET_STREAM, 0, 0, 6)),
        (frame(RESET_STREAM, 0, 0, 5), stream_frame(0, 5, b"6")),
    ],
)
def test_a_final_size_may_not_change(frames: tuple[bytes, bytes]) -> None:
    assert error_of(Party(), *frames) == TransportError.FINAL_SIZE_ERROR


def test_a_final_size_may_be_said_again() -> None:
    party = Party()
    assert party.receive(
        stream_frame(0, 0, b"12345", True),
        stream_frame(0, 2, b"345", True),
        stream_frame(0, 5, b"", True),
        frame(RESET_STREAM, 0, 7, 5),
    ) == [("data", 0, b"12345", True)]


# --- what cannot be encoded (RFC 9000 section 19) -------------------------------------------------

HIGHEST = (1 << 62) - 1


@pytest.mark.parametrize(
    "bad",
    [
        stream_frame(0, HIGHEST, b"x"),
        stream_frame(0, HIGHEST - 3, b"1234", True),
        frame(MAX_STREAMS_BIDI, (1 << 60) + 1),
        frame(MAX_STREAMS_UNI, (1 << 60) + 1),
        frame(STREAMS_BLOCKED_BIDI, (1 << 60) + 1),
        frame(STREAMS_BLOCKED_UNI, (1 << 60) + 1),
        frame(STREAM | 0x02, 0, 6) + b"short",
        frame(STREAM | 0x02, 0, HIGHEST) + b"short",
        frame(STREAM | 0x04, 0) + b"\xc0",
        frame(STREAM),
        frame(RESET_STREAM, 0, 0),
        frame(STOP_SENDING, 0),
        frame(MAX_DATA),
        frame(MAX_STREAM_DATA, 0),
        frame(MAX_STREAMS_BIDI) + b"\x40",
        frame(DATA_BLOCKED),
        frame(STREAM_DATA_BLOCKED, 0),
        frame(STREAMS_BLOCKED_UNI),
    ],
)
def test_what_is_cut_off_or_out_of_range_is_an_encoding_error(bad: bytes) -> None:
    assert error_of(Party(), bad) == TransportError.FRAME_ENCODING_ERROR


def test_the_largest_numbers_are_taken() -> None:
    party = Party()
    party.receive(
        frame(MAX_STREAMS_BIDI, 1 << 60),
        frame(MAX_STREAMS_UNI, 1 << 60),
        frame(STREAMS_BLOCKED_BIDI, 1 << 60),
        frame(MAX_DATA, HIGHEST),
        frame(MAX_STREAM_DATA, 0, HIGHEST),
        frame(DATA_BLOCKED, HIGHEST),
    )
    assert error_of(party, stream_frame(0, HIGHEST - 1, b"x")) == TransportError.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("flags", range(8))
def test_every_form_of_a_stream_frame_is_understood(flags: int) -> None:
    party = Party()
    party.receive(stream_frame(0, 0, b"ab"))
    form = frame(STREAM | flags, 0)
    form += varint(2) if flags & 4 else b""
    form += varint(2) if flags & 2 else b""
    data = b"cd" if flags & 4 else b"abcd"[: 2 if flags & 2 else 4]
    fin = bool(flags & 1)
    if not flags & 4 and flags & 2:
        # All of it is known already: only the end is news.
        expected = [("data", 0, b"", True)] if fin else []
    else:
        expected = [("data", 0, b"cd", fin)]
    assert party.receive(form + data) == expected


# --- resets (RFC 9000 sections 3.2 and 3.5) -------------------------------------------------------


def test_data_is_delivered_before_the_reset_that_follows_it() -> None:
    assert Party().receive(stream_frame(0, 0, b"12345"), frame(RESET_STREAM, 0, 7, 9)) == [
        ("data", 0, b"12345", False),
        ("reset", 0, 7),
    ]


def test_a_reset_is_told_once_and_ends_the_stream() -> None:
    party = Party()
    assert party.receive(frame(RESET_STREAM, 2, 7, 0), frame(RESET_STREAM, 2, 8, 0)) == [
        ("reset", 2, 7)
    ]
    assert party.streams.stream_ids == []


def test_stop_sending_makes_us_reset_with_its_code_and_is_told_once() -> None:
    party = Party()
    party.receive(stream_frame(0, 0, b"request", True))
    party.streams.send(0, bytes(5000), False)
    party.write()
    sent = party.streams.sent
    assert party.receive(frame(STOP_SENDING, 0, 7), frame(STOP_SENDING, 0, 8)) == [("stop", 0, 7)]
    assert party.frames() == [(RESET_STREAM, 0, 7, sent)]
    assert party.streams.buffered == 0
    assert party.receive(frame(STOP_SENDING, 0, 9)) == []


def test_a_request_is_delivered_before_the_stop_that_came_with_it() -> None:
    assert Party().receive(frame(STOP_SENDING, 0, 7), stream_frame(0, 0, b"x", True)) == [
        ("data", 0, b"x", True),
        ("stop", 0, 7),
    ]


def test_our_reset_drops_what_is_unsent_and_is_acknowledged() -> None:
    party = Party(client=True)
    party.streams.open_stream(True)
    party.streams.send(2, b"never sent", False)
    party.streams.reset(2, 7)
    party.streams.reset(2, 8)
    assert party.streams.buffered == 0
    assert not party.streams.has_all_acknowledged()
    frames, packet = party.write()
    assert frames == [(RESET_STREAM, 2, 7, 0)]
    party.streams.acked(packet)
    assert party.streams.has_all_acknowledged()
    assert party.streams.stream_ids == []


def test_a_stream_is_over_when_its_data_is_acknowledged_only_if_it_was_not_reset() -> None:
    """A reset of what was sent in full still has to be acknowledged itself."""
    party = Party(client=True)
    party.streams.open_stream(True)
    party.streams.send(2, b"all of it", True)
    _, data = party.write()
    party.streams.reset(2, 7)
    party.streams.acked(data)
    assert party.streams.stream_ids == [2]
    frames, packet = party.write()
    assert frames == [(RESET_STREAM, 2, 7, 9)]
    party.streams.acked(packet)
    assert party.streams.stream_ids == []


def test_a_reset_of_what_the_peer_has_is_ignored() -> None:
    party = Party(client=True)
    party.streams.open_stream(False)
    party.streams.send(0, b"all of it", True)
    party.acknowledge_all()
    party.streams.reset(0, 7)
    assert party.frames() == []


def test_stop_sending_asks_the_peer_and_ends_the_upcalls() -> None:
    party = Party()
    party.receive(stream_frame(0, 0, b"some"))
    party.streams.stop_sending(0, 7)
    party.streams.stop_sending(0, 8)
    assert party.frames() == [(STOP_SENDING, 0, 7)]
    assert party.receive(stream_frame(0, 4, b"more"), frame(RESET_STREAM, 0, 7, 9)) == []


def test_stop_sending_is_said_even_when_only_some_data_is_missing() -> None:
    """RFC 9000 section 3.5, for the Size Known state."""
    party = Party()
    party.receive(stream_frame(2, 4, b"late", True))
    party.streams.stop_sending(2, 7)
    assert party.frames() == [(STOP_SENDING, 2, 7)]
    assert party.streams.stream_ids == []


def test_calls_about_unknown_streams_are_ignored() -> None:
    streams = Party().streams
    assert streams.send(400, b"x", True) == 1
    streams.consume(400, 1)
    streams.reset(400, 1)
    streams.stop_sending(400, 1)
    streams.set_priority(400, 1, True)
    assert not streams.wants_to_write()
    assert streams.stream_ids == []


def test_calls_about_a_direction_that_a_stream_has_not_are_ignored() -> None:
    party = Party(client=True)
    party.streams.open_stream(True)
    party.streams.stop_sending(2, 1)
    party.receive(stream_frame(3, 0, b"x"))
    assert party.streams.send(3, b"x", True) == 1
    party.streams.reset(3, 1)
    assert party.frames() == []
