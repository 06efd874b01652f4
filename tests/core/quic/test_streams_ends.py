"""Ends of streams, which are accepted only as far as the peer lets us send (RFC 9000 section 4)."""

import pytest

from tests.core.quic.stream_party import (
    DATA_BLOCKED,
    MAX_DATA,
    MAX_STREAM_DATA,
    STREAM,
    Event,
    Parameters,
    Party,
    Recorder,
    frame,
    stream_frame,
)

KIB = 1024
PIECE = bytes(16 * KIB)


def party_with(stream: int, connection: int, client: bool = False) -> Party:
    """Return one whose peer has these windows, in KiB; a server has the streams 0, 4 and 8."""
    peer = Parameters(stream_window=stream * KIB, connection_window=connection * KIB)
    party = Party(client=client, peer=peer)
    if not client:
        party.receive(*(stream_frame(stream_id, 0, b"x") for stream_id in (0, 4, 8)))
    return party


def fill(party: Party, stream_id: int) -> None:
    """Send on a stream that nobody reads until no more is accepted; what went is acknowledged."""
    while party.streams.send(stream_id, PIECE, False) == len(PIECE):
        party.acknowledge_all()
    party.streams.end_batch()
    assert party.streams.is_held_up(stream_id)
    assert party.events == []


def test_an_unread_stream_holds_up_no_end_of_another() -> None:
    """What it holds beyond its own window uses nothing of the connection's."""
    party = party_with(512, 768)
    fill(party, 0)
    assert party.streams.sent == 512 * KIB
    assert party.streams.send(4, bytes(500), True) == 500
    assert party.streams.send(8, b"", True) == 0
    # The end alone waits for no credit, and goes first.
    assert party.frames() == [(STREAM, 8, 0, b"", True), (STREAM, 4, 0, bytes(500), True)]


def test_an_unread_upload_holds_up_no_request() -> None:
    """Nor on a connection to a backend, which is shared by clients."""
    party = party_with(512, 768, client=True)
    upload = party.streams.open_stream(False)
    assert upload is not None
    fill(party, upload)
    request = party.streams.open_stream(False)
    assert request is not None
    assert party.streams.send(request, bytes(60), True) == 60
    assert party.frames() == [(STREAM, request, 0, bytes(60), True)]


def test_an_end_goes_with_the_next_credit_of_the_connection() -> None:
    """However much another stream has ready to be sent."""
    party = party_with(KIB, 64)
    assert party.streams.send(0, bytes(256 * KIB), False) == 256 * KIB
    party.acknowledge_all()
    assert party.streams.send(4, bytes(500), True) == 0
    assert party.events == []
    assert party.receive(frame(MAX_DATA, 65 * KIB)) == [("writable", 4)]
    assert party.streams.send(4, bytes(500), True) == 500


def test_ends_together_are_accepted_as_far_as_the_connection_allows() -> None:
    """Else whoever sent the last of them would take for gone what waits for the peer."""
    party = party_with(64, 1)
    assert party.streams.send(0, bytes(600), True) == 600
    assert party.streams.send(4, bytes(600), True) == 424
    assert party.streams.send(8, bytes(600), True) < 600
    assert party.streams.ends_outstanding == 1
    party.acknowledge_all()
    assert party.streams.sent == KIB
    assert party.streams.ends_outstanding == 0


def test_an_abandoned_end_leaves_its_credit_to_others() -> None:
    party = party_with(64, 1)
    assert party.streams.send(0, bytes(KIB), True) == KIB
    assert party.streams.send(4, bytes(600), True) == 0
    party.streams.reset(0, 7)
    party.streams.end_batch()
    assert party.events == [("writable", 4)]
    assert party.streams.send(4, bytes(600), True) == 600


def test_an_end_alone_needs_no_credit() -> None:
    """RFC 9000 section 4.1 counts bytes, and it has none."""
    party = party_with(64, 1)
    assert party.streams.send(4, bytes(KIB), False) == KIB
    # It would come after bytes that are allowed.
    assert party.streams.send(4, b"", True) == 0
    party.acknowledge_all()
    assert party.streams.send(8, b"", True) == 0
    assert party.streams.ends_outstanding == 1
    party.acknowledge_all()
    assert party.streams.ends_outstanding == 0


@pytest.mark.parametrize(
    ("stream", "connection", "credit"),
    [(1, 64, frame(MAX_STREAM_DATA, 4, 2 * KIB)), (64, 1, frame(MAX_DATA, 2 * KIB))],
)
def test_an_end_alone_waits_for_what_is_before_it(
    stream: int, connection: int, credit: bytes
) -> None:
    """And is asked for again when that is allowed, even if nothing more is."""
    party = party_with(stream, connection)
    assert party.streams.send(4, bytes(2 * KIB), False) == 2 * KIB
    assert party.streams.send(4, b"", True) == -1
    party.acknowledge_all()
    party.streams.end_batch()
    assert party.events == []
    assert party.receive(credit) == [("writable", 4)]
    assert party.streams.send(4, b"", True) == 0


def test_bytes_before_an_end_are_not_asked_for_while_none_may_be_sent() -> None:
    """Each acknowledgment would have the application try all its streams."""
    party = party_with(64, 1)
    assert party.streams.send(0, bytes(KIB), False) == KIB
    packets = party.write_all()
    assert party.streams.send(4, b"x", True) == 0
    party.streams.acked(packets[0])
    party.streams.end_batch()
    assert party.events == []
    assert (DATA_BLOCKED, KIB) in party.frames()


class Responder(Recorder):
    """An application that sends the rest of a response whenever it may."""

    def __init__(self) -> None:
        super().__init__()
        self.party: Party
        self.rest: dict[int, bytes] = {}

    def on_stream_writable(self, stream_id: int) -> None:
        """Send the rest."""
        accepted = self.party.streams.send(stream_id, self.rest[stream_id], True)
        self.rest[stream_id] = self.rest[stream_id][max(0, accepted) :]


def test_one_raise_lets_no_more_ends_go_than_it_allows() -> None:
    """All who wait are told before a packet is written."""
    party = party_with(64, 1)
    responder = Responder()
    party.streams.handler = responder
    responder.party = party
    assert party.streams.send(0, bytes(KIB), True) == KIB
    party.acknowledge_all()
    for stream_id in (4, 8):
        responder.rest[stream_id] = bytes(600)
        responder.on_stream_writable(stream_id)
    party.receive(frame(MAX_DATA, 2 * KIB))
    assert [len(rest) for rest in responder.rest.values()] == [0, 1200 - KIB]
    events: list[Event] = party.receive(frame(MAX_DATA, 3 * KIB))
    assert events == []
    assert [len(rest) for rest in responder.rest.values()] == [0, 0]
