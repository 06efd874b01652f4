"""What it costs to find the route of a request."""

from functools import partial
from typing import Final

from spooky._core.routes import RouteTable, Rule
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import CALLS, Lookup, lookups

PATHS_OF_A_HOST: Final = (b"/", b"/api", b"/api/v1/users", b"/api/v1/orders", b"/assets")

REQUESTED: Final = (
    b"/", b"/api/v2/search", b"/api/v1/users/4711", b"/api/v1/orders/5/items/1", b"/ab",
)  # fmt: skip
"""One request for each of these paths, a few segments below the prefix that matches."""


def _table(count: int) -> RouteTable:
    """Return a table of so many routes: a fifth as many hosts, every fourth a wildcard."""
    rules = []
    for number in range(count):
        host, path = divmod(number, len(PATHS_OF_A_HOST))
        name = b"%ssite-%d.example.com" % (b"*." if host % 4 == 0 else b"", host)
        method = b"POST" if path == 3 else None
        rules.append(Rule(f"route-{number}", name, PATHS_OF_A_HOST[path], method, number))
    return RouteTable(rules)


def _requests(count: int) -> list[Lookup]:
    """Return requests that reach hosts all over the table."""
    requests = []
    for number in range(CALLS):
        host = number * 7919 % (count // len(PATHS_OF_A_HOST))
        name = b"%ssite-%d.example.com" % (b"www." if host % 4 == 0 else b"", host)
        path = REQUESTED[number % len(REQUESTED)]
        requests.append((name, path, b"POST" if number % 3 == 0 else b"GET"))
    return requests


def _lookup(count: int) -> Work:
    return lookups(_table(count), _requests(count))


CASES: Final = tuple(
    Case(f"route lookup: {count:,} routes", partial(_lookup, count)) for count in (1_000, 10_000)
)
