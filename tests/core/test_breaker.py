"""The circuit breaker: when it opens, what it lets through then, and both builds alike."""

import mmap
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import breaker as kernel
from spooky._core import shared
from spooky._core.breaker import CLOSED, HALF_OPEN, OPEN, REFUSED, Breaker
from spooky._core.pure import breaker as pure
from spooky._core.pure import shared as pure_shared
from spooky._core.shared import Words

INITIAL_MS = 1_000
MAX_MS = 4_000


def words_of(build: ModuleType) -> Words:
    segment = build.Segment(mmap.mmap(-1, build.segment_size(1)), 1)
    made: Words = segment.words(7)
    return made


def make(words: Words | None = None, threshold: int = 3, probes: int = 1) -> Breaker:
    return Breaker(words or words_of(shared), threshold, INITIAL_MS, MAX_MS, probes)


def fail(breaker: Breaker, now: float, times: int = 3) -> None:
    for _ in range(times):
        breaker.failed(breaker.enter(now), now)


def test_failures_in_a_row_open_it_and_a_success_between_starts_anew() -> None:
    breaker = make()
    fail(breaker, 1.0, 2)
    breaker.succeeded(breaker.enter(1.0))
    fail(breaker, 1.0, 2)
    assert breaker.enter(1.0) != REFUSED
    ticket = breaker.enter(1.0)
    assert breaker.failed(ticket, 1.0)
    assert breaker.enter(1.0) == REFUSED
    assert breaker.remaining(1.0) == pytest.approx(1.0)


def test_what_one_lost_connection_takes_with_it_is_one_failure() -> None:
    breaker = make()
    tickets = [breaker.enter(1.0) for _ in range(100)]
    assert not any(breaker.failed(ticket, 1.0) for ticket in tickets)
    assert breaker.failures == 1
    assert breaker.enter(1.0) != REFUSED


def test_when_its_time_is_over_one_probe_decides() -> None:
    breaker = make()
    fail(breaker, 1.0)
    assert breaker.enter(1.9) == REFUSED
    probe = breaker.enter(2.0)
    assert probe != REFUSED
    assert breaker.enter(2.0) == REFUSED
    assert breaker.succeeded(probe)
    assert breaker.is_closed
    assert breaker.enter(2.0) != REFUSED


@pytest.mark.parametrize("build", [kernel, pure], ids=["kernel", "twin"])
def test_each_change_is_told_once_by_who_makes_it(build: ModuleType) -> None:
    told: list[tuple[int, int]] = []
    words = words_of(shared if build is kernel else pure_shared)

    def breaker(into: list[tuple[int, int]]) -> Breaker:
        made: Breaker = build.Breaker(
            words, 3, INITIAL_MS, MAX_MS, 2, lambda phase, ms: into.append((phase, ms))
        )
        return made

    others: list[tuple[int, int]] = []
    ours, other = breaker(told), breaker(others)
    assert ours.phase == CLOSED
    fail(ours, 1.0)
    assert (told, ours.phase) == ([(OPEN, INITIAL_MS)], OPEN)
    probes = [other.enter(2.0), other.enter(2.0)]
    assert (others, ours.phase) == ([(HALF_OPEN, 0)], HALF_OPEN)
    # A probe without a result leaves it half-open for the next.
    for probe in probes:
        other.gave_up(probe)
    assert ours.phase == HALF_OPEN
    again = other.enter(2.0)
    assert others == [(HALF_OPEN, 0)]
    other.failed(again, 2.0)
    assert others[1:] == [(OPEN, 2 * INITIAL_MS)]
    assert ours.succeeded(ours.enter(4.0))
    assert told[1:] == [(HALF_OPEN, 0), (CLOSED, 0)]
    assert ours.phase == CLOSED


def test_each_failed_probe_doubles_its_time_up_to_the_maximum() -> None:
    breaker, now = make(), 1.0
    fail(breaker, now)
    for seconds in (1.0, 2.0, 4.0, 4.0):
        assert breaker.remaining(now) == pytest.approx(seconds)
        now += seconds
        assert breaker.failed(breaker.enter(now), now)
    now += 4.0
    breaker.succeeded(breaker.enter(now))
    fail(breaker, now)
    assert breaker.remaining(now) == pytest.approx(1.0)


def test_results_from_before_a_change_of_its_state_are_ignored() -> None:
    breaker = make()
    old, late = breaker.enter(1.0), breaker.enter(1.0)
    fail(breaker, 1.0)
    assert not breaker.succeeded(old)
    assert breaker.enter(1.5) == REFUSED
    probe = breaker.enter(2.0)
    assert not breaker.failed(late, 2.0)
    breaker.succeeded(probe)
    assert breaker.failures == 0
    assert breaker.is_closed


def test_a_probe_that_was_given_up_is_anothers_at_once() -> None:
    breaker = make()
    fail(breaker, 1.0)
    breaker.gave_up(breaker.enter(2.0))
    assert breaker.enter(2.0) != REFUSED
    assert breaker.enter(2.0) == REFUSED


def test_the_probes_of_a_dead_worker_count_as_lost_after_the_longest_time() -> None:
    words = words_of(shared)
    dead, alive = make(words), make(words)
    fail(dead, 1.0)
    assert dead.enter(2.0) != REFUSED
    assert alive.enter(2.0 + MAX_MS / 1000 - 0.01) == REFUSED
    assert alive.enter(2.0 + MAX_MS / 1000) != REFUSED


def test_more_probes_go_at_once_where_allowed() -> None:
    breaker = make(probes=3)
    fail(breaker, 1.0)
    tickets = [breaker.enter(2.0) for _ in range(4)]
    assert REFUSED not in tickets[:3]
    assert tickets[3] == REFUSED
    breaker.gave_up(tickets[0])
    assert breaker.enter(2.0) != REFUSED


def test_workers_share_it() -> None:
    words = words_of(shared)
    fail(make(words), 1.0)
    assert make(words).enter(1.0) == REFUSED


@pytest.mark.parametrize(
    "bad", [(0, 1, 1, 1), (101, 1, 1, 1), (1, 0, 1, 1), (1, 2, 1, 1), (1, 1, 1, 0), (1, 1, 1, 101)]
)
def test_impossible_settings_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"breaker needs|thresholds and probes"):
        Breaker(words_of(shared), *bad)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "succeeded", "failed", "gave_up", "wait"]), st.integers(0, 9)
    ),
    max_size=80,
)


@given(st.integers(1, 4), st.integers(1, 3), STEPS)
def test_both_builds_decide_alike_and_keep_their_promises(
    threshold: int, probes: int, steps: list[tuple[str, int]]
) -> None:
    ours, twins = words_of(shared), words_of(pure_shared)
    breaker = kernel.Breaker(ours, threshold, INITIAL_MS, MAX_MS, probes)
    twin = pure.Breaker(twins, threshold, INITIAL_MS, MAX_MS, probes)
    now, tickets = 1.0, []
    for step, which in steps:
        if step == "wait":
            now += which / 4
            continue
        if step == "enter":
            ticket = breaker.enter(now)
            assert ticket == twin.enter(now)
            if ticket != REFUSED:
                tickets.append(ticket)
            assert ticket == REFUSED or breaker.is_closed or ours.load(1) & 0xFF > 0
            continue
        if not tickets:
            continue
        ticket = tickets.pop(which % len(tickets))
        results = [
            each.failed(ticket, now) if step == "failed" else getattr(each, step)(ticket)
            for each in (breaker, twin)
        ]
        assert results[0] == results[1]
        assert [ours.load(at) for at in (1, 2)] == [twins.load(at) for at in (1, 2)]
        assert breaker.remaining(now) == twin.remaining(now) <= MAX_MS / 1000
        assert breaker.failures < threshold
        assert ours.load(1) & 0xFF <= probes
    # Whatever happened, a backend is tried again in the end.
    assert breaker.enter(now + MAX_MS / 1000 + 0.001) != REFUSED


@pytest.mark.parametrize("build", [kernel, pure], ids=["kernel", "pure"])
def test_a_probe_that_is_answered_closes_it_before_its_body_ends(build: ModuleType) -> None:
    """Event streams and downloads do not end for longer than it stays open."""
    words = words_of(shared if build is kernel else pure_shared)
    breaker = build.Breaker(words, 3, INITIAL_MS, MAX_MS, 1)
    fail(breaker, 1.0)
    assert breaker.enter(1.5) == REFUSED
    probe = breaker.enter(2.5)
    breaker.answered(probe)
    assert breaker.is_closed
    breaker.succeeded(probe)
    assert breaker.is_closed


def test_an_answer_is_no_success_yet_of_a_request_that_is_no_probe() -> None:
    breaker = make()
    fail(breaker, 1.0, 2)
    ticket = breaker.enter(1.0)
    breaker.answered(ticket)
    breaker.failed(ticket, 1.0)
    assert not breaker.is_closed
