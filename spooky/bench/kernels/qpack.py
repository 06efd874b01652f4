"""What it costs to bound a QPACK block."""

from typing import Final

from pylsqpack import Encoder

from spooky._core.qpack import WITHIN_LIMITS, scan
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST
from spooky.bench.kernels.loops import calls


def _scan() -> Work:
    _, block = Encoder().encode(0, REQUEST)
    return calls(lambda result: bool(result == WITHIN_LIMITS), scan, block, 128, 16384)


CASES: Final = (Case("qpack scan: 15 fields", _scan),)
