"""How traffic fares: what the workers counted, as far as a change may make it worse."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import add

from spooky._core.shared import BUCKET_VALUES, Segment
from spooky.observe.counters import READ_TRIES, NameReader, SlotName


def since(now: int, before: int) -> int:
    """Return what came since; what counted an upstream that was removed begins anew.

    Arguments:
        now: The count.
        before: What it was.
    """
    return now - before if now >= before else now


@dataclass(frozen=True, slots=True)
class UpstreamTraffic:
    """The requests of an upstream.

    Attributes:
        requests: How many ended with a response, or were to.
        failures: How many of them with a 5xx.
        latencies: How many responses began in the time of each of the histogram's buckets.
    """

    requests: int = 0
    failures: int = 0
    latencies: tuple[int, ...] = (0,) * BUCKET_VALUES

    def __add__(self, other: "UpstreamTraffic") -> "UpstreamTraffic":
        """Return both together."""
        return UpstreamTraffic(
            self.requests + other.requests,
            self.failures + other.failures,
            tuple(map(add, self.latencies, other.latencies)),
        )

    def __sub__(self, other: "UpstreamTraffic") -> "UpstreamTraffic":
        """Return what came since."""
        return UpstreamTraffic(
            since(self.requests, other.requests),
            since(self.failures, other.failures),
            tuple(map(since, self.latencies, other.latencies)),
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the start, or between two moments.

    Attributes:
        upstreams: By name; the empty one has requests that no route took.
        connections: Client connections taken.
        failed_handshakes: Those whose handshake did not complete.
        ready: Which share of an upstream's enabled backends can serve, by its name; as it is, not
            since.
    """

    upstreams: dict[str, UpstreamTraffic] = field(default_factory=dict)
    connections: int = 0
    failed_handshakes: int = 0
    ready: Mapping[str, float] = field(default_factory=dict)

    def __sub__(self, other: "Traffic") -> "Traffic":
        """Return what came since."""
        none = UpstreamTraffic()
        upstreams = {
            name: traffic - other.upstreams.get(name, none)
            for name, traffic in self.upstreams.items()
        }
        return Traffic(
            upstreams,
            since(self.connections, other.connections),
            since(self.failed_handshakes, other.failed_handshakes),
            self.ready,
        )


@dataclass(slots=True)
class _Places:
    """Where an upstream's counts are: workers and positions."""

    requests: list[tuple[int, int]] = field(default_factory=list)
    failures: list[tuple[int, int]] = field(default_factory=list)
    latencies: list[tuple[int, int]] = field(default_factory=list)


class TrafficReader:
    """Reads the counts; slots keep their places, so that names are read once.

    Arguments:
        segment: Where the workers count.
        ready: Gives which share of each upstream's backends can serve.
    """

    def __init__(self, segment: Segment, ready: Callable[[], Mapping[str, float]] = dict) -> None:
        self._segment = segment
        self._ready = ready
        self._names = NameReader(segment)
        self._upstreams: defaultdict[str, _Places] = defaultdict(_Places)
        self._connections: list[tuple[int, int]] = []
        self._failed_handshakes: list[tuple[int, int]] = []

    def read(self) -> Traffic:
        """Return the counts since the start."""
        for _ in range(READ_TRIES):
            traffic = self._read()
            if self._names.is_current(range(self._segment.slots)):
                break
        return traffic

    def _read(self) -> Traffic:
        for worker in range(self._segment.slots):
            slots, anew = self._names.added(worker)
            if anew:
                self._forget(worker)
            for name, position in slots:
                self._note(name, (worker, position))
        upstreams = {
            name: UpstreamTraffic(
                self._sum(places.requests),
                self._sum(places.failures),
                tuple(self._sum(places.latencies, bucket) for bucket in range(BUCKET_VALUES)),
            )
            for name, places in self._upstreams.items()
        }
        return Traffic(
            upstreams,
            self._sum(self._connections),
            self._sum(self._failed_handshakes),
            self._ready(),
        )

    def _forget(self, worker: int) -> None:
        for places in self._upstreams.values():
            for one in (places.requests, places.failures, places.latencies):
                one[:] = [place for place in one if place[0] != worker]
        for one in (self._connections, self._failed_handshakes):
            one[:] = [place for place in one if place[0] != worker]
        self._upstreams = defaultdict(
            _Places,
            {name: places for name, places in self._upstreams.items() if places != _Places()},
        )

    def _note(self, name: SlotName, place: tuple[int, int]) -> None:
        labels = dict(name.labels)
        match name.metric:
            case "requests_total":
                # "none": it was the client who went away.
                status = labels["status_class"]
                places = self._upstreams[labels["upstream"]]
                if status != "none":
                    places.requests.append(place)
                if status == "5xx":
                    places.failures.append(place)
            case "upstream_first_byte_seconds":
                self._upstreams[labels["upstream"]].latencies.append(place)
            case "connections_total":
                self._connections.append(place)
            case "handshakes_failed_total":
                self._failed_handshakes.append(place)

    def _sum(self, places: list[tuple[int, int]], offset: int = 0) -> int:
        load = self._segment.load
        return sum(load(worker, position + offset) for worker, position in places)
