"""What the load generator is told, and what it reports: lines of JSON."""

from enum import StrEnum
from typing import Final

import msgspec

UNFINISHED: Final = "unfinished"
"""The error of a request that was due in an open loop and had no answer when the run ended."""


class Kind(StrEnum):
    """What a load consists of."""

    REQUESTS = "requests"
    HANDSHAKES = "handshakes"
    RESUMPTION = "resumption"
    IDLE = "idle"


class RequestPlan(msgspec.Struct, frozen=True):
    """A request, and its share.

    Attributes:
        path: What is asked for.
        body_size: Of the body that is sent; 0 for a GET; bytes.
        weight: How many of it there are in a cycle.
    """

    path: str
    body_size: int = 0
    weight: int = 1


class SlowPlan(msgspec.Struct, frozen=True):
    """Clients that read slowly beside the others; only their failures are counted.

    Attributes:
        connections: How many, each with one request at a time.
        path: Of the large response that each reads.
        bytes_per_second: How fast each reads.
        window: What each lets the server have outstanding; bytes.
    """

    connections: int
    path: str
    bytes_per_second: int
    window: int


class Link(msgspec.Struct, frozen=True):
    """What a link does to datagrams, each way.

    Attributes:
        loss: Share of them that is lost.
        delay_ms: Time that each takes; milliseconds.
    """

    loss: float
    delay_ms: float


class LoadPlan(msgspec.Struct, frozen=True):
    """One turn of load.

    Attributes:
        host: IP address to send to.
        port: UDP port.
        server_name: For SNI.
        authority: Of the requests.
        kind: What the load consists of.
        connections: Open at once.
        streams: Requests in flight on each.
        requests: What is requested, in turn.
        seconds: How long it is measured.
        warmup: Load before that, which is not measured; seconds.
        rate: Requests begun in a second, all together (open loop); 0 for as many as are answered
            (closed loop).
        slow: Clients that read slowly meanwhile.
        watched: Processes whose CPU time and memory are reported, with their descendants.
        seed: Of the order of requests.
    """

    host: str
    port: int
    server_name: str
    authority: str
    kind: Kind
    connections: int
    streams: int
    requests: tuple[RequestPlan, ...]
    seconds: float
    warmup: float = 0.5
    rate: float = 0.0
    slow: SlowPlan | None = None
    watched: tuple[int, ...] = ()
    seed: int = 1


class LoadResult(msgspec.Struct, frozen=True):
    """What one turn of load measured.

    Attributes:
        seconds: How long was measured.
        requests: Complete responses of status 2xx that came while it was measured.
        bytes_received: Of response bodies.
        bytes_sent: Of request bodies.
        connections: Handshakes completed.
        resumed: How many of them resumed a session.
        connections_by_slot: How many connections each worker got, by the first byte of the
            connection ID that the server chose; meaningful where that byte is the worker's.
        errors: How many requests failed, by what was wrong.
        latencies: Microseconds and counts, as :meth:`Histogram.buckets` gives them; of handshakes
            where those are the load. In an open loop they are those of all requests that were due
            while it was measured, whenever the response came; an unfinished one has what it had
            waited.
        watched_cpu_seconds: CPU time of the watched processes.
        watched_peak_bytes: Their largest resident memory while measuring.
        watched_growth_bytes: By how much their memory grew for the idle connections.
        load_cpu_seconds: CPU time of the load generator itself.
    """

    seconds: float
    requests: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    connections: int = 0
    resumed: int = 0
    connections_by_slot: dict[int, int] = {}
    errors: dict[str, int] = {}
    latencies: list[tuple[int, int]] = []
    watched_cpu_seconds: float = 0.0
    watched_peak_bytes: int = 0
    watched_growth_bytes: int = 0
    load_cpu_seconds: float = 0.0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """What the load generator says meanwhile; it begins again at 0 as it begins to measure.

    Attributes:
        seconds: Since measuring began, or the load before that.
        done: Requests, or connections where those are the load.
        failed: How many of them failed; 0 where connections are the load.
    """

    seconds: float
    done: int
    failed: int = 0


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last line of the load generator."""

    result: LoadResult


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last line of a load generator that could not do its work.

    Attributes:
        message: What was wrong.
    """

    message: str
