"""What a circuit breaker costs each try at its backend."""

from typing import Final

from spooky._core.breaker import Breaker
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment


def _closed() -> Work:
    words = segment().words(2)
    assert words is not None
    breaker = Breaker(words, 5, 1_000, 60_000, 1)

    def enter_and_succeed() -> int:
        ticket = breaker.enter(1.0)
        breaker.succeeded(ticket)
        return ticket

    return calls(lambda ticket: ticket >= 0, enter_and_succeed)


CASES: Final = (Case("breaker: enter a closed one and succeed", _closed),)
