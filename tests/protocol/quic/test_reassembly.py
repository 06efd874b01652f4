"""Ranges that wait for their turn, against aioquic's own."""

import pytest
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.rangeset import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from spooky.protocol.quic.reassembly import GapBudget, WaitingRanges

ADDED = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=40)


@given(ADDED)
def test_ranges_are_those_of_aioquic(added: list[tuple[int, int]]) -> None:
    budget = GapBudget(2_000)
    ours, theirs = WaitingRanges(budget), RangeSet()
    for start, length in added:
        ours.add(start, start + length)
        theirs.add(start, start + length)
        assert [ours[index] for index in range(len(ours))] == list(theirs)
        assert budget.count == len(theirs)
    while len(theirs):
        assert ours.shift() == theirs.shift()
        assert budget.count == len(theirs)


def test_a_single_byte_needs_no_end() -> None:
    ranges = WaitingRanges(GapBudget(2_000))
    ranges.add(5)
    assert ranges[0] == range(5, 6)


def test_a_budget_is_shared_and_given_back() -> None:
    budget = GapBudget(3)
    one, other = WaitingRanges(budget), WaitingRanges(budget)
    one.add(2, 3)
    one.add(5, 6)
    other.add(2, 3)
    one.clear()
    other.add(5, 6)
    other.add(8, 9)
    with pytest.raises(QuicConnectionError, match="too many gaps"):
        one.add(2, 3)
