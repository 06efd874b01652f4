"""Exchanges between clients and backends that do anything legal, in any order and at any time.

Every exchange ends exactly once and gives everything back: places at the gates, bytes held, timers,
callers that wait. And at any time as much is held as was not credited, and as many places are taken
as there are tries.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from spooky._core import admission, gate, reasons, service, terms
from spooky.request.exchange import Exchange
from tests.support.exchanges import FAILURES, REQUESTS, RESPONSES, Settings, World

KERNELS: Final = {"gate": gate, "admission": admission, "terms": terms, "service": service}
SETTINGS_BYTES: Final = 7
SIZES: Final = (0, 1, 5, 30)
SECONDS: Final = (0.0, 0.1, 1.0, 2.6)

T = TypeVar("T")
Step = tuple[Any, ...]


def pick(of: Sequence[T], value: int) -> T:
    """Return one of them."""
    return of[value % len(of)]


def settings(data: bytes) -> Settings:
    """Return what the first bytes of an input say is in force."""
    return Settings(
        limits=pick(((3, 2, 1), (1, 5, 5), (9, 9, 9)), data[0]),
        wait=pick((0.0, 1.5), data[1]),
        prebuffer=pick((0, 10), data[2]),
        total=pick((None, 5.0), data[3]),
        request=pick((None, 10), data[4]),
        response=pick((None, 20), data[5]),
        held=pick((1000, 3), data[6]),
    )


# By a step's first byte: what happens, from two numbers.
STEPS: Final[tuple[Callable[[int, int], Step], ...]] = (
    lambda who, what: ("open", who % len(REQUESTS), bool(what & 1)),
    lambda who, what: ("client", who, "data", pick(SIZES, what), bool(what & 4)),
    lambda who, what: ("client", who, "trailers", what & 1),
    lambda who, what: ("client", who, "reset", reasons.CLIENT_RESET),
    lambda who, what: ("client", who, "stopped"),
    lambda who, what: ("client", who, "writable"),
    lambda who, what: ("client", who, "accepts", bool(what & 1)),
    lambda who, what: ("backend", who, "head", what % (len(RESPONSES) + 1) - 1, bool(what & 16)),
    lambda who, what: ("backend", who, "data", pick(SIZES, what), bool(what & 4)),
    lambda who, what: ("backend", who, "trailers", what & 1),
    lambda who, what: ("backend", who, "reset", pick(FAILURES, what)),
    lambda who, what: ("backend", who, "stopped"),
    lambda who, what: ("backend", who, "writable"),
    lambda who, what: ("backend", who, "accepts", bool(what & 1)),
    lambda who, what: ("connect", who & 1, bool(what & 1)),
    lambda who, what: ("refuse", who & 1),
    lambda who, what: ("wait", pick(SECONDS, what)),
    lambda who, what: (
        "set", pick(("connects_at_once", "has_generation", "early"), who), bool(what & 1),
    ),
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    """Yield exchanges that go well, and some that do not."""
    plain = bytes(SETTINGS_BYTES)
    late_end = bytes((5, 0, 0))
    yield plain + bytes((0, 0, 1, 7, 0, 1, 8, 0, 2, 8, 0, 6))
    yield plain + bytes((0, 1, 0, 13, 0, 0, 1, 0, 2, 12, 0, 0, 1, 0, 6, 7, 0, 17))
    yield plain + bytes((0, 0, 1, 6, 0, 0, 7, 0, 1, 8, 0, 6)) + late_end
    yield plain + bytes((17, 0, 0, 0, 1, 0, 1, 0, 2, 15, 0, 0))
    yield plain + bytes((17, 0, 0, 0, 0, 1, 14, 0, 1, 10, 0, 1, 14, 0, 1, 7, 1, 17))
    yield bytes((1, 1, 0, 0, 0, 0, 0)) + bytes((0, 0, 1, 0, 0, 1, 7, 0, 17, 7, 1, 17))
    yield bytes((0, 0, 1, 1, 0, 1, 0)) + bytes((0, 0, 1, 7, 0, 1, 8, 0, 1, 8, 0, 6, 16, 0, 3))


def run(data: bytes) -> None:
    """Take the steps that an input chooses, and then have all clients leave."""
    if len(data) < SETTINGS_BYTES:
        return
    world = World(Exchange, KERNELS, settings(data))
    for at in range(SETTINGS_BYTES, len(data) - 2, 3):
        kind, who, what = data[at : at + 3]
        world.take(pick(STEPS, kind)(who & 7, what))
    world.end()
