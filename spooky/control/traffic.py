"""How traffic fares: what the workers counted, as far as a change may make it worse."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from operator import add, sub
from typing import Final

from spooky._core.shared import BUCKET_VALUES, Segment
from spooky.observe.counters import READ_TRIES, NameReader, SlotName


@dataclass(frozen=True, slots=True)
class UpstreamTraffic:
    """The requests of an upstream.

    Attributes:
        requests: How many ended with a response, or were to.
        failures: How many of them with a 5xx.
        latencies: How many responses began in the time of each of the histogram's buckets.
        begun: Tells these counts from those of an upstream of the same name that was forgotten.
    """

    requests: int = 0
    failures: int = 0
    latencies: tuple[int, ...] = (0,) * BUCKET_VALUES
    begun: int = 0

    def __add__(self, other: "UpstreamTraffic") -> "UpstreamTraffic":
        """Return both together."""
        return UpstreamTraffic(
            self.requests + other.requests,
            self.failures + other.failures,
            tuple(map(add, self.latencies, other.latencies)),
        )

    def __sub__(self, other: "UpstreamTraffic") -> "UpstreamTraffic":
        """Return what came since."""
        if self.begun != other.begun:
            return self
        return UpstreamTraffic(
            self.requests - other.requests,
            self.failures - other.failures,
            tuple(map(sub, self.latencies, other.latencies)),
            self.begun,
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the start, or between two moments.

    Attributes:
        upstreams: By name; the empty one has requests that no route took.
        connections: Client connections taken.
        failed_handshakes: Those whose handshake did not complete.
        ready: Which share of an upstream's enabled backends can serve, by its name, 0 where none is
            enabled; as it is, not since.
    """

    upstreams: dict[str, UpstreamTraffic] = field(default_factory=dict)
    connections: int = 0
    failed_handshakes: int = 0
    ready: Mapping[str, float] = field(default_factory=dict)

    def __sub__(self, other: "Traffic") -> "Traffic":
        """Return what came since."""
        upstreams = {
            name: traffic - other.upstreams[name] if name in other.upstreams else traffic
            for name, traffic in self.upstreams.items()
        }
        return Traffic(
            upstreams,
            self.connections - other.connections,
            self.failed_handshakes - other.failed_handshakes,
            self.ready,
        )

    def without_readiness_of(self, upstreams: Set[str]) -> "Traffic":
        """Return the same, without which backends of some upstreams can serve."""
        ready = {name: share for name, share in self.ready.items() if name not in upstreams}
        return replace(self, ready=ready)


@dataclass(slots=True)
class _Sums:
    """What was counted of an upstream so far; it never falls.

    Attributes:
        begun: As of :class:`UpstreamTraffic`.
        places: How many places count it now.
    """

    begun: int
    requests: int = 0
    failures: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * BUCKET_VALUES)
    places: int = 0


class _Place:
    """One number, or histogram, of one worker.

    Attributes:
        metric: What it counts.
        upstream: Of which upstream; empty if of none.
        status: The class of the responses' status; empty if it does not matter.
        position: Where it is.
        last: What it was when it was read last.
    """

    __slots__ = ("last", "metric", "position", "status", "upstream")

    def __init__(self, name: SlotName, position: int) -> None:
        labels = dict(name.labels)
        self.metric = name.metric
        self.upstream = labels.get("upstream", "")
        self.status = labels.get("status_class", "")
        self.position = position
        self.last = [0] * (BUCKET_VALUES if self.metric == _LATENCIES else 1)


_REQUESTS: Final = "requests_total"
_LATENCIES: Final = "upstream_first_byte_seconds"
_OF_UPSTREAMS: Final = (_REQUESTS, _LATENCIES)
_OF_CLIENTS: Final = ("connections_total", "handshakes_failed_total")


class TrafficReader:
    """Reads the counts; slots keep their places, so that names are read once.

    What it returns never falls: of each place is added what came there since it was read last, so
    that one that is forgotten, as its backend was removed, takes nothing away.

    Arguments:
        segment: Where the workers count.
        ready: Gives which share of each upstream's backends can serve.
    """

    def __init__(self, segment: Segment, ready: Callable[[], Mapping[str, float]] = dict) -> None:
        self._segment = segment
        self._ready = ready
        self._names = NameReader(segment)
        self._places: dict[tuple[int, SlotName], _Place] = {}
        self._upstreams: dict[str, _Sums] = {}
        self._begun = 0
        self._clients = dict.fromkeys(_OF_CLIENTS, 0)

    def read(self) -> Traffic:
        """Return the counts since the start."""
        for _ in range(READ_TRIES):
            self._read_names()
            values = [self._load(worker, place) for (worker, _), place in self._places.items()]
            if self._names.is_current(range(self._segment.slots)):
                break
        for place, now in zip(self._places.values(), values, strict=True):
            self._take(place, now)
        upstreams = {
            name: UpstreamTraffic(sums.requests, sums.failures, tuple(sums.latencies), sums.begun)
            for name, sums in self._upstreams.items()
        }
        connections, failed = (self._clients[metric] for metric in _OF_CLIENTS)
        return Traffic(upstreams, connections, failed, self._ready())

    def _read_names(self) -> None:
        for worker in range(self._segment.slots):
            slots, anew = self._names.added(worker)
            found = [one for one in slots if one[0].metric in (*_OF_UPSTREAMS, *_OF_CLIENTS)]
            if anew:
                self._forget(worker, {name for name, _ in found})
            for name, position in found:
                self._note(worker, name, position)

    def _note(self, worker: int, name: SlotName, position: int) -> None:
        known = self._places.get((worker, name))
        if known is not None:
            known.position = position
            return
        place = self._places[worker, name] = _Place(name, position)
        if place.metric in _OF_UPSTREAMS:
            if place.upstream not in self._upstreams:
                self._begun += 1
                self._upstreams[place.upstream] = _Sums(self._begun)
            self._upstreams[place.upstream].places += 1

    def _forget(self, worker: int, kept: Set[SlotName]) -> None:
        """Let go of the places of a worker that have no name any more."""
        gone = [key for key in self._places if key[0] == worker and key[1] not in kept]
        for key in gone:
            place = self._places.pop(key)
            if place.metric in _OF_UPSTREAMS:
                sums = self._upstreams[place.upstream]
                sums.places -= 1
                if sums.places == 0:
                    del self._upstreams[place.upstream]

    def _take(self, place: _Place, now: list[int]) -> None:
        """Add what came since the last time; what was forgotten meanwhile began anew."""
        came = [new - old if new >= old else new for new, old in zip(now, place.last, strict=True)]
        place.last = now
        if place.metric in _OF_CLIENTS:
            self._clients[place.metric] += came[0]
            return
        sums = self._upstreams[place.upstream]
        if place.metric == _LATENCIES:
            sums.latencies[:] = map(add, sums.latencies, came)
        elif place.status != "none":
            # "none": it was the client who went away.
            sums.requests += came[0]
            if place.status == "5xx":
                sums.failures += came[0]

    def _load(self, worker: int, place: _Place) -> list[int]:
        load = self._segment.load
        return [load(worker, place.position + offset) for offset in range(len(place.last))]
