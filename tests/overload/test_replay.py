"""Bodies that are kept to be sent again: bounded each, bounded together, accounted."""

from hypothesis import given
from hypothesis import strategies as st

from spooky._core.gate import Places as OwnPlaces
from spooky.request.replay import Replay


def test_what_is_sent_is_kept_in_order_and_accounted():
    room = OwnPlaces()
    replay = Replay(10, room, 100)
    for piece in (b"one", b"", b"two"):
        replay.add(piece)
    assert replay.pieces == [b"one", b"two"]
    assert (replay.is_complete, room.total) == (True, 6)
    replay.drop()
    assert (replay.is_complete, room.total) == (False, 0)


def test_a_body_that_is_too_large_is_not_kept_at_all():
    room = OwnPlaces()
    replay = Replay(10, room, 100)
    assert replay.add(b"x" * 10)
    assert not replay.add(b"x")
    assert not replay.add(b"more")
    assert not replay.add(b"")
    assert (replay.is_complete, replay.pieces, room.total) == (False, [], 0)


def test_a_body_that_finds_no_room_is_not_kept_and_takes_none_from_others():
    room = OwnPlaces()
    first, second = Replay(60, room, 100), Replay(60, room, 100)
    first.add(b"x" * 60)
    second.add(b"x" * 60)
    assert (first.is_complete, second.is_complete, room.total) == (True, False, 60)


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=30) | st.none()), max_size=40))
def test_room_is_never_exceeded_and_all_given_back(steps):
    room = OwnPlaces()
    replays = [Replay(50, room, 100) for _ in range(3)]
    for which, data in steps:
        if data is None:
            replays[which].drop()
        else:
            replays[which].add(data)
        kept = sum(len(piece) for replay in replays for piece in replay.pieces)
        assert room.total == kept <= 100
    for replay in replays:
        replay.drop()
    assert room.total == 0
