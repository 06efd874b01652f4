"""What it costs to read a priority field, as browsers send it."""

from typing import Final

from spooky._core.priority import DEFAULT_PRIORITY, parse_priority
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls


def _parse() -> Work:
    return calls(lambda result: result == (1, True), parse_priority, b"u=1, i", DEFAULT_PRIORITY)


CASES: Final = (Case("priority: u=1, i", _parse),)
