"""What counting the outcome of a try costs, in words that all workers share."""

from typing import Final

from spooky._core.outcomes import Tally
from spooky._core.reasons import CONNECT_REFUSED
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment


def _tally() -> Tally:
    made = segment()
    return Tally(made.words(2), made.words(4), 5, 5)


def _answered() -> Work:
    return calls(lambda result: result is None, _tally().answered, 200, 12.5)


def _failed() -> Work:
    return calls(lambda result: result is None, _tally().failed, CONNECT_REFUSED)


CASES: Final = (
    Case("outcomes: count an answer", _answered),
    Case("outcomes: count a failure", _failed),
)
