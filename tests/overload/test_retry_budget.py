"""What may be spent on retries: a share of recent requests with a floor, by all workers at once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.observe.counters import Counters
from spooky.observe.segment import private_segment
from spooky.overload.retry_budget import (
    BUCKETS,
    FLUSH_REQUESTS,
    RetryBudget,
    WindowCounts,
    shared_counts,
)

WINDOW = 9.0
START = 1_000_000.0  # seconds on a clock that has run for a while


def counts(window: float = WINDOW) -> WindowCounts:
    return shared_counts(Counters(private_segment()), "api", window)


def spent(budget: RetryBudget, now: float, asked: int = 1_000) -> int:
    """Return how many of the retries asked for there were."""
    return sum(budget.spend(now) for _ in range(asked))


def test_no_more_than_the_share_of_the_requests_is_spent():
    budget = RetryBudget(counts(), ratio_percent=20, floor=0)
    for _ in range(500):
        budget.count_request(START)
    assert spent(budget, START) == 100


def test_the_floor_is_there_without_any_request_and_not_on_top_of_the_share():
    budget = RetryBudget(counts(), ratio_percent=20, floor=10)
    assert spent(budget, START) == 10
    for _ in range(40):
        budget.count_request(START)
    assert spent(budget, START) == 0
    for _ in range(60):
        budget.count_request(START)
    assert spent(budget, START) == 10


def test_requests_that_are_not_yet_told_to_other_workers_count():
    budget = RetryBudget(counts(), ratio_percent=100, floor=0)
    for _ in range(FLUSH_REQUESTS - 1):
        budget.count_request(START)
    assert budget.untold == FLUSH_REQUESTS - 1
    assert spent(budget, START) == FLUSH_REQUESTS - 1
    assert budget.untold == 0


def test_what_is_older_than_the_window_neither_allows_nor_forbids():
    budget = RetryBudget(counts(), ratio_percent=10, floor=0)
    for _ in range(160):
        budget.count_request(START)
    assert spent(budget, START) == 16
    part = WINDOW / BUCKETS
    assert not budget.spend(START + part)
    later = START + WINDOW
    for _ in range(160):
        budget.count_request(later)
    assert spent(budget, later) == 16
    assert not budget.spend(later + WINDOW), "the requests are forgotten too"


def test_workers_share_what_there_is():
    segment = private_segment()
    first, second = (
        RetryBudget(shared_counts(Counters(segment), "api", WINDOW), 50, 0) for _ in range(2)
    )
    other = RetryBudget(shared_counts(Counters(segment), "web", WINDOW), 50, 0)
    for _ in range(FLUSH_REQUESTS):
        first.count_request(START)
        second.count_request(START)
    assert spent(first, START) == FLUSH_REQUESTS
    assert not second.spend(START)
    assert not other.spend(START), "an upstream has a budget of its own"


def test_a_count_does_not_run_into_the_number_of_its_part():
    window = counts()
    window.add_requests((1 << 32) - 2, START)
    window.add_requests(100, START)
    assert window.requests(START) == (1 << 32) - 1


class Contended:
    """Words that another worker changes before each of the first swaps."""

    def __init__(self, words, meddle):
        self._words = words
        self._meddle = meddle

    def load(self, position):
        return self._words.load(position)

    def swap(self, position, expected, value):
        if self._meddle:
            self._meddle.pop()()
        return self._words.swap(position, expected, value)


@pytest.mark.parametrize("limit", [0, 1, 5, 50])
def test_a_limit_is_exact_though_workers_spend_at_the_same_time(limit):
    words = private_segment().words(1)
    other = WindowCounts(words, WINDOW)
    taken = []
    meddle = [lambda: taken.append(other.take_retry(limit, START)) for _ in range(3)]
    window = WindowCounts(Contended(words, meddle), WINDOW)
    mine = sum(window.take_retry(limit, START) for _ in range(100))
    assert mine + sum(taken) == limit == window.retries(START)


@given(
    st.lists(st.tuples(st.floats(0, 4), st.integers(0, 60), st.integers(0, 60)), max_size=40),
    st.integers(0, 100),
    st.integers(0, 20),
)
def test_within_any_window_no_more_is_spent_than_share_and_floor_allow(steps, ratio, floor):
    """Of what lies within the window, as exactly as its parts tell."""
    budget = RetryBudget(counts(), ratio, floor)
    part = WINDOW / BUCKETS
    now = START
    requests, retries = [], []
    for pause, more, asked in steps:
        now += pause
        for _ in range(more):
            budget.count_request(now)
        budget.limit(now)  # Tells the counts at once, so that no request is counted later.
        requests += [now] * more
        taken = spent(budget, now, asked)
        retries += [now] * taken
        oldest = int(now / part) - BUCKETS + 1
        came, went = (
            sum(int(at / part) >= oldest for at in times) for times in (requests, retries)
        )
        assert not taken or went <= max(floor, came * ratio // 100)


def test_when_all_fail_tries_stay_within_a_fifth_above_the_normal_rate():
    """1,000 requests/s for 60 s, each of which would be tried three times."""
    budget = RetryBudget(counts(10.0), ratio_percent=20, floor=10)
    chance = random.Random(1)
    now, first_tries, retries = START, 0, 0
    for _ in range(60_000):
        now += chance.expovariate(1_000)
        budget.count_request(now)
        first_tries += 1
        retries += budget.spend(now) + budget.spend(now)
    assert retries / first_tries <= 0.2
    assert retries / first_tries >= 0.15


def test_what_is_given_back_may_be_spent_again_and_no_more_than_was_spent():
    shared = counts()
    budget, other = (RetryBudget(shared, ratio_percent=20, floor=3) for _ in range(2))
    assert spent(budget, START) == 3
    # Another worker's word for it is as good, and so is that of a little later.
    other.give_back(START)
    budget.give_back(START + WINDOW / BUCKETS)
    assert spent(budget, START + WINDOW / BUCKETS) == 2
    for _ in range(9):
        budget.give_back(START + WINDOW / BUCKETS)
    assert spent(budget, START + WINDOW / BUCKETS) == 3
    # Beyond the window there is nothing to give back.
    budget.give_back(START + 3 * WINDOW)
    assert spent(budget, START + 3 * WINDOW) == 3
