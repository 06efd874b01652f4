"""What it costs to find the route of a request, compiled and as the twin does it."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY
from benchmarks.loops import CALLS, time_lookups
from spooky._core import routes as compiled
from spooky._core.pure import routes as pure

PATHS_OF_A_HOST = (b"/", b"/api", b"/api/v1/users", b"/api/v1/orders", b"/assets")
# One request for each of these paths, a few segments below the prefix that matches.
REQUESTED = (b"/", b"/api/v2/search", b"/api/v1/users/4711", b"/api/v1/orders/5/items/1", b"/ab")

SIDES = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


def table_of(kernel: ModuleType, count: int) -> pure.RouteTable:
    """Return a table of so many routes: a fifth as many hosts, every fourth a wildcard."""
    rules = []
    for number in range(count):
        host, path = divmod(number, len(PATHS_OF_A_HOST))
        name = b"%ssite-%d.example.com" % (b"*." if host % 4 == 0 else b"", host)
        method = b"POST" if path == 3 else None
        rules.append(pure.Rule(f"route-{number}", name, PATHS_OF_A_HOST[path], method, number))
    return kernel.RouteTable(rules)


def requests_for(count: int) -> list[tuple[bytes, bytes, bytes]]:
    """Return requests that reach hosts all over the table."""
    requests = []
    for number in range(CALLS):
        host = number * 7919 % (count // len(PATHS_OF_A_HOST))
        name = b"%ssite-%d.example.com" % (b"www." if host % 4 == 0 else b"", host)
        path = REQUESTED[number % len(REQUESTED)]
        requests.append((name, path, b"POST" if number % 3 == 0 else b"GET"))
    return requests


@SIDES
@pytest.mark.parametrize("count", [1_000, 10_000])
def test_lookup(benchmark: BenchmarkFixture, kernel: ModuleType, count: int) -> None:
    benchmark.group = f"route lookup: {count:,} routes"
    found = time_lookups(benchmark, table_of(kernel, count), requests_for(count))
    assert found == CALLS
