"""What an adaptive limit costs each request."""

from itertools import count
from typing import Final

from spooky._core.concurrency import Gradient
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment

LATENCY: Final = 0.02
MICROSECONDS: Final = 1e6


def _ask_and_tell() -> Work:
    words = segment().words(2)
    assert words is not None
    limit = Gradient(words, 4, 1_024, 1.1, 60.0)
    moments = count(1)

    def ask_and_tell() -> int:
        asked = limit.limit()
        limit.observe(next(moments) / MICROSECONDS, LATENCY)
        return asked

    return calls(lambda asked: 4 <= asked <= 1_024, ask_and_tell)


CASES: Final = (Case("concurrency: ask for the limit and tell a latency", _ask_and_tell),)
