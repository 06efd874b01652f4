"""What it costs to pick one of 100 backends."""

from functools import partial
from typing import Final

from spooky._core import balance
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import CALLS, calls, picks

BACKENDS: Final = [b"backend-%d" % number for number in range(100)]

WEIGHTS: Final = {
    "equal": [100] * len(BACKENDS),
    "mixed": [(50, 100, 200)[number % 3] for number in range(len(BACKENDS))],
}

STRATEGIES: Final = ("RoundRobin", "Random", "LeastRequest", "RingHash", "Maglev")

HASHES: Final = {16: 0x44B6EF2FB84169F7, 64: 0xF7C67301DB6713F0}
"""XXH64 of 0, 1, 2 and so on, by length."""


def _pick(strategy: str, kind: str) -> Work:
    return picks(getattr(balance, strategy)(BACKENDS, WEIGHTS[kind]))


def _pick_bounded(strategy: str) -> Work:
    balancer = getattr(balance, strategy)(BACKENDS, WEIGHTS["equal"], balance_factor=1.25)
    for key in range(CALLS):
        balancer.started(balancer.pick(balance.hash_key(b"%d" % key)))
    return picks(balancer)


def _pick_latency_aware() -> Work:
    balancer = balance.LatencyAware(BACKENDS, WEIGHTS["equal"])
    for backend in range(len(BACKENDS)):
        balancer.started(backend)
        balancer.finished(backend, 10.0 + backend)
    return picks(balancer)


def _hash(length: int) -> Work:
    return calls(
        lambda found: bool(found == HASHES[length]), balance.hash_key, bytes(range(length))
    )


CASES: Final = (
    *(
        Case(f"pick: {strategy}, 100 backends, {kind} weights", partial(_pick, strategy, kind))
        for strategy in STRATEGIES
        for kind in WEIGHTS
    ),
    *(
        Case(f"pick: {strategy}, 100 backends, bounded load", partial(_pick_bounded, strategy))
        for strategy in ("RingHash", "Maglev")
    ),
    Case("pick: LatencyAware, 100 backends, equal weights", _pick_latency_aware),
    *(Case(f"hash_key: {length} bytes", partial(_hash, length)) for length in HASHES),
)
