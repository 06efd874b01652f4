"""In which order streams are sent (RFC 9218 section 10), also when upcalls change it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.quic.stream_party import (
    MAX_DATA,
    MAX_STREAM_DATA,
    PACKET,
    STREAM,
    Parameters,
    Party,
    Recorder,
    frame,
)

WIDE = Parameters(stream_window=1 << 24, connection_window=1 << 26, max_streams_bidi=1000)


def sender(count: int, application: Recorder | None = None, peer: Parameters = WIDE) -> Party:
    """Return a client with so many streams open: 0, 4, 8 and so on."""
    party = Party(client=True, peer=peer, application=application)
    for index in range(count):
        assert party.streams.open_stream(False) == 4 * index
    return party


def order(party: Party, limit: int = 1 << 30) -> list[int]:
    """Write packets of one frame or more; return of which streams there was new data, in order."""
    seen = []
    while party.streams.wants_to_write() and limit > 0:
        frames, packet = party.write()
        assert frames
        seen += [each[1] for each in frames if each[0] == STREAM]
        party.streams.acked(packet)
        limit -= 1
    return [int(str(stream_id)) for stream_id in seen]


def runs(stream_ids: list[int]) -> list[int]:
    """Return the same without repetitions."""
    return [key for index, key in enumerate(stream_ids) if stream_ids[index - 1 : index] != [key]]


def test_the_more_urgent_go_first() -> None:
    party = sender(3)
    for stream_id, urgency in ((0, 5), (4, 1), (8, 3)):
        party.streams.set_priority(stream_id, urgency, False)
        party.streams.send(stream_id, bytes(5 * PACKET), True)
    assert runs(order(party)) == [4, 8, 0]


def test_of_the_same_urgency_the_lower_id_goes_first() -> None:
    party = sender(3)
    for stream_id in (8, 0, 4):
        party.streams.set_priority(stream_id, 2, False)
        party.streams.send(stream_id, bytes(3 * PACKET), True)
    assert runs(order(party)) == [0, 4, 8]


@pytest.mark.parametrize("told", [True, False])
def test_incremental_streams_take_turns_and_so_do_those_without_a_signal(told: bool) -> None:
    party = sender(3)
    for stream_id in (0, 4, 8):
        if told:
            party.streams.set_priority(stream_id, 3, True)
        party.streams.send(stream_id, bytes(20 * PACKET), True)
    seen = order(party, 30)
    assert all(9 <= seen.count(stream_id) <= 11 for stream_id in (0, 4, 8))
    assert seen[:3] == [0, 4, 8]


def test_what_is_of_use_only_when_complete_goes_before_what_is_incremental() -> None:
    party = sender(3)
    for stream_id, incremental in ((0, True), (4, False), (8, True)):
        party.streams.set_priority(stream_id, 3, incremental)
        party.streams.send(stream_id, bytes(5 * PACKET), True)
    seen = order(party)
    assert set(seen[:5]) == {4}
    assert set(seen[6:]) == {0, 8}


def test_control_goes_before_the_most_urgent() -> None:
    party = sender(1)
    party.streams.open_stream(True)
    party.streams.set_priority(0, 0, False)
    party.streams.set_priority(2, -1, False)
    party.streams.send(0, bytes(5 * PACKET), False)
    party.streams.send(2, b"GOAWAY", False)
    assert order(party)[0] == 2


def test_a_priority_that_changes_halfway_reorders() -> None:
    party = sender(2)
    for stream_id in (0, 4):
        party.streams.set_priority(stream_id, 3, False)
        party.streams.send(stream_id, bytes(10 * PACKET), True)
    assert set(order(party, 4)) == {0}
    party.streams.set_priority(4, 2, False)
    assert runs(order(party)) == [4, 0]


def test_what_was_lost_goes_before_new_data_of_its_priority_and_not_of_a_higher_one() -> None:
    party = sender(2)
    party.streams.set_priority(0, 3, False)
    party.streams.set_priority(4, 1, False)
    party.streams.send(0, bytes(3 * PACKET), True)
    _, packet = party.write()
    party.streams.send(4, bytes(3 * PACKET), True)
    party.streams.lost(packet)
    frames = party.frames()
    assert runs([int(str(each[1])) for each in frames]) == [4, 0]
    assert [each[2] for each in frames if each[1] == 0][:2] == [0, 1183]


def test_a_stream_that_its_reader_holds_up_lets_the_less_urgent_pass() -> None:
    party = sender(2, peer=Parameters(stream_window=2000, connection_window=1 << 20))
    party.streams.set_priority(0, 0, False)
    for stream_id in (0, 4):
        party.streams.send(stream_id, bytes(1900 + 900 * (not stream_id)), False)
    assert runs(order(party)) == [0, 4]
    party.receive(frame(MAX_STREAM_DATA, 0, 10_000))
    assert order(party) == [0]


def test_the_connections_credit_goes_to_the_most_urgent() -> None:
    party = sender(2, peer=Parameters(stream_window=1 << 20, connection_window=3000))
    for stream_id in (0, 4):
        party.streams.send(stream_id, bytes(6000), False)
    order(party)
    party.streams.set_priority(4, 0, False)
    party.receive(frame(MAX_DATA, 6000))
    assert set(order(party)) == {4}


def test_the_less_urgent_leave_room_for_the_more_urgent() -> None:
    """A late stream is not held to its least by those that filled the buffer before it came."""
    party = sender(9)
    for stream_id in range(0, 32, 4):
        party.streams.set_priority(stream_id, 5, False)
        party.streams.send(stream_id, bytes(300_000), False)
    crowded = party.streams.buffered
    party.streams.set_priority(32, 0, False)
    assert party.streams.send(32, bytes(300_000), False) > 100_000
    assert crowded < party.streams.buffered <= 1024 * 1024 + 8 * 16 * 1024


class Application(Recorder):
    """Offers more wherever there is room, and notes the order in which it is told."""

    party: Party

    def __init__(self, *actions: tuple[str, int]) -> None:
        super().__init__()
        self.told: list[int] = []
        self.actions = list(actions)

    def on_stream_writable(self, stream_id: int) -> None:
        self.told.append(stream_id)
        streams = self.party.streams
        if self.actions:
            action, other = self.actions.pop(0)
            if action == "reset":
                streams.reset(other, 1)
            elif action == "prioritize":
                streams.set_priority(other, 0, False)
            else:
                streams.send(other, bytes(400_000), False)
        streams.send(stream_id, bytes(400_000), False)


def crowd(application: Application, count: int = 6) -> Party:
    """Return streams that were all refused a part, the later the more urgent."""
    party = application.party = sender(count, application)
    for index in range(count):
        party.streams.set_priority(4 * index, 7 - index, False)
        party.streams.send(4 * index, bytes(400_000), False)
    return party


def test_room_is_offered_to_the_most_urgent_first() -> None:
    application = Application()
    party = crowd(application)
    party.acknowledge_all()
    party.streams.end_batch()
    assert application.told == sorted(application.told, reverse=True)
    assert application.told[0] == 20


@pytest.mark.parametrize("action", ["reset", "prioritize", "send"])
@pytest.mark.parametrize("other", [0, 8, 20])
def test_streams_change_from_within_an_upcall(action: str, other: int) -> None:
    application = Application((action, other), ("prioritize", 4), ("reset", 12), ("send", 0))
    party = crowd(application)
    for _ in range(5):
        party.acknowledge_all()
        party.streams.end_batch()
    application.actions.clear()
    for stream_id in range(0, 24, 4):
        party.streams.reset(stream_id, 1)
    party.acknowledge_all()
    assert party.streams.buffered == 0
    assert party.streams.has_all_acknowledged()
    assert not party.streams.wants_to_write()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "prioritize", "reset", "write"]),
        st.integers(0, 7),
        st.integers(-3, 9),
        st.booleans(),
    ),
    max_size=60,
)


class Model:
    """What streams have to send for the first time, by the words of RFC 9218."""

    def __init__(self) -> None:
        self.rest: dict[int, int] = {}
        self.rank = {4 * index: (3, True) for index in range(8)}

    def may_send(self, stream_id: int) -> bool:
        """Return whether a stream may send now: nobody goes before it."""
        urgency, incremental = self.rank[stream_id]
        for other, rest in self.rest.items():
            if not rest or other == stream_id:
                continue
            if self.rank[other] < (urgency, incremental):
                return False
            if self.rank[other] == (urgency, False) and not incremental and other < stream_id:
                return False
        return True


@given(STEPS)
def test_nothing_is_sent_while_something_before_it_waits(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    party, model = sender(8), Model()
    ended: set[int] = set()
    for action, index, number, flag in steps:
        stream_id = 4 * index
        if action == "send" and stream_id not in ended:
            size = party.streams.send(stream_id, bytes(700 * (abs(number) + 1)), False)
            model.rest[stream_id] = model.rest.get(stream_id, 0) + size
        elif action == "prioritize":
            party.streams.set_priority(stream_id, number, flag)
            model.rank[stream_id] = (max(-1, min(number, 7)), flag)
        elif action == "reset":
            party.streams.reset(stream_id, 1)
            ended.add(stream_id)
            model.rest.pop(stream_id, None)
        elif action == "write":
            frames, packet = party.write(PACKET)
            for each in frames:
                if each[0] != STREAM:
                    continue
                sent, data = each[1], each[3]
                assert isinstance(sent, int)
                assert isinstance(data, bytes)
                assert model.may_send(sent)
                model.rest[sent] -= len(data)
            party.streams.acked(packet)
    order(party)
    assert not party.streams.wants_to_write()


@pytest.mark.parametrize("seed", range(5))
def test_turns_stay_fair_while_streams_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    party = sender(12)
    for index in range(12):
        party.streams.send(4 * index, bytes(chance.choice((1, 40)) * PACKET), True)
    seen = order(party, 200)
    large = [stream_id for stream_id in set(seen) if seen.count(stream_id) > 5]
    last = min(len(seen) - 1 - seen[::-1].index(stream_id) for stream_id in large)
    counts = [seen[:last].count(stream_id) for stream_id in large]
    assert max(counts) - min(counts) <= 2
