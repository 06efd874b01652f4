"""The adaptive limits: bounds, steps, and both builds alike."""

import mmap
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import concurrency as kernel
from spooky._core import shared
from spooky._core.concurrency import Aimd, Gradient
from spooky._core.pure import concurrency as pure
from spooky._core.pure import shared as pure_shared
from spooky._core.pure.concurrency import INITIAL_LIMIT, SAMPLES_MIN
from spooky._core.shared import Limit, Words


def shared_of(build: ModuleType) -> tuple[Limit, Words]:
    segment = build.Segment(mmap.mmap(-1, build.segment_size(1)), 1)
    return segment.limit(7, 0), segment.words(7)


def window(limit: Gradient, start: float, latency: float, count: int = SAMPLES_MIN) -> float:
    """Observe a window of requests that take so long; return when it was over."""
    end = start + max(0.101, 2 * latency)
    for _ in range(count):
        limit.observe(end, latency)
    return end


def test_nothing_is_limited_until_enough_is_known() -> None:
    _, words = shared_of(shared)
    limit = Gradient(words, 4, 1_000, 1.1, 60.0)
    assert limit.limit() == 1_000
    for _ in range(SAMPLES_MIN - 1):
        limit.observe(5.0, 0.01)
    assert limit.limit() == 1_000
    limit.observe(5.0, 0.01)
    assert limit.limit() == INITIAL_LIMIT
    assert limit.minimum == pytest.approx(0.01)


def test_requests_that_say_nothing_change_nothing() -> None:
    for made in (Gradient, Aimd):
        places, words = shared_of(shared)
        arguments = (1.1, 60.0) if made is Gradient else (16, 16, 0.5)
        limit = made(words, 4, 1_000, *arguments)
        for at in range(1_000):
            limit.observe(float(at), -1.0)
        assert [words.load(at) for at in range(7)] == [0] * 7
        assert places.total == 0


def test_a_limit_that_is_not_half_used_stays_whatever_the_latency() -> None:
    places, words = shared_of(shared)
    limit = Gradient(words, 4, 1_000, 1.1, 60.0)
    now = window(limit, 5.0, 0.01)
    places.take(1_000, INITIAL_LIMIT // 2 - 1)
    for _ in range(50):
        now = window(limit, now, 0.5)
    assert limit.limit() == INITIAL_LIMIT


def test_a_used_limit_grows_by_a_quarter_while_requests_are_as_quick_as_among_few() -> None:
    places, words = shared_of(shared)
    limit = Gradient(words, 4, 1_000, 1.1, 60.0)
    now = window(limit, 5.0, 0.01)
    places.take(1_000, INITIAL_LIMIT // 2)
    window(limit, now, 0.0105)
    assert limit.limit() == INITIAL_LIMIT * 1.25


def test_a_window_is_learnt_from_once_by_one_worker() -> None:
    places, words = shared_of(shared)
    first, second = (Gradient(words, 4, 1_000, 1.1, 60.0) for _ in range(2))
    now = window(first, 5.0, 0.01)
    places.take(1_000, INITIAL_LIMIT // 2)
    for _ in range(SAMPLES_MIN - 1):
        first.observe(now + 0.05, 0.01)
        second.observe(now + 0.05, 0.01)
    first.observe(now + 0.2, 0.01)
    second.observe(now + 0.2, 0.01)
    assert first.limit() == second.limit() == INITIAL_LIMIT * 1.25


def test_aimd_steps_with_each_request_between_its_bounds() -> None:
    _, words = shared_of(shared)
    limit = Aimd(words, 64, 128, 16, 32, 0.5)
    assert limit.limit() == 128
    seen = []
    for latency in (0.5, 0.6, 1.0, 0.49, 0.1, 0.1, 0.1, 0.1):
        limit.observe(1.0, latency)
        seen.append(limit.limit())
    assert seen == [96, 64, 64, 80, 96, 112, 128, 128]


@pytest.mark.parametrize(
    "make",
    [
        lambda words: Gradient(words, 0, 10, 1.1, 60.0),
        lambda words: Gradient(words, 11, 10, 1.1, 60.0),
        lambda words: Gradient(words, 1, 10, 0.9, 60.0),
        lambda words: Gradient(words, 1, 10, 1.1, 0.0),
        lambda words: Aimd(words, 1, 10, 0, 1, 0.5),
        lambda words: Aimd(words, 1, 10, 1, 1, 0.0),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"limit needs|tolerance is|steps are"):
        make(shared_of(shared)[1])  # type: ignore[operator]


OBSERVATIONS = st.lists(
    st.tuples(st.floats(0.0, 0.3), st.floats(-0.1, 3.0), st.integers(0, 200), st.integers(1, 300)),
    max_size=40,
)


@given(st.sampled_from(["gradient", "aimd"]), st.integers(1, 50), st.integers(0, 200), OBSERVATIONS)
def test_both_builds_agree_and_stay_within_the_bounds(
    kind: str, lowest: int, room: int, observations: list[tuple[float, float, int, int]]
) -> None:
    sides = []
    for module, build in ((kernel, shared), (pure, pure_shared)):
        places, words = shared_of(build)
        bounds = words, lowest, lowest + room
        made = (
            module.Gradient(*bounds, 1.2, 2.0)
            if kind == "gradient"
            else module.Aimd(*bounds, 3, 7, 0.5)
        )
        sides.append((made, places, words))
    now = 10.0
    for pause, latency, in_flight, count in observations:
        now += pause
        for made, places, _ in sides:
            places.take(1_000, in_flight)
            for _ in range(count):
                made.observe(now, latency)
            places.give(in_flight)
        assert sides[0][0].limit() == sides[1][0].limit()
        assert lowest <= sides[0][0].limit() <= lowest + room
        seen = [[words.load(at) for at in range(7)] for _, _, words in sides]
        assert seen[0] == seen[1]
