"""The shared segment: exact limits, rates, reclaiming, and both builds in one memory."""

import ctypes
import mmap
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import shared
from spooky._core.pure import shared as pure
from spooky._core.pure.shared import STRIKE_SETS
from spooky._core.shared import (
    LIMITS_MAX,
    NAMES_MAX_BYTES,
    SLOTS_MAX,
    STRIKES_MAX,
    VALUES_MAX,
    WORDS,
    Segment,
    segment_size,
)


def run_in_child(work: Callable[[], object]) -> None:
    """Run something in a process that ends without tidying up."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def segment(slots: int = 2, build: ModuleType = shared) -> Segment:
    made: Segment = build.Segment(mmap.mmap(-1, build.segment_size(slots)), slots)
    return made


def test_a_segment_is_refused_unless_it_is_whole_and_of_this_version() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    with pytest.raises(ValueError, match="no segment of version"):
        Segment(memory)
    Segment(memory, 2)
    assert Segment(memory).slots == 2
    memory[8] += 1
    with pytest.raises(ValueError, match="no segment of version"):
        Segment(memory)
    for slots in (-1, SLOTS_MAX + 1):
        with pytest.raises(ValueError, match="slots"):
            Segment(mmap.mmap(-1, segment_size(1)), slots)
    with pytest.raises(ValueError, match="too small"):
        Segment(mmap.mmap(-1, segment_size(2)), 3)


def test_a_segment_that_claims_more_slots_than_it_has_is_refused() -> None:
    memory = mmap.mmap(-1, segment_size(1))
    Segment(memory, 1)
    memory[16] = 2
    with pytest.raises(ValueError, match="too small"):
        Segment(memory)


def test_nothing_outside_a_segment_is_touched() -> None:
    made = segment()
    for slot in (-1, 2):
        with pytest.raises(IndexError):
            made.values(slot)
        with pytest.raises(IndexError):
            made.beat(slot, 1)
        with pytest.raises(IndexError):
            made.limit(1, slot)
    for position in (-1, VALUES_MAX):
        with pytest.raises(IndexError):
            made.load(0, position)
        with pytest.raises(IndexError):
            made.histogram(0, position)
    with pytest.raises(IndexError):
        made.values(0)[VALUES_MAX] = 1


def test_what_one_slot_counts_another_does_not() -> None:
    made = segment()
    made.values(0)[7] += 5
    made.values(1)[7] += 2
    assert (made.load(0, 7), made.load(1, 7)) == (5, 2)
    made.beat(1, 99)
    assert (made.last_beat(0), made.last_beat(1)) == (0, 99)


def test_a_limit_is_held_by_all_slots_together() -> None:
    made = segment()
    first, second = made.limit(42, 0), made.limit(42, 1)
    assert first is not None
    assert second is not None
    assert [first.take(3), second.take(3), second.take(3), first.take(3)] == [True] * 3 + [False]
    assert (first.total, first.share, second.share) == (3, 1, 2)
    second.give()
    assert first.take(3)
    assert not second.take(3)


def test_no_more_is_given_back_than_was_taken() -> None:
    made = segment()
    first, second = made.limit(42, 0), made.limit(42, 1)
    assert first is not None
    assert second is not None
    first.take(3)
    with pytest.raises(ValueError, match="fewer places were taken"):
        second.give()
    assert first.total == 1


def test_the_places_of_a_dead_worker_are_given_back_and_no_others() -> None:
    made = segment()
    limits = [(made.limit(key, 0), made.limit(key, 1)) for key in range(2, 40, 2)]
    for alive, dead in limits:
        assert alive is not None
        assert dead is not None
        alive.take(10)
        dead.take(10)
        dead.take(10)
    made.reclaim(1)
    made.reclaim(1)
    assert {(alive.total, alive.share, dead.share) for alive, dead in limits if alive and dead} == {
        (1, 1, 0)
    }


def test_limits_that_hash_to_one_place_are_apart_and_their_number_is_bounded() -> None:
    made = segment(1)
    keys = [2 + LIMITS_MAX * 2 * n for n in range(LIMITS_MAX)]
    limits = [made.limit(key, 0) for key in keys[:50]]
    assert all(limit is not None and limit.take(1) for limit in limits)
    assert all(limit is not None and limit.total == 1 for limit in limits)
    # One after the other in the table, so that filling it is quick.
    limits += [made.limit(key, 0) for key in range(100, 100 + LIMITS_MAX * 2, 2)]
    assert made.limit(LIMITS_MAX * 6 + 7, 0) is None
    assert made.words(LIMITS_MAX * 6 + 7) is None
    limits.pop(70)
    assert made.limit(LIMITS_MAX * 6 + 7, 0) is not None


@pytest.mark.parametrize("build", [shared, pure])
def test_what_nobody_has_a_view_of_is_forgotten_and_its_place_is_anothers(
    build: ModuleType,
) -> None:
    memory = mmap.mmap(-1, segment_size(2))
    one, other = build.Segment(memory, 2), build.Segment(memory)
    here, there = one.words(42), other.words(42)
    here.store(0, 7)
    del here
    assert there.load(0) == 7
    assert one.entries == 1
    del there
    assert one.entries == 0
    assert one.words(42).load(0) == 0
    # A place that is taken is one that will be given back.
    one.limit(44, 1).take(5)
    assert (one.entries, one.total(44), one.total(46)) == (1, 1, 0)
    other.limit(44, 1).give()
    assert one.entries == 0
    one.limit(44, 1).take(5)
    other.reclaim(1)
    assert (one.entries, one.total(44)) == (0, 0)
    # Rates are kept: their users have no view of them.
    one.take_rate(48, 10**12, 1, 1)
    assert one.entries == 1


@pytest.mark.parametrize("build", [shared, pure])
def test_keys_may_come_and_go_without_end(build: ModuleType) -> None:
    made = segment(1, build)
    seed = random.Random(7)
    # Among them some in one row, of which any may go first.
    kept = {key: made.words(key) for key in range(2, 2 + 40 * LIMITS_MAX * 2, LIMITS_MAX * 2)}
    for count in range(3 * LIMITS_MAX if build is shared else 1_000):
        key = seed.getrandbits(64)
        kept[key] = made.words(key)
        kept[key].store(0, count)
        del kept[seed.choice(list(kept)) if count % 64 == 0 else next(iter(kept))]
        assert made.entries == 40 if count % 997 == 0 else True
    values = {key: words.load(0) for key, words in kept.items()}
    assert {key: made.words(key).load(0) for key in values} == values
    kept.clear()
    assert made.entries == 0


def test_the_views_of_a_dead_worker_are_given_up_once_its_successor_has_its_own() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)

    def work(*keys: int) -> None:
        theirs = Segment(memory)
        theirs.use_slot(1)
        views = [theirs.words(key) for key in keys], [theirs.limit(9, 1)]
        views[0][0].store(1, 5)
        os._exit(0)

    run_in_child(lambda: work(3, 5))
    left = ours.references(1)
    assert sorted(left.values()) == [1, 1, 1]
    run_in_child(lambda: work(5, 7))
    assert sum(ours.references(1).values()) == 6
    ours.give_up(1, left)
    assert ours.entries == 3
    kept, forgotten = ours.words(5), ours.words(3)
    assert kept is not None
    assert forgotten is not None
    assert (kept.load(1), forgotten.load(1)) == (5, 0)
    del kept, forgotten
    ours.give_up(1, ours.references(1))
    assert (ours.entries, ours.references(1)) == (0, {})
    with pytest.raises(IndexError):
        ours.give_up(1, {LIMITS_MAX: 1})


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_a_process_that_dies_with_the_lock_keeps_it_from_nobody() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)

    def work() -> None:
        theirs = Segment(memory)
        theirs.use_slot(1)
        for _ in range(10**6):
            theirs.words(3)

    seed = random.Random(11)
    for _ in range(20):
        child = os.fork()
        if not child:
            try:
                work()
            finally:
                os._exit(1)
        try:
            time.sleep(0.005 + seed.random() / 1000)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ours.words(5) is not None
        ours.give_up(1, ours.references(1))
    assert ours.references(1) == {}


@pytest.mark.parametrize("build", [shared, pure])
def test_words_are_shared_by_all_who_use_their_key(build: ModuleType) -> None:
    memory = mmap.mmap(-1, build.segment_size(2))
    words, same = build.Segment(memory, 2).words(42), build.Segment(memory).words(42)
    other = build.Segment(memory).words(44)
    words.store(0, 5)
    assert same.load(0) == 5
    assert [same.add(0), words.add(0, 4)] == [6, 10]
    assert [words.swap(0, 9, 1), words.swap(0, 10, 1), same.load(0)] == [False, True, 1]
    words.store(WORDS - 1, 2**64 - 1)
    assert [other.load(position) for position in range(WORDS)] == [0] * WORDS
    for position in (-1, WORDS):
        for call in (words.load, words.add, lambda at: words.store(at, 1)):
            with pytest.raises(IndexError):
                call(position)
        with pytest.raises(IndexError):
            words.swap(position, 0, 1)


def test_a_change_of_health_is_seen_by_all() -> None:
    memory = mmap.mmap(-1, segment_size(1))
    one, other = Segment(memory, 1), Segment(memory)
    before = other.health_version
    one.note_health()
    assert other.health_version == before + 1


def test_a_rate_gives_its_burst_at_once_and_then_one_each_interval() -> None:
    made = segment()
    now = 10**12
    assert [made.take_rate(1, now, 100, 3) for _ in range(4)] == [True, True, True, False]
    assert not made.take_rate(1, now + 99, 100, 3)
    assert made.take_rate(1, now + 100, 100, 3)
    assert not made.take_rate(1, now + 100, 100, 3)
    assert [made.take_rate(1, now + 10_000, 100, 3) for _ in range(4)] == [True, True, True, False]
    assert not made.take_rate(3, now, 100, 0)


def test_the_source_unseen_longest_is_forgotten_first() -> None:
    made = segment()
    now = 10**12
    step = shared.SOURCES_MAX // 4 * 2
    crowd = [1 + step * n for n in range(5)]
    for age, source in enumerate(crowd[:4]):
        assert made.take_source_rate(source, now + age, 10**6, 1)
        assert not made.take_source_rate(source, now + age, 10**6, 1)
    assert made.take_source_rate(crowd[4], now + 5, 10**6, 1)
    assert not made.take_source_rate(crowd[1], now + 6, 10**6, 1)
    assert made.take_source_rate(crowd[0], now + 7, 10**6, 1)


def test_whether_a_source_has_a_token_is_told_without_taking_one() -> None:
    made = segment()
    now, source = 10**12, 8
    assert not made.is_source_out(source, now, 100, 2)
    for _ in range(2):
        assert not made.is_source_out(source, now, 100, 2)
        assert made.take_source_rate(source, now, 100, 2)
    assert made.is_source_out(source, now, 100, 2)
    assert made.is_source_out(source, now + 99, 100, 2)
    assert not made.is_source_out(source, now + 100, 100, 2)
    assert made.is_source_out(source + 2, now, 100, 0)


def test_names_are_read_by_others_and_bounded() -> None:
    made = segment()
    assert made.add_name(1, b"first")
    assert made.add_name(1, b"second")
    assert made.names(1) == b"firstsecond"
    assert made.names(0) == b""
    assert not made.add_name(1, bytes(shared.NAMES_MAX_BYTES))
    assert made.names(1) == b"firstsecond"


@pytest.mark.parametrize("build", [shared, pure])
def test_names_are_written_anew_while_others_read_them(build: ModuleType) -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours, theirs = build.Segment(memory, 2), build.Segment(memory)
    ours.add_name(1, b"one")
    ours.write_names(1, b"two,")
    ours.add_name(1, b"three")
    assert (theirs.names(1), theirs.names_version(1)) == (b"two,three", 1)
    ours.write_names(1, b"")
    assert (theirs.names(1), theirs.names_version(1), theirs.names(0)) == (b"", 2, b"")
    with pytest.raises(ValueError, match="do not fit"):
        ours.write_names(1, bytes(NAMES_MAX_BYTES + 1))
    assert not ours.add_name(1, bytes(NAMES_MAX_BYTES + 1))


def test_a_histogram_counts_by_its_bounds_and_sums_microseconds() -> None:
    made = segment()
    histogram = made.histogram(0, 10)
    bounds = shared.LATENCY_BOUNDS
    for seconds in (-1.0, 0.0, bounds[0], bounds[0] * 1.01, bounds[-1], bounds[-1] * 2):
        histogram.observe(seconds)
    cells = [made.load(0, 10 + n) for n in range(shared.HISTOGRAM_VALUES)]
    assert cells[:2] == [3, 1]
    assert cells[len(bounds) - 1 : len(bounds) + 1] == [1, 1]
    assert sum(cells[: shared.BUCKET_VALUES]) == 6
    assert cells[shared.SUM_AT] == 180_000_502
    assert sum(cells[shared.ZERO_AT :]) == 6
    assert made.load(0, 9) == made.load(0, 10 + shared.HISTOGRAM_VALUES) == 0


@settings(max_examples=200)
@given(st.floats(0, 1e15) | st.integers(-14, 14).map(lambda n: 2.0**n))
def test_a_native_bucket_is_where_its_number_says(seconds: float) -> None:
    made = segment()
    made.histogram(0, 0).observe(seconds)
    cells = [made.load(0, n) for n in range(shared.HISTOGRAM_VALUES)]
    native = cells[shared.NATIVE_AT :]
    assert cells[shared.ZERO_AT] + sum(native) == 1
    if cells[shared.ZERO_AT]:
        assert seconds <= shared.ZERO_THRESHOLD
        return
    number = native.index(1) + shared.NATIVE_FIRST
    base = 2 ** (2**-shared.NATIVE_SCHEMA)
    assert seconds > base ** (number - 1) * (1 - 1e-9)
    if native.index(1) < shared.NATIVE_BUCKETS - 1:
        assert seconds <= base**number * (1 + 1e-9)


def test_a_generation_is_seen_through_every_mapping() -> None:
    memory = mmap.mmap(-1, segment_size(1))
    one = Segment(memory, 1)
    other = Segment(memory)
    one.commit(7)
    assert other.generation == 7


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_processes_that_fight_for_a_limit_never_exceed_it_and_lose_no_place() -> None:
    made = segment(5)
    peak = made.limit(2, 4)
    assert peak is not None
    children = []
    for slot in range(4):
        child = os.fork()
        if child == 0:
            os._exit(fight(made, slot))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert peak.total == 0
    assert sum(made.load(slot, 0) for slot in range(4)) == 80_000
    assert not any(made.load(slot, 1) for slot in range(4))


def fight(made: Segment, slot: int) -> int:
    """Take and give places, counting in value 1 whenever more than two were taken."""
    limit = made.limit(2, slot)
    values = made.values(slot)
    assert limit is not None
    while values[0] < 20_000:
        if limit.take(2):
            values[1] += limit.total > 2
            values[0] += 1
            limit.give()
    return 0


def test_a_key_is_struck_out_once_and_remembered_until_its_place_is_needed() -> None:
    """RFC 8446 section 8.2: a full register refuses, rather than forget what may be replayed."""
    made = segment()
    one_set = [(n + 1) << 25 | 7 for n in range(20)]
    ways = STRIKES_MAX // STRIKE_SETS
    for age, key in enumerate(one_set[:ways]):
        assert made.strike(key, 1000 + age, 20)
        assert not made.strike(key, 1000 + age, 20)
    assert not made.strike(one_set[ways], 1020, 20)
    # In another set there is room.
    assert made.strike(one_set[ways] + 1, 1020, 20)
    assert made.strike(one_set[ways], 1021, 20)
    # Its place was the oldest's; the others are known after their time too.
    assert not made.strike(one_set[1], 1021, 20)
    assert not made.strike(one_set[0], 1021, 20)
    assert made.strike(one_set[0], 1022, 20)


def test_a_strike_from_the_future_is_new() -> None:
    """The clock was set back."""
    made = segment()
    ways = STRIKES_MAX // STRIKE_SETS
    for n in range(ways):
        assert made.strike((n + 1) << 25, 100_000, 20)
    assert not made.strike(1 << 40, 50_000, 20)


def test_no_register_is_like_another_one() -> None:
    memory = mmap.mmap(-1, segment_size(1))
    made = Segment(memory, 1)
    assert Segment(memory).register_id == made.register_id != segment().register_id


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_of_processes_that_strike_out_one_key_at_once_at_most_one_is_first() -> None:
    """In each round both wait for the other, and then strike the same key."""
    made = segment(2)
    children = []
    for slot in range(2):
        child = os.fork()
        if child == 0:
            os._exit(strike_all(made, slot))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    firsts = [made.load(0, n) + made.load(1, n) for n in range(1, STRIKE_ROUNDS)]
    assert max(firsts) == 1
    assert sum(firsts) > STRIKE_ROUNDS // 2


STRIKE_ROUNDS = 50_000


def strike_all(made: Segment, slot: int) -> int:
    values = made.values(slot)
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[slot % len(processors)]})
    for n in range(1, STRIKE_ROUNDS):
        made.beat(slot, n)
        spins = 0
        while made.last_beat(1 - slot) < n:
            spins += 1
            if spins % 1000 == 0:
                # The other one has no processor now.
                os.sched_yield()
        values[n] = made.strike(n << 25, n * 100, 20)
    return 0


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["take", "give"]), st.integers(0, 6), st.integers(0, 1)),
        st.tuples(st.just("rate"), st.integers(0, 6), st.integers(0, 500)),
        st.tuples(st.just("source"), st.integers(0, 6), st.integers(0, 500)),
        st.tuples(st.just("strike"), st.integers(0, 12), st.integers(0, 9)),
        st.tuples(st.just("observe"), st.integers(0, 20_000), st.just(0)),
        st.tuples(st.just("reclaim"), st.just(0), st.integers(0, 1)),
        st.tuples(st.sampled_from(["view", "drop"]), st.integers(0, 6), st.integers(0, 1)),
        st.tuples(st.just("give up"), st.just(0), st.integers(0, 1)),
    ),
    max_size=60,
)


def play(build: ModuleType, operations: list[tuple[str, int, int]]) -> list[object]:
    """Return what a build answers to operations, and what it leaves behind."""
    made = segment(2, build)
    step = shared.SOURCES_MAX // 2
    results: list[object] = []
    now, clock = 10**12, 1_700_000_000
    views: dict[tuple[int, int], Any] = {}
    for name, which, number in operations:
        limit = made.limit(which * LIMITS_MAX, number if name in ("take", "give") else 0)
        assert limit is not None
        if name == "take":
            results.append(limit.take(2))
        elif name == "give":
            try:
                limit.give()
            except ValueError as error:
                results.append(str(error))
        elif name == "rate":
            now += number
            results.append(made.take_rate(1000 + which, now, 300, 2))
        elif name == "source":
            now += number
            results.append(made.is_source_out(which * step, now, 300, 2))
            results.append(made.take_source_rate(which * step, now, 300, 2))
            results.append(made.is_source_out(which * step, now, 300, 2))
        elif name == "strike":
            clock += number
            results.append(made.strike((which + 1) << 25, clock, 20))
        elif name == "observe":
            made.histogram(0, 3).observe(which / 1000)
        elif name == "view":
            made.use_slot(number)
            views[which, number] = words = made.words(1 + which * LIMITS_MAX * 2)
            results.append(words.add(1))
        elif name == "drop":
            views.pop((which, number), None)
        elif name == "give up":
            for key in [key for key in views if key[1] == number]:
                del views[key]
            made.give_up(number, made.references(number))
        else:
            made.reclaim(number)
        results.append((limit.total, limit.share, made.entries, made.references(0)))
    return [results, list(made.values(0)[:130])]


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_both_builds_answer_alike(operations: list[tuple[str, int, int]]) -> None:
    assert play(shared, operations) == play(pure, operations)


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
def test_both_builds_have_one_layout() -> None:
    assert shared.segment_size(3) == pure.segment_size(3)
    memory = mmap.mmap(-1, segment_size(3))
    one, other = Segment(memory, 3), pure.Segment(memory)
    seed = random.Random(5)
    for _ in range(50):
        slot, key = seed.randrange(3), seed.getrandbits(64)
        limit, twin = one.limit(key, slot), other.limit(key, slot)
        assert limit is not None
        assert twin is not None
        assert limit.take(9)
        assert twin.total == twin.share == 1
    one.add_name(2, b"name")
    one.values(2)[4] = 44
    one.commit(3)
    one.beat(1, 12)
    assert other.names(2) == b"name"
    assert other.load(2, 4) == 44
    assert (other.generation, other.last_beat(1)) == (3, 12)


def test_places_are_taken_all_or_none() -> None:
    limit = segment().limit(8, 0)
    assert limit is not None
    assert limit.take(10, 7)
    assert not limit.take(10, 4)
    assert limit.take(10, 3)
    assert limit.take(2**64 - 1, 5)
    assert not limit.take(0, 1)
    with pytest.raises(ValueError, match="fewer places were taken"):
        limit.give(16)
    limit.give(15)
    assert limit.total == limit.share == 0


AT_LOCK = 16
"""The word of the lock: how often it was taken, and in its lower half the process that has it."""


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_a_process_that_keeps_the_lock_or_writes_nonsense_there_hangs_nobody() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)
    words = memoryview(memory).cast("Q")
    # Of a living process, of a process group, of nobody.
    for owner in (os.getppid(), 0xFFFF_FFFF, 0x7FFF_FFFF):
        words[AT_LOCK] = words[AT_LOCK] >> 32 << 32 | owner
        view = ours.words(3)
        assert view is not None
        del view
        assert ours.entries == 0
        assert words[AT_LOCK] & 0xFFFF_FFFF == 0
    words.release()


def be_patient(ours: Segment) -> None:
    """Wait as long for the lock again as one who has never broken it."""
    for _ in range(600):
        ours.words(3)


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_who_breaks_the_lock_again_and_again_delays_others_less_and_less() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)
    words = memoryview(memory).cast("Q")
    be_patient(ours)
    looks = [looks_to_break(ours, words) for _ in range(4)]
    # None is shorter than 50 us, and none counts for more than 5 ms.
    assert 100 <= looks[0] <= 20_000
    assert looks[1] <= 2_500
    assert looks[3] <= 400
    words.release()


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_who_has_few_turns_waits_for_no_more_of_them_than_for_time() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)
    words = memoryview(memory).cast("Q")
    for _ in range(4):
        looks_to_break(ours, words)
    # As on a busy machine: a pause ends when it suits the kernel, within this time.
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_TIMERSLACK, 10_000_000)
    try:
        began = time.monotonic()
        for _ in range(10):
            time.sleep(0.000_05)
        if time.monotonic() - began < 0.03:
            pytest.skip("pauses are as short as ever here")
        assert looks_to_break(ours, words) < 100
    finally:
        libc.prctl(PR_SET_TIMERSLACK, 0)
        words.release()


PR_SET_TIMERSLACK = 29


def looks_to_break(ours: Segment, words: memoryview) -> int:
    """Return how often the lock is looked at that somebody keeps, until it is taken over."""
    words[AT_LOCK] = words[AT_LOCK] >> 32 << 32 | os.getppid()
    # Whoever has looked sleeps before the next look, but for a few whose time is over at once.
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    assert ours.words(3) is not None
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before


STILL_SECONDS = 1.2
"""Longer than anybody waits for the lock."""

LOOKS_SECONDS = 0.9
"""Shorter than anybody waits who has broken no lock lately."""


@pytest.mark.skipif(not _core.COMPILED, reason="the twin serves one process")
def test_who_did_not_run_while_it_waited_does_not_take_the_lock_for_broken() -> None:
    memory = mmap.mmap(-1, segment_size(2))
    ours = Segment(memory, 2)
    words = memoryview(memory).cast("Q")
    be_patient(ours)
    words[AT_LOCK] = held = words[AT_LOCK] >> 32 << 32 | os.getpid()
    began = time.monotonic()
    child = os.fork()
    if not child:
        try:
            Segment(memory).words(5)
        finally:
            os._exit(0)
    try:
        time.sleep(0.02)
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        looked = time.monotonic() - began
        time.sleep(STILL_SECONDS)
        began = time.monotonic()
        os.kill(child, signal.SIGCONT)
        time.sleep(0.02)
        seen = words[AT_LOCK]
        looked += time.monotonic() - began
        # Else this process was the one that did not run, and nothing is known.
        assert seen == held or looked > LOOKS_SECONDS
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        words.release()
