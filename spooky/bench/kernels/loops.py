"""Loops over kernel calls, and what they cost without the calls.

One call is too short to time from Python. So a round is a loop of them, compiled for the compiled
kernels and plain Python for the twins, and the time of the same loop without them is subtracted.
"""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Final

from spooky._core import COMPILED
from spooky._core.balance import Balancer
from spooky._core.routes import RouteTable
from spooky.bench.kernels.case import Work

CALLS: Final = 5_000

STRIDE: Final = 0x9E3779B97F4A7C15
"""Successive multiples of this fall all over the ring."""

KEYS: Final = [(number + 1) * STRIDE & 0xFFFFFFFFFFFFFFFF for number in range(CALLS)]

Lookup = tuple[bytes, bytes, bytes]
"""Host, path and method."""


def calls(right: Callable[[Any], bool], function: Callable[..., Any], *args: Any) -> Work:
    """Return calls of a function, all with the same arguments."""
    if not COMPILED or isinstance(function, FunctionType):
        return _work(right, partial(_calls, function, args), partial(_no_calls, function, args))
    from spooky.bench import kernel_loops as compiled

    return _work(
        right,
        partial(compiled.calls, function, args, CALLS),
        partial(compiled.no_calls, function, args, CALLS),
    )


def picks(balancer: Balancer) -> Work:
    """Return picks of a balancer, each for another key."""
    if not COMPILED:
        return _work(_any, partial(_picks, balancer), _no_picks)
    from spooky.bench import kernel_loops as compiled

    return _work(
        _any, partial(compiled.picks, balancer, CALLS), partial(compiled.no_picks, balancer, CALLS)
    )


def lookups(table: RouteTable, requests: list[Lookup]) -> Work:
    """Return lookups, each for another request; all find a target."""

    def right(found: int) -> bool:
        return found == len(requests)

    if not COMPILED:
        return _work(right, partial(_lookups, table, requests), partial(_no_lookups, requests))
    from spooky.bench import kernel_loops as compiled

    return _work(
        right,
        partial(compiled.lookups, table, requests),
        partial(compiled.no_lookups, table, requests),
    )


def _work(right: Callable[[Any], bool], run: Callable[[], Any], bare: Callable[[], Any]) -> Work:
    return Work(run=run, right=right, calls=CALLS, bare=bare)


def _any(result: Any) -> bool:
    return result is not None


def _calls(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    for _ in KEYS:
        result = function(*args)
    return result


def _no_calls(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    for _ in KEYS:
        result = args
    return result


def _picks(balancer: Balancer) -> int:
    total = 0
    pick = balancer.pick
    for key in KEYS:
        total += pick(key)
    return total


def _no_picks() -> int:
    total = 0
    for key in KEYS:
        total += key & 1
    return total


def _lookups(table: RouteTable, requests: list[Lookup]) -> int:
    found = 0
    lookup = table.lookup
    for host, path, method in requests:
        if lookup(host, path, method) is not None:
            found += 1
    return found


def _no_lookups(requests: list[Lookup]) -> int:
    found = 0
    for host, _, _ in requests:
        if host is not None:
            found += 1
    return found
