"""What counting and limits in the shared segment cost."""

import mmap
import random
from itertools import count
from typing import Final

from spooky._core.shared import Segment, segment_size
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls

COUNTS: Final = 1_000


def segment() -> Segment:
    """Return a segment of four slots."""
    return Segment(mmap.mmap(-1, segment_size(4)), 4)


def _count() -> Work:
    values = segment().values(1)

    def count_up() -> int:
        for _ in range(COUNTS):
            values[7] += 1
        return values[7]

    return Work(run=count_up, right=lambda total: total > 0, calls=COUNTS)


def _limit() -> Work:
    limit = segment().limit(6, 1)
    assert limit is not None

    def take_and_give() -> int:
        limit.take(10)
        limit.give()
        return limit.total

    return calls(lambda total: total == 0, take_and_give)


def _source_rate() -> Work:
    made = segment()
    for source in range(1_000):
        made.take_source_rate(source * 7919, 10**12, 1, 100)
    return calls(bool, made.take_source_rate, 7919, 10**12, 1, 10**9)


def _strike() -> Work:
    made = segment()
    numbers, seconds = random.Random(1), count(1_000)

    def strike() -> int:
        now = next(seconds)
        return sum(made.strike(numbers.getrandbits(64), now, 0) for _ in range(COUNTS))

    return Work(run=strike, right=lambda total: total > 0, calls=COUNTS)


def _observe() -> Work:
    return calls(lambda result: result is None, segment().histogram(1, 20).observe, 0.012)


CASES: Final = (
    Case("shared: count in the segment", _count),
    Case("shared: take a place and give it back", _limit),
    Case("shared: a token for one source of a thousand", _source_rate),
    Case("shared: strike a ticket out", _strike),
    Case("shared: observe a duration", _observe),
)
