"""What can be measured, by name."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spooky.bench.plan import Kind, Link, RequestPlan, SlowPlan

KIB: Final = 1024
MIB: Final = 1024 * 1024

ANSWER: Final = 16
"""Size of the response to an upload; bytes."""

UPLOAD: Final = MIB
"""Size of an upload; bytes."""


class Headline(StrEnum):
    """The figure that a scenario is about, as :class:`~spooky.bench.figures.Figures` names it."""

    REQUESTS = "requests_per_cpu_second"
    BYTES = "mb_per_cpu_second"
    THROUGHPUT = "mb_per_second"
    CONNECTIONS = "connections_per_cpu_second"
    MEMORY = "bytes_per_connection"
    REQUEST_RATE = "requests_per_second"
    CONNECTION_RATE = "connections_per_second"

    @property
    def unwatched(self) -> "Headline":
        """What stands for it where nobody sees the CPU time of the server."""
        return _UNWATCHED.get(self, self)


_UNWATCHED: Final = {
    Headline.REQUESTS: Headline.REQUEST_RATE,
    Headline.BYTES: Headline.THROUGHPUT,
    Headline.CONNECTIONS: Headline.CONNECTION_RATE,
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    Attributes:
        name: By which it is chosen.
        about: What it is, for people.
        headline: The figure it is about.
        connections: Open at once; for handshakes, being made at once.
        streams: Requests in flight on each.
        requests: What is requested.
        kind: What the load consists of.
        slow: Clients that read slowly beside these.
        link: What is between clients and proxy; ``None`` for the bare loopback.
    """

    name: str
    about: str
    headline: Headline
    connections: int
    streams: int
    requests: tuple[RequestPlan, ...] = ()
    kind: Kind = Kind.REQUESTS
    slow: SlowPlan | None = None
    link: Link | None = None

    @property
    def sizes(self) -> set[int]:
        """The sizes of the bodies that the backend has to serve; bytes."""
        paths = [request.path for request in self.requests]
        if self.slow is not None:
            paths.append(self.slow.path)
        return {int(path.removeprefix("/")) for path in paths}


def _get(size: int, weight: int = 1) -> RequestPlan:
    return RequestPlan(f"/{size}", weight=weight)


def _post(size: int, weight: int = 1) -> RequestPlan:
    return RequestPlan(f"/{ANSWER}", body_size=size, weight=weight)


# A proxy that takes from the backend what they have not read shows it in its memory: 105 MB.
SLOW: Final = SlowPlan(100, f"/{MIB}", bytes_per_second=16 * KIB, window=64 * KIB)

# As far as a server on the same continent, over a radio link on a bad day.
BAD_LINK: Final = Link(loss=0.01, delay_ms=10.0)


_ALL: Final = (
    Scenario("small", "GET of 1 KiB", Headline.REQUESTS, 10, 10, (_get(KIB),)),
    Scenario("medium", "GET of 64 KiB", Headline.BYTES, 10, 10, (_get(64 * KIB),)),
    Scenario("large", "GET of 10 MiB", Headline.BYTES, 4, 1, (_get(10 * MIB),)),
    Scenario("upload", "POST of 1 MiB", Headline.BYTES, 10, 2, (_post(UPLOAD),)),
    Scenario("handshakes", "full handshakes", Headline.CONNECTIONS, 20, 1, kind=Kind.HANDSHAKES),
    Scenario(
        "resumption",
        "handshakes that resume a session",
        Headline.CONNECTIONS,
        20,
        1,
        kind=Kind.RESUMPTION,
    ),
    # Its request is what a client could make, and never does.
    Scenario(
        "idle", "memory of idle connections", Headline.MEMORY, 1000, 1, (_get(KIB),), Kind.IDLE
    ),
    Scenario(
        "mixed",
        "of 20 requests 14 GETs of 1 KiB, 4 of 64 KiB, 1 of 1 MiB, and 1 POST of 64 KiB",
        Headline.REQUESTS,
        20,
        5,
        (_get(KIB, 14), _get(64 * KIB, 4), _get(MIB), _post(64 * KIB)),
    ),
    Scenario(
        "slow",
        "GET of 1 KiB while 100 clients read 1 MiB each at 16 KiB/s",
        Headline.REQUESTS,
        10,
        10,
        (_get(KIB),),
        slow=SLOW,
    ),
    Scenario(
        "loss",
        "GET of 64 KiB over a link that loses 1 % and takes 10 ms, each way",
        Headline.THROUGHPUT,
        10,
        10,
        (_get(64 * KIB),),
        link=BAD_LINK,
    ),
)

SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
"""By name, in the order of reports."""
