"""Sets of ranges against sets of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.quic.ranges import RangeSet

LIMIT = 60
SPAN = st.tuples(st.integers(0, LIMIT), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))
STEP = st.one_of(
    st.tuples(st.just("add"), SPAN),
    st.tuples(st.just("add"), SPAN),
    st.tuples(st.just("remove"), SPAN),
    st.tuples(st.just("remove_below"), st.tuples(st.integers(0, LIMIT))),
    st.tuples(st.just("keep_newest"), st.tuples(st.integers(0, 12))),
    st.tuples(st.just("clear"), st.tuples()),
)


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Return the ranges that numbers form."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    stops = sorted(number + 1 for number in numbers if number + 1 not in numbers)
    return list(zip(starts, stops, strict=True))


def newest(numbers: set[int], most: int) -> set[int]:
    """Return the numbers in the highest ranges."""
    kept = runs(numbers)[-most:] if most else []
    return {number for start, stop in kept for number in range(start, stop)}


def apply(numbers: set[int], name: str, arguments: tuple[int, ...]) -> set[int]:
    """Return what a step makes of a set of numbers."""
    match name:
        case "add":
            return numbers | set(range(*arguments))
        case "remove":
            return numbers - set(range(*arguments))
        case "remove_below":
            return {number for number in numbers if number >= arguments[0]}
        case "keep_newest":
            return newest(numbers, arguments[0])
        case _:
            return set()


@given(st.lists(STEP, max_size=80))
def test_a_range_set_is_a_set(steps: list[tuple[str, tuple[int, ...]]]) -> None:
    numbers: set[int] = set()
    subject = RangeSet()
    for name, arguments in steps:
        after = apply(numbers, name, arguments)
        result = getattr(subject, name)(*arguments)
        if name == "add":
            assert result == (after != numbers)
        numbers = after
        assert subject.ranges() == runs(numbers)
        assert subject.count == len(runs(numbers))
    assert [n for n in range(2 * LIMIT) if subject.contains(n)] == sorted(numbers)


@pytest.mark.parametrize(
    "order", [range(1000), range(999, -1, -1), [*range(0, 1000, 2), *range(999, 0, -2)]]
)
def test_many_ranges_in_any_order(order: range | list[int]) -> None:
    subject = RangeSet()
    for number in order:
        assert subject.add(3 * number, 3 * number + 2)
    assert subject.ranges() == [(3 * number, 3 * number + 2) for number in range(1000)]
    subject.add(0, 3000)
    assert subject.ranges() == [(0, 3000)]


def test_a_window_that_moves_on() -> None:
    subject = RangeSet()
    for number in range(0, 20_000, 2):
        subject.add(number, number + 1)
        subject.keep_newest(7)
    assert subject.ranges() == [(number, number + 1) for number in range(19_986, 20_000, 2)]


def test_the_largest_packet_number_fits() -> None:
    largest = 2**62 - 1
    subject = RangeSet()
    subject.add(largest, largest + 1)
    assert subject.contains(largest)
    assert not subject.contains(largest - 1)
    subject.remove_below(largest)
    assert subject.ranges() == [(largest, largest + 1)]
