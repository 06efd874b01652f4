"""Making the balancer that a configuration names."""

from collections.abc import Sequence

from spooky._core.balance import (
    Balancer,
    LatencyAware,
    LeastRequest,
    Loads,
    Maglev,
    Random,
    RingHash,
    RoundRobin,
)
from spooky.config.schema import BALANCING_ALIASES


def make_balancer(
    type_name: str,
    ids: Sequence[bytes],
    weights: Sequence[int],
    seed: int,
    balance_factor: float,
    loads: Loads | None = None,
) -> Balancer:
    """Return a balancer of the named type.

    Arguments:
        type_name: A balancing type of the configuration, or one of its other spellings.
        balance_factor: For the hashing types; 0 for no bound on load.
        loads: What an earlier balancer of the upstream left; its own if none are given.

    Raises:
        ValueError: There is no such type.
    """
    match BALANCING_ALIASES.get(type_name, type_name):
        case "round-robin":
            return RoundRobin(ids, weights, seed, loads)
        case "random":
            return Random(ids, weights, seed, loads)
        case "consistent-hash" | "sticky-cid":
            return RingHash(ids, weights, seed, balance_factor, loads)
        case "maglev":
            return Maglev(ids, weights, seed, balance_factor, loads)
        case "least-request":
            return LeastRequest(ids, weights, seed, loads)
        case "latency-aware":
            return LatencyAware(ids, weights, seed, loads)
    raise ValueError(f"{type_name!r} is not a balancing type")
