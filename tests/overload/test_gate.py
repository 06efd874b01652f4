"""The limit on what is in flight."""

import asyncio
import mmap

from spooky._core.gate import Gate, PeakPlaces, Places
from spooky._core.shared import Segment, segment_size
from spooky.observe.counters import Counters
from spooky.overload.places import shared_places
from spooky.overload.watch import GateWatch
from spooky.runtime import Runtime


def test_a_gate_refuses_what_exceeds_its_limit_and_takes_again_after_a_leave() -> None:
    gate = Gate()
    assert gate.try_enter(2)
    assert gate.try_enter(2)
    assert not gate.try_enter(2)
    gate.leave()
    assert gate.try_enter(2)


def test_whoever_waited_longest_is_called_first() -> None:
    gate = Gate()
    gate.try_enter(2)
    gate.try_enter(2)
    called: list[str] = []
    gate.wait(lambda: called.append("first"), 2, 1.0, 0.05, 0.005)
    gate.wait(lambda: called.append("second"), 2, 1.0, 0.05, 0.005)
    gate.leave()
    assert called == ["first"]
    gate.leave()
    assert called == ["first", "second"]


def test_no_more_wait_than_may_be_inside() -> None:
    gate = Gate()
    gate.try_enter(1)
    assert gate.wait(lambda: None, 1, 1.0, 0.05, 0.005)
    assert not gate.wait(lambda: None, 1, 1.0, 0.05, 0.005)


def test_whoever_stopped_waiting_is_not_called() -> None:
    gate = Gate()
    gate.try_enter(1)
    called: list[str] = []

    def retry() -> None:
        called.append("called")

    gate.wait(retry, 1, 1.0, 0.05, 0.005)
    gate.stop_waiting(retry)
    gate.stop_waiting(retry)
    gate.leave()
    assert called == []
    assert gate.active == 0


def test_a_lowered_limit_lets_nobody_in_until_enough_have_left() -> None:
    gate = Gate()
    gate.try_enter(2)
    gate.try_enter(2)
    gate.leave()
    assert not gate.try_enter(1)
    gate.leave()
    assert gate.try_enter(1)


def test_who_waits_under_a_lower_limit_is_let_in_only_when_there_is_room_for_them() -> None:
    gate = Gate(places := Places())
    assert [gate.try_enter(3) for _ in range(3)] == [True] * 3
    called: list[str] = []
    gate.wait(lambda: called.append("lower"), 2, 1.0, 0.05, 0.005)
    gate.wait(lambda: called.append("higher"), 3, 1.0, 0.05, 0.005)
    places.give()
    assert gate.look()
    assert called == []
    places.give()
    assert not gate.look()
    assert called == ["lower", "higher"]


def two_workers() -> tuple[Segment, list[Counters]]:
    segment = Segment(mmap.mmap(-1, segment_size(2)), 2)
    return segment, [Counters(segment, worker) for worker in range(2)]


def test_workers_share_a_limit_and_a_dead_one_gives_its_places_back() -> None:
    segment, workers = two_workers()
    one, other = [Gate(shared_places(counters, "upstream", "api")) for counters in workers]
    elsewhere = Gate(shared_places(workers[0], "upstream", "apis"))
    assert [one.try_enter(3), other.try_enter(3), other.try_enter(3)] == [True] * 3
    assert not one.try_enter(3)
    assert one.active == other.active == 3
    assert elsewhere.try_enter(3)
    segment.reclaim(1)
    assert [one.try_enter(3), one.try_enter(3), one.try_enter(3)] == [True, True, False]


def test_who_waits_gets_the_place_that_another_worker_gave_up() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        watch = GateWatch(runtime)
        _, workers = two_workers()
        one, other = [Gate(shared_places(counters, "global"), watch.add) for counters in workers]
        assert other.try_enter(2)
        assert other.try_enter(2)
        admitted: list[str] = []

        def retry(name: str) -> None:
            assert one.try_enter(2)
            admitted.append(name)

        one.wait(lambda: retry("first"), 2, 1.0, 0.05, 0.005)
        one.wait(lambda: retry("second"), 2, 1.0, 0.05, 0.005)
        await asyncio.sleep(0.03)
        assert admitted == []
        other.leave()
        await asyncio.sleep(0.03)
        assert admitted == ["first"]
        other.leave()
        await asyncio.sleep(0.03)
        assert admitted == ["first", "second"]
        # And again, after nobody waited.
        one.wait(lambda: retry("third"), 2, 1.0, 0.05, 0.005)
        one.leave()
        assert admitted[2:] == ["third"]
        await runtime.close()

    asyncio.run(scenario())


def test_where_the_queue_stands_waits_are_short_and_the_newest_comes_first() -> None:
    gate = Gate()
    gate.try_enter(3)
    called: list[str] = []

    def wait(name: str, now: float) -> float:
        return gate.wait(lambda: called.append(name), 3, now, 0.05, 0.005)

    assert wait("first", 1.0) == 0.05
    assert wait("second", 1.04) == 0.05
    assert not gate.newest_first
    assert wait("third", 1.06) == 0.005
    assert gate.newest_first
    gate.leave()
    gate.try_enter(3)
    gate.leave()
    assert called == ["third", "second"]
    gate.try_enter(3)
    gate.leave()
    # It was empty: what waits now does so in turn again.
    assert wait("fourth", 1.08) == 0.05
    assert wait("fifth", 1.09) == 0.05
    gate.try_enter(3)
    gate.leave()
    assert called == ["third", "second", "first", "fourth"]


def test_those_who_are_refused_elsewhere_do_not_call_each_other_from_within() -> None:
    """A queue of thousands must not be as many calls deep."""
    gate = Gate()
    gate.try_enter(1)
    deep = deepest = 0
    called: list[int] = []

    def refused_elsewhere(number: int) -> None:
        nonlocal deep, deepest
        deep += 1
        deepest = max(deepest, deep)
        called.append(number)
        assert gate.try_enter(1)
        gate.leave()
        deep -= 1

    for number in range(1_000):
        gate.wait(lambda number=number: refused_elsewhere(number), 10_000, 1.0, 0.05, 0.005)
    gate.leave()
    assert called == list(range(1_000))
    assert deepest == 1
    assert gate.active == 0


def test_the_most_that_were_taken_at_a_time_is_known_of_all_workers_together() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    segments = [Segment(memory, 2), Segment(memory)]
    ours, theirs = (
        PeakPlaces(segment.limit(42, slot), segment.words(42), 1)
        for slot, segment in enumerate(segments)
    )
    words = segments[0].words(42)
    assert words is not None
    for places, change, most in (
        (ours, 3, 3), (theirs, 4, 7), (ours, -2, 7), (theirs, 1, 7), (ours, 5, 11), (ours, 9, 11),
    ):  # fmt: skip
        if change < 0:
            places.give(-change)
        else:
            assert places.take(15, change) == (change < 9)
        assert words.load(1) == most
    alone = PeakPlaces(None, None, 1)
    assert alone.take(1)
    assert not alone.take(1)
