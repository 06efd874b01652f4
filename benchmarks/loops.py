"""Loops over kernel calls, and what they cost without the calls.

One call is too short to time from Python. So a benchmark times a loop of them, compiled for the
compiled kernel and plain Python for the twin, and leaves with its result the number of calls and
the time of the same loop without them; ``tools/bench_table.py`` states the difference for a call.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture
from setuptools import Distribution, Extension

from spooky._core import balance, routes
from spooky._core.pure import balance as pure_balance
from spooky._core.pure import routes as pure_routes

CALLS = 5_000
HARNESS_RUNS = 25
SOURCE = Path(__file__).with_name("core_loops.pyx")
BUILD = Path("build/core_loops")
# Successive multiples of this fall all over the ring.
STRIDE = 0x9E3779B97F4A7C15

KEYS = [(number + 1) * STRIDE & 0xFFFFFFFFFFFFFFFF for number in range(CALLS)]


@cache
def compiled() -> ModuleType:
    """Compile ``core_loops.pyx`` against the kernels' declarations, and import it."""
    from Cython.Build import cythonize

    extension = Extension("core_loops", [str(SOURCE)], extra_compile_args=["-O3"])
    extensions = cythonize([extension], build_dir=str(BUILD), include_path=["."], quiet=True)
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(BUILD)
    command.ensure_finalized()
    command.run()
    spec = importlib.util.spec_from_file_location("core_loops", command.get_outputs()[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def time_calls(benchmark: BenchmarkFixture, function: Callable[..., Any], *args: Any) -> Any:
    """Time calls of a kernel's function; return what it returns."""
    if isinstance(function, FunctionType):
        return _time(benchmark, _calls, _no_calls, function, args)
    return _time(benchmark, compiled().calls, compiled().no_calls, function, args, CALLS)


def time_picks(benchmark: BenchmarkFixture, balancer: balance.Balancer) -> None:
    """Time picks, each for another key."""
    if isinstance(balancer, pure_balance.Balancer):
        _time(benchmark, _picks, _no_picks, balancer)
    else:
        _time(benchmark, compiled().picks, compiled().no_picks, balancer, CALLS)


def time_lookups(
    benchmark: BenchmarkFixture,
    table: routes.RouteTable,
    requests: list[tuple[bytes, bytes, bytes]],
) -> int:
    """Time lookups, each for another (host, path, method); return how many found a target."""
    if isinstance(table, pure_routes.RouteTable):
        return _time(benchmark, _lookups, _no_lookups, table, requests)
    return _time(benchmark, compiled().lookups, compiled().no_lookups, table, requests)


def time_protections(benchmark: BenchmarkFixture, key: Any, mask: Any, packet: bytearray) -> None:
    """Time sealing a packet in place and masking its header."""
    loops = compiled()
    _time(benchmark, loops.protections, loops.no_protections, key, mask, packet, CALLS)


def time_openings(benchmark: BenchmarkFixture, key: Any, header: bytes, sealed: bytes) -> int:
    """Time opening a packet; return the bytes opened."""
    loops = compiled()
    return _time(benchmark, loops.openings, loops.no_openings, key, header, sealed, CALLS)


def _time(
    benchmark: BenchmarkFixture, loop: Callable[..., Any], harness: Callable[..., Any], *args: Any
) -> Any:
    durations = []
    for _ in range(HARNESS_RUNS if benchmark.enabled else 1):
        start = time.perf_counter()
        harness(*args)
        durations.append(time.perf_counter() - start)
    benchmark.extra_info["calls"] = CALLS
    benchmark.extra_info["harness_seconds"] = statistics.median(durations)
    return benchmark(loop, *args)


def _calls(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    for _ in KEYS:
        result = function(*args)
    return result


def _no_calls(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    for _ in KEYS:
        result = args
    return result


def _picks(balancer: balance.Balancer) -> int:
    total = 0
    pick = balancer.pick
    for key in KEYS:
        total += pick(key)
    return total


def _no_picks(balancer: balance.Balancer) -> int:
    total = 0
    for key in KEYS:
        total += key & 1
    return total


def _lookups(table: routes.RouteTable, requests: list[tuple[bytes, bytes, bytes]]) -> int:
    found = 0
    lookup = table.lookup
    for host, path, method in requests:
        if lookup(host, path, method) is not None:
            found += 1
    return found


def _no_lookups(table: routes.RouteTable, requests: list[tuple[bytes, bytes, bytes]]) -> int:
    found = 0
    for host, _, _ in requests:
        if host is not None:
            found += 1
    return found
