"""What can be measured, by name."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spooky.bench.plan import Kind, RequestPlan

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
    CONNECTIONS = "connections_per_cpu_second"
    MEMORY = "bytes_per_connection"
    THROUGHPUT = "mb_per_second"


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between clients and proxy, where it is not the loopback itself.

    Attributes:
        loss: Share of the datagrams that are lost, in both directions.
        delay: Time that each takes; seconds.
        rate: Bytes that a client can be sent in a second; 0 for any number.
    """

    loss: float = 0.0
    delay: float = 0.0
    rate: int = 0


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
        link: The way between clients and proxy; ``None`` for the loopback.
    """

    name: str
    about: str
    headline: Headline
    connections: int
    streams: int
    requests: tuple[RequestPlan, ...] = ()
    kind: Kind = Kind.REQUESTS
    link: Link | None = None

    @property
    def sizes(self) -> set[int]:
        """The sizes of the bodies that the backend has to serve; bytes."""
        return {int(request.path.removeprefix("/")) for request in self.requests}


def _get(size: int, weight: int = 1) -> RequestPlan:
    return RequestPlan(f"/{size}", weight=weight)


def _post(size: int, weight: int = 1) -> RequestPlan:
    return RequestPlan(f"/{ANSWER}", body_size=size, weight=weight)


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
    Scenario("idle", "memory of idle connections", Headline.MEMORY, 1000, 1, kind=Kind.IDLE),
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
        "GET of 64 KiB by clients on links of 1 Mbit/s and 100 ms",
        Headline.REQUESTS,
        100,
        1,
        (_get(64 * KIB),),
        link=Link(delay=0.05, rate=125_000),
    ),
    Scenario(
        "loss",
        "GET of 64 KiB over links that lose 2 % and take 20 ms",
        Headline.THROUGHPUT,
        20,
        2,
        (_get(64 * KIB),),
        link=Link(loss=0.02, delay=0.01),
    ),
)

SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
"""By name, in the order of reports."""
