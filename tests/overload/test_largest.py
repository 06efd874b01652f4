"""Which streams are reset as memory runs out, and how many."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky.config.overload_manager import MemoryTrigger, Overload, OverloadActions
from spooky.overload.largest import SIZE_MIN, Held, fewest
from spooky.overload.manager import OverloadManager, Resource

MIB = 1024 * 1024


def nothing() -> Callable[[], None]:
    return lambda: None


def sizes(streams: list[int], wanted: int) -> list[int]:
    return [each.size for each in fewest([Held(size, nothing()) for size in streams], wanted)]


def test_the_largest_go_first_and_no_more_than_needed() -> None:
    streams = [MIB, 8 * MIB, 2 * MIB, 4 * MIB]
    assert sizes(streams, 0) == []
    assert sizes(streams, 1) == [8 * MIB]
    assert sizes(streams, 8 * MIB) == [8 * MIB]
    assert sizes(streams, 9 * MIB) == [8 * MIB, 4 * MIB]
    assert sizes(streams, 1 << 40) == [8 * MIB, 4 * MIB, 2 * MIB, MIB]


def test_small_ones_stay_however_much_is_wanted() -> None:
    assert sizes([SIZE_MIN - 1] * 1000 + [SIZE_MIN], 1 << 40) == [SIZE_MIN]


@given(st.lists(st.integers(SIZE_MIN, 100 * MIB), max_size=8), st.integers(1, 200 * MIB))
def test_no_fewer_would_do(streams: list[int], wanted: int) -> None:
    chosen = sizes(streams, wanted)
    if sum(streams) >= wanted:
        assert sum(chosen) >= wanted
        # Of all sets with one less, the largest hold most, and those are not enough.
        assert sum(sorted(streams, reverse=True)[: len(chosen) - 1]) < wanted
    else:
        assert len(chosen) == len(streams)


def test_so_much_has_to_be_freed_that_the_action_ends() -> None:
    manager = OverloadManager(Overload())
    manager.update({Resource.MEMORY: 0.94}, 0.0)
    assert manager.memory_to_free(0.94) == 0.0
    manager.update({Resource.MEMORY: 0.97}, 1.0)
    assert manager.memory_to_free(0.97) == pytest.approx(0.97 - (0.95 - 0.05))
    assert manager.memory_to_free(0.90) == pytest.approx(0.0)
    manager.settings = Overload(
        actions=OverloadActions(reset_largest_streams=MemoryTrigger(memory=None))
    )
    manager.update({Resource.MEMORY: 1.0}, 2.0)
    assert manager.memory_to_free(1.0) == 0.0
